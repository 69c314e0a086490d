"""Directories of a person, opened as her and inside the roots that the admin allows.

dockerd resolves a bind source as root: a symlinked `~/workspace` would hand out what she cannot
read. So each source is opened with her own credentials first, and what it really is goes on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from ..errors import MountRefused, SiteBroken
from ..model import Account, Mount, MountWish

_PROGRAM = Path(__file__).with_name("open_as.py")
_ANSWER_SECONDS = 30

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
    try:
        answer = os.fsdecode(_helper.ask(b"".join(os.fsencode(part) + b"\0" for part in order)))
    except OSError as exc:
        raise SiteBroken(
            "Your directories do not answer on the server at the moment. Please tell your admin.",
            detail=f"opening {paths} as UID {account.uid}: {exc}",
        ) from exc
    *answers, rest = answer.split("\0")
    if rest or len(answers) != len(paths):
        raise SiteBroken(
            "Your directories could not be opened on the server. Please tell your admin.",
            detail=f"the Hub must run as root to open files as UID {account.uid}: {answer or 'no answer'}",
        )
    return answers


class _Helper:
    """The process that opens as other people for this one; started when it is needed and not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started_by = 0

    def ask(self, order: bytes) -> bytes:
        """Return the answer, b"" if there is none; raises OSError when it does not come in time."""
        # Once more, by another one: the helper may have been killed, or be just ending.
        return self._ask(order) or self._ask(order, anew=True)

    def _ask(self, order: bytes, *, anew: bool = False) -> bytes:
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(_ANSWER_SECONDS)
            with theirs, suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._find(anew=anew), [order], [theirs.fileno()])
            return b"".join(iter(partial(ours.recv, 65536), b""))

    def _find(self, *, anew: bool) -> socket.socket:
        """Return where the helper takes orders."""
        with self._lock:
            is_there = self._process is not None and self._process.poll() is None
            # A fork of the process that started it shares the socket, and has no business there.
            if anew or self._orders is None or not is_there or self._started_by != os.getpid():
                self._orders = self._start()
                self._started_by = os.getpid()
            return self._orders

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={},
                # Ctrl-C is for the Hub; this ends when the Hub's end of the socket is closed.
                start_new_session=True,
            )
        return ours


_helper = _Helper()
