"""From the log of a check that failed to what was wrong, if that can be said for sure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ds01_spawner.model import ImageSpec, PackageProblem

from . import python_packages, system_packages
from .asked import Check

if TYPE_CHECKING:
    from ds01_spawner.buildlog import BuildFailure

# With any other cause, such as a full disk, pip and apt say of what exists that it does not.
_MAY_BE_HERS = ("", "compilation", "conflict", "missing", "missing system package")
# Here the build may go better: the pip of the check is newer, or a mirror was half there.
_NOT_SURE = re.compile(
    r"has invalid metadata|has inconsistent|Failed to fetch|Some index files failed to download"
)
_INDEX = re.compile(r"ds01: index \S+ (\S+)$", re.MULTILINE)
_READERS = {"packages": python_packages.read, "system": system_packages.read}


def is_needed(spec: ImageSpec) -> bool:
    """Whether she asked for anything that can be checked."""
    return bool(spec.packages or spec.requirements or spec.system_packages)


def read(
    spec: ImageSpec, failure: BuildFailure, log: Sequence[str], *, python: Sequence[int] = ()
) -> PackageProblem | None:
    """Return what is wrong with what `spec` asks for, None where that cannot be said for sure.

    `failure` is why the check failed and `log` the end of what it printed; `python` is the version of the
    Python that the packages are for, () when it is not known.
    """
    text = "\n".join(log)
    if failure.layer not in _READERS or failure.cause not in _MAY_BE_HERS or _NOT_SURE.search(text):
        return None
    if any(status != "404" for status in _INDEX.findall(text)):
        return None
    return _READERS[failure.layer](Check(spec=spec, text=text, python=".".join(map(str, python[:2]))))
