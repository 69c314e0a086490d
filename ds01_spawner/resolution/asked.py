"""What was asked for, as a check reads it: which field a package stands in, and how it is written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from ds01_spawner.model import ImageSpec

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:!_-]{0,60}", re.ASCII)
_NEEDED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._<>=!~+,*\[\] -]{0,120}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One package that she asked for; `line` is how it is written in `field`, without its marker."""

    field: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check that failed: of what, the end of its log, and the version of its Python, "" if unknown."""

    spec: ImageSpec
    text: str
    python: str = ""

    @property
    def python_name(self) -> str:
        """Its Python, for a sentence."""
        return f"Python {self.python}" if self.python else "the Python of this image"

    def lines(self) -> Iterator[Asked]:
        """Yield the Python packages that she asked for."""
        for field, lines in (("packages", self.spec.packages), ("requirements", self.spec.requirements)):
            for line in lines:
                yield Asked(field=field, line=strip_marker(line))

    def find(self, requirement: str) -> Asked | None:
        """Return the line that says `requirement`, or else the first one with the same name."""
        wanted = strip_marker(requirement)
        same = [asked for asked in self.lines() if name_of(asked.line) == name_of(wanted)]
        return next((asked for asked in same if asked.line == wanted), same[0] if same else None)

    def find_line(self, field: str, number: int) -> Asked | None:
        """Return what stands in a line of a list, counted from 1."""
        lines = [asked for asked in self.lines() if asked.field == field]
        return lines[number - 1] if 0 < number <= len(lines) else None


def strip_marker(requirement: str) -> str:
    """Return a requirement without its marker, which says nothing to a person."""
    return requirement.partition(";")[0].strip()


def name_of(requirement: str) -> str:
    """Return the name in a requirement as all tools write it, "" if there is none."""
    match = _NAME.match(requirement)
    return canonicalize_name(match[0]) if match else ""


def is_name(text: str) -> bool:
    """Whether `text` is the name of a package, and no more."""
    return _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether `text` is a version, and no more."""
    return _VERSION.fullmatch(text) is not None


def is_requirement(text: str) -> bool:
    """Whether `text` is a name with versions, and no more."""
    return _NEEDED.fullmatch(text) is not None


def join(words: list[str]) -> str:
    """Return words as a list in a sentence."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
