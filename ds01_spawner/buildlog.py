"""What a build says of itself: its steps while it runs, and the reason when it failed.

Reads the plain progress of BuildKit, of Docker 20.10 and of buildx alike. A layer is known by the word
that the template puts behind `layer=`, so nothing here depends on what a step's command looks like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "": "Preparing the image",
        "base-image": "Starting from the base image",
        "runtime": "Copying Python into the image",
        "hub": "Installing the notebook server",
        "base-system": "Installing base system packages",
        "base": "Installing base packages",
        "use-case": "Installing the packages of the use case",
        "system": "Installing your system packages",
        "packages": "Installing your packages",
        "requirements": "Installing your requirements file",
    }
)
KERNEL_BROKEN = "ds01: the kernel does not start"

_HEADER = re.compile(r"#(\d+) \[(?:[\w.-]+ +)?(\d+)/(\d+)\] (.*)")
_STATE = re.compile(r"#(\d+) (CACHED|DONE|ERROR|CANCELED)\b.*")
_FAILED = re.compile(r" *> \[(?:[\w.-]+ +)?\d+/\d+\] (.*)")
_LAYER = re.compile(r": layer=([a-z-]+) ")
_PREFIX = re.compile(r"^(?:#\d+ )?(?:\d+\.\d+ )?")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
# What ipykernel brings along: pip names the package that it met first.
_KERNEL_FAMILY = re.compile(r"\b(?:ipykernel|ipython|jupyter[-_]client|jupyter[-_]core)\b")
# What stands around a failure: rules, and lines of the Dockerfile. Before a step's output is a number.
_FRAME = re.compile(r"-{6,20}$|Dockerfile:\d+$| *\d+ \| (?:>>> |    )")
# pip and apt try once more after these; what came of that stands further down.
_TRIES_ON = re.compile(
    r"WARNING: (?:Retrying \(Retry\(total=[1-9]|Connection interrupted|Attempting to resume)|^Ign:\d+ "
)
_KILLED = re.compile(r"(?:did not complete successfully|executor failed running .*): exit code: 137$")
_KILLED_LINE = "Killed (exit code 137)"
_STATES = {"CACHED": "cached", "DONE": "done", "ERROR": "failed", "CANCELED": "failed"}
_SHOWN_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """One step of a build; `state` is started, cached, done or failed; `str()` is for a person."""

    number: int
    total: int
    layer: str
    state: str = "started"

    def __str__(self) -> str:
        return f"[{self.number}/{self.total}] {LAYERS.get(self.layer, LAYERS[''])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailure:
    """Why a build failed: the layer, a sentence with what to do, and the lines of the log that matter.

    `cause` is one of the words in `_CAUSES`, "" when it is not known.
    """

    layer: str
    sentence: str
    lines: tuple[str, ...]
    cause: str = ""


class ProgressReader:
    """Turns the lines of one build into steps, each state of a step once."""

    def __init__(self) -> None:
        self._steps: dict[str, BuildStep] = {}

    @property
    def layers(self) -> tuple[BuildStep, ...]:
        """The steps so far that make a layer of ours, each as it is now."""
        return tuple(step for step in self._steps.values() if step.layer not in ("", "base-image"))

    def read(self, line: str) -> BuildStep | None:
        """Return the step that `line` starts or ends, None for any other line."""
        header = _HEADER.fullmatch(line.rstrip())
        if header is not None and header[1] not in self._steps:
            step = BuildStep(number=int(header[2]), total=int(header[3]), layer=_name_layer(header[4]))
            self._steps[header[1]] = step
            return step
        state = _STATE.fullmatch(line.rstrip())
        if state is None or state[1] not in self._steps:
            return None
        before = self._steps[state[1]]
        after = replace(before, state=_STATES[state[2]])
        self._steps[state[1]] = after
        return after if before.state == "started" else None


def describe_duration(seconds: float) -> str:
    """Return a duration as a person says it, e.g. `42 s` or `3 min`."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def sum_up(seconds: float, *, steps: int, reused: int) -> str:
    """Return what a build was, once it is through: how long it took, and how much was there before."""
    took = f"Your image is built; that took {describe_duration(seconds)}."
    if not reused:
        return took
    return f"{took} {reused} of its {steps} steps had been built before."


def explain_failure(log: Sequence[str]) -> BuildFailure:
    """Return the layer at which a build failed, why, and the few lines that say so.

    `log` is the end of what the build printed, BuildKit's own summary included.
    """
    lines = [read_output(line) for line in log if not _FRAME.match(line)]
    layer = next((_name_layer(m[1]) for m in map(_FAILED.fullmatch, reversed(lines)) if m), "")
    said = (line for line in lines if line.strip() and "layer=" not in line)
    output = list(dict.fromkeys(line for line in said if not _TRIES_ON.search(line)))
    if any(map(_KILLED.search, lines)):
        output.append(_KILLED_LINE)
    text = "\n".join(output)
    for cause, pattern, explain in _CAUSES:
        match = re.search(pattern, text, flags=re.MULTILINE)
        if match is not None:
            shown = _lines_around(text, match)
            return BuildFailure(layer=layer, sentence=explain(match, text), lines=shown, cause=cause)
    errors = [line for line in output if re.search(r"\berror\b|^E: ", line, flags=re.IGNORECASE)]
    sentence = "This step failed. Read the log, change what you asked for, and start again."
    return BuildFailure(layer=layer, sentence=sentence, lines=tuple((errors or output)[-_SHOWN_LINES:]))


