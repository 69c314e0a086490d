"""The processes of a private Docker Engine: started apart from the terminal, found again, ended.

A process is told from another Docker's by its command line, which names the Engine's own folder. So
nothing is ever ended by a broad name, and a process is found even when no file remembers its id.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SHIM = "containerd-shim-runc-v2"
STOP_SECONDS = 40
GENTLY = (signal.SIGTERM, signal.SIGKILL)


def spawn(command: list[str], env: dict[str, str], log: Path) -> int:
    """Start a program in a session of its own, so that it outlives this process; return its id."""
    open_null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    open_log = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    actions = (open_null, open_log, (os.POSIX_SPAWN_DUP2, 1, 2))
    return os.posix_spawn(command[0], command, env, file_actions=actions, setsid=True)


def has_ended(child: int) -> bool:
    """Say whether a process that `spawn` started has ended.

    Not asked of /proc: right after the start a program's command line is still empty there.
    """
    return os.waitpid(child, os.WNOHANG) != (0, 0)


def find(program: str, mark: str = "") -> list[int]:
    """List the ids of the processes that run `program` with `mark` in one of their arguments."""
    return [
        pid
        for pid, command in _read_commands()
        if Path(command[0]).name == program and any(mark in word for word in command[1:] or [""])
    ]


def end(program: str, mark: str, *, by: Sequence[signal.Signals] = GENTLY) -> None:
    """Ask the processes that `find` names to end, and kill those that do not; `by` signals in this order."""
    for number in by:
        for pid in find(program, mark):
            if program == SHIM:
                # A shim that is left over has lost its Engine: its container ends with it.
                _signal(_list_children(pid), signal.SIGKILL)
            _signal([pid], number)
        deadline = time.monotonic() + STOP_SECONDS
        while find(program, mark) and time.monotonic() < deadline:
            time.sleep(0.1)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _list_children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _read_commands() -> Iterator[tuple[int, list[str]]]:
    """Yield (id, command line) of every process but zombies and the kernel's own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text(errors="replace").rstrip("\0")
            except OSError:
                continue
            if command:
                yield int(entry.name), command.split("\0")
