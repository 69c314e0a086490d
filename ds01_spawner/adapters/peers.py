"""Who is at the other end of a Unix socket: the kernel's own word, and for processes of this machine alone.

Guarantees: who is named runs beside us, in our PID and user namespaces, so that its numbers mean here what
they mean there; a container that reaches the socket is nobody. Linux only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass

from ..errors import AccountRefused

_CREDENTIALS = struct.Struct("iII")  # struct ucred of <linux/socket.h>: pid, uid, gid
_SO_PEERPIDFD = 77  # Linux 6.5
_KINDS = ("pid", "user")
_REFUSED = (
    "Only processes of this machine itself are answered here, not those of containers. Run this command in a "
    "shell outside of your container."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A process, as it was when it connected."""

    uid: int
    pid: int


def find_peer(connection: socket.socket) -> Peer:
    """Return who connected to a Unix socket.

    Raises:
        AccountRefused: it runs in other namespaces than we do, as a container does, or has ended.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    handle = _open_process(connection, pid)
    try:
        is_here = all(_read_namespace(str(pid), kind) == _read_namespace("self", kind) for kind in _KINDS)
        # In a container that shares the host's processes, root is not the root of the host for that.
        is_root_of_host = uid != 0 or _read_namespace(str(pid), "mnt") in _list_own_mounts()
        # The number may have come again since; then what was read is not the peer's.
        has_ended = bool(select.select([handle], [], [], 0)[0])
    except OSError as exc:
        raise AccountRefused(_REFUSED, detail=f"process {pid} of UID {uid}: {exc}") from exc
    finally:
        os.close(handle)
    if has_ended or not is_here or not is_root_of_host:
        what = "has ended" if has_ended else "runs in other namespaces"
        raise AccountRefused(_REFUSED, detail=f"process {pid} of UID {uid} {what}")
    return Peer(uid=uid, pid=pid)


def _open_process(connection: socket.socket, pid: int) -> int:
    """Return a descriptor of the peer's process; before Linux 6.5, of the one that has its number now."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as exc:
        # Any other answer is about the peer, which is not to be looked for by its number then.
        if exc.errno != errno.ENOPROTOOPT:
            raise AccountRefused(_REFUSED, detail=f"process {pid}: {exc}") from exc
    try:
        return os.pidfd_open(pid)
    except (OSError, ValueError) as exc:
        # 0 is the number of who is not seen from here.
        raise AccountRefused(_REFUSED, detail=f"process {pid}: {exc}") from exc


def _list_own_mounts() -> set[str]:
    """Return the mount namespaces of the host: ours, which systemd may have made for us, and that of init."""
    found = {_read_namespace("self", "mnt")}
    with contextlib.suppress(OSError):
        found.add(_read_namespace("1", "mnt"))
    return found


def _read_namespace(process: str, kind: str) -> str:
    return os.readlink(f"/proc/{process}/ns/{kind}")
