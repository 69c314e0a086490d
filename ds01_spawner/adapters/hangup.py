"""Hanging up on a process in a container, from outside, as a terminal does whose line breaks; Linux only.

It guarantees that only processes of that container are signalled, though numbers come again: each is held
while it is looked at. What ignores a hangup, as under `nohup`, runs on; but not the process itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldProcess:
    """A process that `fd` holds: whatever else gets the number `pid` later, signals go to this one."""

    pid: int
    fd: int

    def has_ended(self, *, within_seconds: float = 0) -> bool:
        """Whether it has ended, or does so within that time."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(within_seconds * 1000))

    def send(self, number: signal.Signals) -> None:
        """Signal it; gone already is fine."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)


@contextmanager
def hold(pid: int, container_id: str) -> Iterator[HeldProcess | None]:
    """Hold the process `pid` while the body runs; None unless it runs on this machine, in that container.

    Docker may be on another machine, or this process in a PID namespace with numbers of its own.
    """
    with _hold(pid) as process:
        is_it = process is not None and _is_inside(pid, container_id) and not process.has_ended()
        yield process if is_it else None


def hang_up(process: HeldProcess, *, grace_seconds: float) -> None:
    """Send SIGHUP to a process and all that is in the foreground of its session; SIGKILL to it after a grace.

    Raises:
        PermissionError: it is not ours to signal.
    """
    for pid in _list_foreground(process.pid):
        _signal_member(pid, process)
    process.send(signal.SIGHUP)
    # One that is stopped heeds nothing else.
    process.send(signal.SIGCONT)
    if not process.has_ended(within_seconds=grace_seconds):
        process.send(signal.SIGKILL)
        process.has_ended(within_seconds=grace_seconds)


@contextmanager
def _hold(pid: int) -> Iterator[HeldProcess | None]:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield HeldProcess(pid=pid, fd=fd)
    finally:
        os.close(fd)


def _is_inside(pid: int, container_id: str) -> bool:
    # Docker names the cgroup of a container after it, wherever that lies.
    try:
        return container_id in (_PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return False


def _signal_member(pid: int, leader: HeldProcess) -> None:
    with _hold(pid) as member:
        # The number of the session is not given anew while its leader is there.
        if member is not None and _read_groups(pid)[1] == leader.pid and not leader.has_ended():
            member.send(signal.SIGHUP)
            member.send(signal.SIGCONT)


def _list_foreground(leader: int) -> list[int]:
    """Return the processes of a session that are in the group of its leader, or of its terminal."""
    group, session, terminal_group = _read_groups(leader)
    if session != leader:
        return []
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    members = {pid: _read_groups(pid) for pid in pids if pid != leader}
    return [
        pid for pid, found in members.items() if found[1] == leader and found[0] in (group, terminal_group)
    ]


def _read_groups(pid: int) -> tuple[int, int, int]:
    """Return a process's group, session, and its terminal's foreground group: fields 5, 6 and 8 of its stat.

    (0, 0, 0) for one that is not there.
    """
    try:
        # The second field is the program's name in parentheses, with any bytes in it.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0, 0, 0
    return int(fields[2]), int(fields[3]), int(fields[5])
