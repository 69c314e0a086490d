"""Where a cgroup lies that the steps of builds run below, with whatever limits the admin gave it."""

from __future__ import annotations

import re
from pathlib import Path

# Of cgroup v2, and of the controller of v1 in which memory is limited.
_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))
_SLICE = re.compile(r"[A-Za-z0-9_.:]+(?:-[A-Za-z0-9_.:]+)*\.slice", re.ASCII)
_PATH = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9_.:-]+)+", re.ASCII)


def find_cgroup(name: str) -> str:
    """Return the path of a cgroup that is there, for BuildKit; `name` is a systemd slice or such a path.

    `ds01-build.slice` gives `/ds01.slice/ds01-build.slice`: BuildKit starts runc without runc's knowledge of
    systemd, also where dockerd itself works with systemd. https://github.com/docker/buildx/issues/2903

    Raises:
        ValueError: it is neither, or it is not there, and a build would run in one without limits.
    """
    path = name
    if _SLICE.fullmatch(name):
        parts = name.removesuffix(".slice").split("-")
        path = "".join(f"/{'-'.join(parts[:end])}.slice" for end in range(1, len(parts) + 1))
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"{name[:80]!r} is neither a slice nor the path of a cgroup")
    if not any((root / path[1:]).is_dir() for root in _ROOTS):
        raise ValueError(
            f"this machine has no cgroup {path}; start what makes it, as in: systemctl enable --now {name}"
        )
    return path
