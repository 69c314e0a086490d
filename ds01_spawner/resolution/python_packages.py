"""What pip says of Python packages that cannot be had, or that do not go together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from ds01_spawner.model import PackageProblem

from .asked import Asked, Check, is_name, is_requirement, is_version, join, name_of, strip_marker

# What is installed by another name than it is imported or spoken of.
_MEANT: Mapping[str, str] = MappingProxyType(
    {
        "cv2": "opencv-python-headless",
        "dotenv": "python-dotenv",
        "faiss": "faiss-cpu",
        "fitz": "pymupdf",
        "pil": "pillow",
        "pytorch": "torch",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
    }
)
_OFTEN_ASKED = (
    *("accelerate", "datasets", "diffusers", "einops", "gradio", "gymnasium", "h5py", "jax", "keras"),
    *("lightgbm", "lightning", "matplotlib", "networkx", "nltk", "numba", "numpy", "openai", "opencv-python"),
    *("optuna", "pandas", "peft", "plotly", "polars", "pyarrow", "pydantic", "requests", "scikit-learn"),
    *("scipy", "seaborn", "spacy", "statsmodels", "streamlit", "sympy", "tensorboard", "tensorflow", "timm"),
    *("tokenizers", "torch", "torchaudio", "torchvision", "tqdm", "transformers", "wandb", "xgboost"),
)
_MOST_NAMED = 3
_NEAR = 0.8
_KERNEL = "ipykernel"

_BROKEN = re.compile(r"ds01: broken (\{.*\})$", re.MULTILINE)
_NOT_IN_INDEX = re.compile(r"ds01: index (\S+) 404$", re.MULTILINE)
_MISSING = re.compile(
    r"Could not find a version that satisfies the requirement (\S.*?)"
    r"(?: \(from (.*?)\))? \(from versions: ([^)]*)\)"
)
_OTHER_PYTHON = re.compile(r"versions that require a different python version: (.*)$", re.MULTILINE)
_REQUIRES_PYTHON = re.compile(r"(\S+) Requires-Python ([<>=!~0-9.,* ]+)")
_CONFLICT = re.compile(r"Cannot install (.*) because these package versions have conflict")
_LINE = re.compile(r"-r /run/ds01/(packages|requirements)\.txt \(line (\d{1,6})\)")
_REQUESTED = re.compile(r"The user requested (?!\(constraint\))(\S.*)$", re.MULTILINE)
_CONSTRAINED = re.compile(r"The user requested \(constraint\) (\S.*)$", re.MULTILINE)
_DEPENDS = re.compile(r" (\S+) (\S+) depends on (\S.*)$", re.MULTILINE)
_NOT_COMPILED = re.compile(r"Failed to build '([\w.-]+)'|╰─> ([\w.-]+)$", re.MULTILINE)


def read(check: Check) -> PackageProblem | None:
    """Return what is wrong, None where that is not sure."""
    readers = (_read_broken, _read_conflict, _read_missing, _read_misnamed)
    return next(filter(None, (reader(check) for reader in readers)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken:
    """Something in the image that would get a version of what it needs that it cannot work with."""

    name: str
    version: str
    needs: str
    gets: str
    asked: str


def _read_broken(check: Check) -> PackageProblem | None:
    """What would break in the image: pip installs it all the same, and only warns."""
    broken = [entry for text in _BROKEN.findall(check.text) for entry in _parse_broken(text)]
    first = next((entry for entry in broken if check.find(entry.asked)), None)
    asked = check.find(first.asked) if first else None
    if first is None or asked is None:
        return None
    others = list(dict.fromkeys(entry.name for entry in broken if entry.asked == first.asked))
    needed = name_of(first.needs)
    brings = f"you ask for {asked.line}"
    if name_of(asked.line) != needed:
        brings = f"{asked.line} brings {needed} {first.gets}"
    named = join(others[:_MOST_NAMED]) if len(others) <= _MOST_NAMED else ", ".join(others)
    sentence = (
        f"{first.name} {first.version} of this image needs {first.needs}, but {brings}. Ask for another "
        f"version, or add {named} to your packages, so that versions are found that go together."
    )
    return PackageProblem(field=asked.field, package=asked.line, sentence=sentence, is_buildable=True)


def _parse_broken(text: str) -> Iterator[_Broken]:
    try:
        fields = json.loads(text)
        entry = _Broken(**{key: str(value) for key, value in fields.items()})
    except (ValueError, TypeError, AttributeError):
        return
    needs = strip_marker(entry.needs)
    if is_name(entry.name) and is_version(entry.version) and is_version(entry.gets) and is_requirement(needs):
        yield _Broken(name=entry.name, version=entry.version, needs=needs, gets=entry.gets, asked=entry.asked)


def _read_conflict(check: Check) -> PackageProblem | None:
    match = _CONFLICT.search(check.text)
    if match is None:
        return None
    hers = list(dict.fromkeys([*_find_all(check, match[1]), *_find_requested(check)]))
    if not hers:
        return None
    # pip lists what each version needs, from the newest to the oldest: the last one asks for least.
    needs = {
        name: (f"{name} {version}", needed.replace(" and ", ","))
        for name, version, needed in map(re.Match.groups, _DEPENDS.finditer(check.text))
        if is_name(name) and is_version(version) and is_requirement(needed)
    }
    if _KERNEL in needs or "kernel.txt" in match[1]:
        needed = f" ({needs[_KERNEL][1]})" if _KERNEL in needs else ""
        why = f"conflicts with what the notebook kernel needs{needed}"
        sentence = f"{hers[0].line} {why}. Ask for another version, or leave it out."
    elif len(hers) > 1:
        reasons = [f"{who} needs {needed}" for who, needed in needs.values()]
        why = f": {join(reasons[:2])}" if reasons else ""
        both = join([asked.line for asked in hers[:_MOST_NAMED]])
        sentence = f"{both} conflict{why}. Ask for other versions, or leave one out."
    else:
        reasons = [f"{who}, which needs {needed}" for who, needed in needs.values()]
        bound = [strip_marker(text) for text in _CONSTRAINED.findall(check.text)]
        reasons += [f"{text}, which this image insists on" for text in bound if is_requirement(text)]
        why = f"conflicts with {reasons[-1] if reasons else 'another package'}"
        sentence = f"{hers[0].line} {why}. Ask for another version, or leave it out."
    return PackageProblem(field=hers[0].field, package=hers[0].line, sentence=sentence)


def _find_all(check: Check, subject: str) -> Iterator[Asked]:
    """Yield what of hers pip names, by its name or by its line in a list."""
    for part in re.split(r", | and ", subject):
        line = _LINE.fullmatch(part)
        asked = check.find_line(line[1], int(line[2])) if line else check.find(part)
        if asked is not None:
            yield asked


def _find_requested(check: Check) -> Iterator[Asked]:
    for requirement in _REQUESTED.findall(check.text):
        asked = check.find(requirement)
        if asked is not None:
            yield asked


def _read_missing(check: Check) -> PackageProblem | None:
    match = _MISSING.search(check.text)
    if match is None:
        return None
    wanted, versions = strip_marker(match[1]), match[3].split(", ")
    parents = [part for part in (match[2] or "").split("->") if part and not part.startswith("-r ")]
    if parents:
        return _explain_dependency(check, wanted, parents)
    asked = check.find(wanted)
    if asked is None:
        return None
    name = name_of(wanted)
    if versions == ["none"] and name in map(name_of, _NOT_IN_INDEX.findall(check.text)):
        sentence = f"There is no package {name}. {_suggest(check, name)}"
    else:
        sentence = _explain_version(check, asked.line, versions)
    return PackageProblem(field=asked.field, package=asked.line, sentence=sentence)


def _explain_dependency(check: Check, wanted: str, parents: list[str]) -> PackageProblem | None:
    """Say what her package needs that is not there; pip may leave out how it came to that."""
    parent = strip_marker(parents[0])
    hers = list(check.lines())
    asked = check.find(parents[-1]) or (hers[0] if len(hers) == 1 else None)
    if asked is None or not is_requirement(parent) or not is_requirement(wanted):
        return None
    who = asked.line if name_of(asked.line) == name_of(parent) else f"{parent}, which {asked.line} brings,"
    sentence = (
        f"{who} needs {wanted}, and there is none for {check.python_name}. Ask for another version of "
        f"{name_of(asked.line)}, or choose another version of the framework."
    )
    return PackageProblem(field=asked.field, package=asked.line, sentence=sentence)


def _explain_version(check: Check, line: str, versions: list[str]) -> str:
    newest = _newest(versions)
    there = f"the newest are {join(newest)}" if len(newest) > 1 else f"there is {''.join(newest)}"
    needed = _python_for(check, line)
    if needed:
        hint = f" ({there})" if newest else ""
        return (
            f"{line} needs Python {needed}, and this image has {check.python_name}. Ask for another "
            f"version{hint}, or choose another version of the framework."
        )
    if newest:
        return f"There is no {line} for {check.python_name}; {there}."
    return (
        f"{name_of(line)} has no version for {check.python_name}. Leave it out, or choose another version "
        "of the framework."
    )


def _python_for(check: Check, line: str) -> str:
    """Return which Python the newest version that she asked for needs, "" if that is not why."""
    match = _OTHER_PYTHON.search(check.text)
    try:
        wanted = Requirement(line).specifier
        found = _REQUIRES_PYTHON.findall(match[1]) if match else []
        fitting = [needed for version, needed in found if wanted.contains(version, prereleases=True)]
    except (InvalidRequirement, InvalidVersion):
        return ""
    return str(fitting[-1]).strip() if fitting else ""


def _newest(versions: list[str]) -> list[str]:
    """Return the newest versions, the newest first; those before a release only where there is no other."""
    found = []
    for text in versions:
        try:
            found.append(Version(text))
        except InvalidVersion:
            continue
    finished = [version for version in found if not version.is_prerelease]
    return [str(version) for version in sorted(finished or found, reverse=True)[:_MOST_NAMED]]


def _read_misnamed(check: Check) -> PackageProblem | None:
    """A package that only tells that it is not the one that is meant."""
    for match in _NOT_COMPILED.finditer(check.text):
        name = name_of(match[1] or match[2])
        asked = check.find(name)
        if asked is not None and name in _MEANT:
            sentence = f"{name} cannot be installed. {_suggest(check, name)}"
            return PackageProblem(field=asked.field, package=asked.line, sentence=sentence)
    return None


def _suggest(check: Check, name: str) -> str:
    meant = _MEANT.get(name, "")
    known = {*_OFTEN_ASKED, *map(name_of, (*check.spec.base_packages, *check.spec.use_case_packages))}
    near = [meant] if meant else get_close_matches(name, sorted(known), n=1, cutoff=_NEAR)
    return f"Did you mean {near[0]}?" if near else "Check how it is written."
