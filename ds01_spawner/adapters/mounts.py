"""Directories of a person, opened as her and inside the roots that the admin allows.

dockerd resolves a bind source as root: a symlinked `~/workspace` would hand out what she cannot
read. So each source is opened with her own credentials first, and what it really is goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import MountRefused, SiteBroken
from ..model import Account, Mount, MountWish

_HELPER = Path(__file__).with_name("open_as.py")

_REASONS = {
    "missing": "does not exist. Create it, or choose another directory.",
    "not-made": "does not exist and could not be made for you. Choose another directory, or ask your admin.",
    "denied": "is not readable for you. Choose a directory of your own.",
    "readonly": "is not writable for you. Change its permissions, or choose another directory.",
    "not-a-directory": "is not a directory. Choose a directory.",
}


def expand(path: str, account: Account) -> str:
    """Return `path` with `~` and `{home}`, `{username}`, `{uid}` filled in.

    Raises:
        MountRefused: not an absolute path after that, or one with characters that no mount may have.
    """
    home = str(account.home)
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    for name, value in (("home", home), ("username", account.name), ("uid", str(account.uid))):
        path = path.replace("{" + name + "}", value)
    if not path.startswith("/") or _has_odd_characters(path):
        raise MountRefused(
            f"The directory {path[:80]!r} cannot be used. Give an absolute path, or one below ~/, "
            "without commas and control characters."
        )
    return path


def _has_odd_characters(path: str) -> bool:
    # A path becomes a label: `mlc list` crashes on a comma, and prints what a terminal obeys.
    return "," in path or not path.isprintable()


def open_mounts(account: Account, wishes: Sequence[MountWish], *, roots: Sequence[str]) -> tuple[Mount, ...]:
    """Open every wish with her credentials and return the mounts.

    Raises:
        MountRefused: she cannot have one of them; the sentence names it.
        SiteBroken: the Hub cannot act as her.
    """
    paths = [expand(wish.source, account) for wish in wishes]
    answers = _ask(account, paths, wishes)
    allowed = [_real(expand(root, account)) for root in roots]
    mounts = []
    for wish, path, answer in zip(wishes, paths, answers, strict=True):
        device, _, rest = answer.partition(" ")
        if device == "-":
            raise MountRefused(f"The directory {path} {_REASONS[rest]}", detail=f"{rest} as {account.uid}")
        inode, _, real = rest.partition(" ")
        if _has_odd_characters(real):
            raise MountRefused(
                f"The directory {path} leads to one with a comma or an odd character in its name, which "
                "cannot be used. Rename that one, or choose another directory.",
                detail=f"{path} is {real!r}",
            )
        if not any(PurePosixPath(real).is_relative_to(root) for root in allowed):
            raise MountRefused(
                f"The directory {path} lies outside of what may be mounted on this server. "
                "Choose one below your home, or ask your admin.",
                detail=f"{real} is in none of mount_roots {allowed}",
            )
        mounts.append(
            Mount(
                source=real,
                target=wish.target,
                device=int(device),
                inode=int(inode),
                read_only=wish.read_only,
            )
        )
    return tuple(mounts)


def _real(root: str) -> str:
    return str(Path(root).resolve())


def _ask(account: Account, paths: Sequence[str], wishes: Sequence[MountWish]) -> list[str]:
    """Return what the helper answers for each path, in its own words."""
    groups = " ".join(str(gid) for gid in (account.gid, *(gid for _, gid in account.groups)))
    order = [str(account.uid), str(account.gid), groups]
    for path, wish in zip(paths, wishes, strict=True):
        order += ["c" * wish.create + "w" * (not wish.read_only), path]
    command = [sys.executable, "-I", "-S", str(_HELPER)]
    written = b"".join(os.fsencode(field) + b"\0" for field in order)
    try:
        done = subprocess.run(command, input=written, capture_output=True, env={}, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SiteBroken(
            "Your directories do not answer on the server at the moment. Please tell your admin.",
            detail=f"opening {paths} as UID {account.uid}: {exc}",
        ) from exc
    if done.returncode != 0:
        said = done.stderr[-500:].decode(errors="replace")
        raise SiteBroken(
            "Your directories could not be opened on the server. Please tell your admin.",
            detail=f"the Hub must run as root to open files as UID {account.uid}: {said}",
        )
    *answers, _ = os.fsdecode(done.stdout).split("\0")
    return answers
