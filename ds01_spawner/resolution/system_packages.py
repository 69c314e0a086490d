"""What apt says of system packages that cannot be had, or that do not go together."""

from __future__ import annotations

import re
from difflib import get_close_matches

from ds01_spawner.model import PackageProblem

from .asked import Check, is_version

_FIELD = "system_packages"
_NEAR = 0.7
_MOST_NAMED = 3

_MISSING = re.compile(
    r"E: (?:Unable to locate package (\S+)|Package '(\S+)' has no installation candidate)", re.MULTILINE
)
_NO_VERSION = re.compile(r"E: Version '(\S+)' for '(\S+)' was not found")
_AVAILABLE = re.compile(r" (\S+) \| +(\S+) \| ")
_NAMES = re.compile(r"ds01: system names (.*)$", re.MULTILINE)
_UNMET = re.compile(r" (\S+) : (Conflicts|Breaks|Depends|PreDepends): (\S+)")


def read(check: Check) -> PackageProblem | None:
    """Return what is wrong, None where that is not sure."""
    asked = {line.partition("=")[0]: line for line in check.spec.system_packages}
    readers = (_read_missing, _read_version, _read_unmet)
    found = next(filter(None, (reader(check, asked) for reader in readers)), None)
    if found is None:
        return None
    name, sentence = found
    return PackageProblem(field=_FIELD, package=asked[name], sentence=sentence)


def _read_missing(check: Check, asked: dict[str, str]) -> tuple[str, str] | None:
    name = next((m[1] or m[2] for m in _MISSING.finditer(check.text) if (m[1] or m[2]) in asked), None)
    if name is None:
        return None
    known = sorted(set(" ".join(_NAMES.findall(check.text)).split()) - {name})
    near = [other for other in get_close_matches(name, known, n=1, cutoff=_NEAR) if is_version(other)]
    hint = f"Did you mean {near[0]}?" if near else "Check how it is written."
    return name, f"There is no system package {name} for this image. {hint}"


def _read_version(check: Check, asked: dict[str, str]) -> tuple[str, str] | None:
    match = _NO_VERSION.search(check.text)
    if match is None or match[2] not in asked:
        return None
    name, wanted = match[2], asked[match[2]]
    there = [version for other, version in _AVAILABLE.findall(check.text) if other == name]
    named = [version for version in dict.fromkeys(there) if is_version(version)][:_MOST_NAMED]
    hint = f"There is {' or '.join(named)}; without" if named else "Without"
    return name, f"There is no {wanted} for this image. {hint} a version you get the newest."


def _read_unmet(check: Check, asked: dict[str, str]) -> tuple[str, str] | None:
    for match in _UNMET.finditer(check.text):
        name, relation, other = match.groups()
        if name in asked and is_version(other):
            why = "conflicts with" if relation in ("Conflicts", "Breaks") else "needs"
            return name, (
                f"The system package {name} cannot be installed here: it {why} {other}. Leave it out, or "
                "ask for another one."
            )
    return None
