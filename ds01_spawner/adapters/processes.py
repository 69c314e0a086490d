"""Which process does something, whether it still runs, and how one ends with the other; Linux only.

Guarantees: a name is never that of a later process, though its number may come again, on this or on a
rebooted machine; and a process is called dead only when that is certain. Who judges must see the same
processes as who is judged: a Hub in a container has numbers of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_OWNER = re.compile(r"([0-9a-f-]{36}):([0-9]+):([1-9][0-9]*):([0-9]+)", re.ASCII)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_ENDED = (b"Z", b"X")  # zombie, dead


def own_process() -> str:
    """Return the name of this process, `BOOT_ID:PID_NAMESPACE:PID:STARTTIME`, for the ledger."""
    pid = os.getpid()
    return f"{_read_boot_id()}:{_read_namespace()}:{pid}:{_read_stat(pid)[1]}"


def is_alive(owner: str) -> bool:
    """Whether the process of that name runs; a zombie does not.

    What nobody can judge is alive: "", text that is no such name, and a process of another PID namespace
    on a machine that was not restarted since.
    """
    match = _OWNER.fullmatch(owner)
    if match is None:
        return True
    boot_id, namespace, pid, started = match[1], match[2], int(match[3]), match[4]
    if boot_id != _read_boot_id():
        return False
    if namespace != _read_namespace():
        return True
    try:
        state, now_started = _read_stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return _is_hidden(pid)
    return state not in _ENDED and now_started == started


def end_with_parent(parent: str = "") -> bool:
    """Have the kernel send this process SIGTERM when its parent ends; False if that has ended already.

    `parent` is the `own_process` of the one that is meant, handed down by itself; False then also says
    that somebody else started this process. Without it, a parent that ended before this call goes
    unnoticed: who adopted the process looks like it.

    To the kernel the parent is the thread that started this process. A change of user or group undoes
    the request, and a fork does not inherit it.

    Raises:
        OSError: the kernel refused.
    """
    before = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
    # A parent that ends from here on sends the signal; one that ended before is no parent any more.
    now = os.getppid()
    if not parent:
        return now == before
    match = _OWNER.fullmatch(parent)
    return match is not None and int(match[3]) == now and is_alive(parent)


def bind(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command`, and with all it started ends when who started it does.

    To be started as the leader of a session. It ends as `command` ends; or when this process does, or only
    the thread that started it.
    """
    # A program of its own: between fork and exec, a process of many threads may hang.
    return [sys.executable, "-I", "-S", __file__, own_process(), *command]


def main() -> None:
    """Run as a program, `PARENT COMMAND…`, by what `bind` returns: the standard library only."""
    parent, *command = sys.argv[1:]
    if os.getpgrp() != os.getpid():
        os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    if not end_with_parent(parent):
        sys.exit("who started this has ended")
    # Python ignores SIGPIPE; a child would inherit that.
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGPIPE])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        os.killpg(0, signal.SIGKILL)
    sys.exit(status)


def _read_boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _read_namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _read_stat(pid: int) -> tuple[bytes, str]:
    """Return a process's state and when it started, in clock ticks since boot: fields 3 and 22."""
    # The second field is the program's name in parentheses, with any bytes in it.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0], fields[19].decode()


def _is_hidden(pid: int) -> bool:
    """Whether a process without a readable entry is there, as of another user under `hidepid`."""
    try:
        with contextlib.suppress(PermissionError):
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    return True


if __name__ == "__main__":
    main()