def waits_for_network(log: Sequence[str]) -> bool:
    """Whether the last that a build printed is that a server did not answer, or not to the end."""
    output = [line for line in map(read_output, log) if line.strip()]
    trouble = rf"{_TRIES_ON.pattern}|^Err:\d+ |{_NETWORK}"
    return bool(output) and re.search(trouble, output[-1]) is not None


def read_output(line: str) -> str:
    """Return what a step printed, without what BuildKit puts before it."""
    return _ESCAPE.sub("", _PREFIX.sub("", line)).rstrip()


def _name_layer(command: str) -> str:
    """Return the layer of a step from its instruction, "" for one that is not ours."""
    match = _LAYER.search(command)
    if match is not None:
        return match[1]
    if command.startswith("FROM"):
        return "base-image"
    return "runtime" if command.startswith("COPY --from") else ""


def _lines_around(text: str, match: re.Match[str]) -> tuple[str, ...]:
    start = text.rfind("\n", 0, match.start()) + 1
    return tuple(text[start:].splitlines()[:_SHOWN_LINES])


def _explain_conflict(match: re.Match[str], text: str) -> str:
    cause = text[match.end() :].split("To fix this", 1)[0]
    asked = dict.fromkeys(re.findall(r"The user requested (?:\(constraint\) )?(\S.*?)$", cause, flags=re.M))
    hers = [name for name in asked if not name.startswith("ipykernel")]
    names = " and ".join(hers) or "What you asked for"
    verb = "conflict" if len(hers) > 1 else "conflicts"
    if _KERNEL_FAMILY.search(match[0] + cause):
        return (
            f"{names} {verb} with what the notebook kernel needs. Ask for another version, or leave it out."
        )
    return f"{names} {verb} with another package. Leave one out, or ask for other versions."


def _explain_missing(match: re.Match[str], _text: str) -> str:
    return (
        f"There is no package {match[1].strip()} for the Python of this image. Check its name and version, "
        "or choose another version of the framework."
    )


def _explain_missing_system(match: re.Match[str], _text: str) -> str:
    name = next(filter(None, match.groups()))
    return f"There is no system package {name} in this image's sources. Check its name."


def _explain_compile(match: re.Match[str], _text: str) -> str:
    return (
        f"{match[1].strip(' :,')} could not be compiled in this image. Ask for a version that has a ready "
        "wheel, or add the system packages that it needs."
    )


def _explain_certificate(_match: re.Match[str], _text: str) -> str:
    return "The package index showed a certificate that the build does not trust. Ask your admin (ca_bundle)."


def _explain_network(_match: re.Match[str], _text: str) -> str:
    return "The network failed while packages were fetched. Start again; if it stays so, tell your admin."


def _explain_disk(_match: re.Match[str], _text: str) -> str:
    return "The disk of the server is full. Tell your admin, or ask for fewer packages."


def _explain_kernel(_match: re.Match[str], _text: str) -> str:
    return "With these packages the notebook kernel does not start. Leave out or unpin the newest of them."


def _explain_base(_match: re.Match[str], _text: str) -> str:
    return "The base image is not here and could not be fetched. Choose another, or tell your admin."


def _explain_memory(_match: re.Match[str], _text: str) -> str:
    return (
        "This step was killed, as happens when memory runs out. Start again; if it stays so, ask for fewer "
        "packages, or tell your admin."
    )


_NETWORK = (
    r"Temporary failure (?:in name resolution|resolving)|Failed to resolve '|Could not resolve|"
    r"Could not connect to|Unable to connect to|Failed to establish a new connection|"
    r"Connection (?:failed|refused|timed out|reset by peer)|Network is unreachable|No route to host|"
    r"Retry\(total=0,|Max retries exceeded with url|Read timed out|HTTP error 5\d\d while getting|"
    r"^pip\._vendor\.(?:requests|urllib3)\.exceptions\.\w+: |"
    r"^error: (?:connection-failed|connection-timeout|incomplete-download|proxy-connection-failed)$|"
    r"^E: Failed to fetch "
)
# In this order: a full disk or a dead network also makes pip say that there is no such package, and
# a network that came back leaves its warnings in front of a conflict.
_CAUSES = (
    (
        "memory",
        rf"{re.escape(_KILLED_LINE)}|Killed signal terminated program|^MemoryError\b|Cannot allocate memory",
        _explain_memory,
    ),
    ("conflict", r"Cannot install .* because these package versions have conflict\w*.*", _explain_conflict),
    ("disk", r"[Nn]o space left on device|E: You don't have enough free space", _explain_disk),
    ("certificate", r"CERTIFICATE_VERIFY_FAILED|certificate verif\w+ failed", _explain_certificate),
    ("network", _NETWORK, _explain_network),
    ("missing", r"No matching distribution found for (.+)", _explain_missing),
    (
        "missing system package",
        r"E: Unable to locate package (\S+)|E: Version \S+ for '(\S+)' was not found|"
        r"E: Package '(\S+)' has no installation candidate",
        _explain_missing_system,
    ),
    ("compilation", r"(?:Failed building wheel for|Failed to build(?! installable)) (\S+)", _explain_compile),
    ("kernel", re.escape(KERNEL_BROKEN), _explain_kernel),
    ("base", r"failed to resolve source metadata|pull access denied|manifest unknown", _explain_base),
)
