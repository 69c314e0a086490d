"""Shells in running containers: opened as a person's own UID and GID, read, written, hung up."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import docker
import docker.errors
from docker.utils import version_gte

from ... import mlc
from ...errors import EngineUnavailable, RequestRefused
from ...model import Account
from ..hangup import hang_up, hold
from .connection import Connection, translated

log = logging.getLogger(__name__)

STDOUT, STDERR = 1, 2
LOST_STATUS = 137
"""The status of a command whose container went with it."""
_HUNG_UP_STATUS = 129
_PIECE_BYTES = 64 * 1024
# Of an output without a terminal: the stream, three zeros, how many bytes follow.
_FRAME = struct.Struct(">BxxxL")
_API_WITH_SIZE = "1.42"
# Docker leaves a process alone when it reads these, and holds back one that could be their first. Its own
# are Ctrl-P Ctrl-Q, and Ctrl-P is the last line of a shell's history.
_DETACH_KEYS = ",".join(["ctrl-@", "ctrl-^", "ctrl-_"] * 3)
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.01, 0.5
# A process that is left without its terminal has been detached.
_LEFT_SECONDS = 3.0
_GRACE_SECONDS = 5.0
# As typed: Ctrl-U, so that nothing stands before Ctrl-D.
_END_OF_INPUT = b"\x15\x04"

Size = tuple[int, int]
"""Columns and rows."""


class ShellCalls(Connection):
    """What is asked for shells in containers."""

    def open_shell(
        self,
        container_id: str,
        *,
        account: Account,
        command: Sequence[str],
        environment: Mapping[str, str],
        tty: bool,
        size: Size,
    ) -> Shell:
        """Run a command in a running container as `account`; who gets the shell has to hang it up.

        That the command cannot be started is among its output, and its status is 126 or 127.

        Raises:
            RequestRefused: the container does not run.
            EngineUnavailable: Docker does not do it now.
        """
        with _refusing_what_does_not_run(), translated("opening a shell"):
            made = self.client.exec_create(
                container_id,
                list(command),
                stdin=True,
                tty=tty,
                user=f"{account.uid}:{account.gid}",
                workdir=mlc.WORKSPACE,
                environment=dict(environment),
                detach_keys=_DETACH_KEYS,
            )
            answer = self._start(made["Id"], tty, size)
        return Shell(self.client, container_id, made["Id"], answer, tty=tty, size=size)

    def _start(self, exec_id: str, tty: bool, size: Size) -> Any:
        # docker-py's own call knows no size, and gives the socket without what was read from it already.
        data: dict[str, object] = {"Tty": tty, "Detach": False}
        if tty and version_gte(self.client.api_version, _API_WITH_SIZE):
            data["ConsoleSize"] = [size[1], size[0]]
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        url = self.client._url("/exec/{0}/start", exec_id)
        answer = self.client._post_json(url, headers=headers, data=data, stream=True)
        self.client._raise_for_status(answer)
        return answer


class Shell:
    """A command that runs in a container, and the connection to it. One thread reads, any writes."""

    def __init__(
        self,
        client: docker.APIClient,
        container_id: str,
        exec_id: str,
        answer: Any,
        *,
        tty: bool,
        size: Size,
    ) -> None:
        self._client = client
        self._container_id = container_id
        self._exec_id = exec_id
        self._answer = answer
        self._tty = tty
        # What came with the answer's head is in this buffer: the socket alone would miss it.
        self._reader: io.BufferedReader = answer.raw._fp.fp
        self._socket: socket.socket = self._reader.raw._sock
        self._socket.settimeout(None)
        self._left = (STDOUT, 0)
        self._is_closed = threading.Event()
        self._hanging_up = threading.Lock()
        if tty and not version_gte(client.api_version, _API_WITH_SIZE):
            self.resize(*size)

    def read(self) -> tuple[int, bytes]:
        """Return the next piece of output, from STDOUT (a terminal's too) or STDERR; b"" at the end."""
        try:
            return self._read_framed() if not self._tty else (STDOUT, self._reader.read1(_PIECE_BYTES))
        except (OSError, ValueError) as exc:
            # It was closed by `hang_up`, or Docker ended.
            log.debug("the output of a shell in %s breaks off: %s", self._container_id[:12], exc)
            return STDOUT, b""

    def _read_framed(self) -> tuple[int, bytes]:
        stream, left = self._left
        while not left:
            head = self._reader.read(_FRAME.size)
            if len(head) < _FRAME.size:
                return STDOUT, b""
            stream, left = _FRAME.unpack(head)
        data = self._reader.read1(min(left, _PIECE_BYTES))
        self._left = (stream, left - len(data))
        return (STDERR if stream == STDERR else STDOUT), data

    def write(self, data: bytes) -> None:
        """Pass input on; blocks while the command reads none, and drops what it will never read."""
        with self._dropping():
            self._socket.sendall(data)

    def close_input(self) -> None:
        """Let the command read the end of its input; a terminal has none, but for Ctrl-D."""
        with self._dropping():
            self._socket.shutdown(socket.SHUT_WR)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            log.debug("input for a shell in %s is dropped: %s", self._container_id[:12], exc)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; where that is not possible now, it keeps the one that it has."""
        try:
            with translated("resizing a terminal"):
                self._client.exec_resize(self._exec_id, height=rows, width=columns)
        except (docker.errors.NotFound, EngineUnavailable) as exc:
            log.debug("a terminal in %s keeps its size: %s", self._container_id[:12], exc)

    def exit_status(self) -> int:
        """Wait until the command has ended, and return its status; to be asked at the end of its output.

        Raises:
            EngineUnavailable: Docker does not say it.
        """
        began = time.monotonic()
        found = self._wait(lambda found: self._has_ended(found) or self._is_detached(began))
        if found is not None and found["Running"]:
            self.hang_up()
            return _HUNG_UP_STATUS
        status = None if found is None else found["ExitCode"]
        return LOST_STATUS if status is None else int(status)

    def _has_ended(self, found: Mapping[str, Any]) -> bool:
        return not found["Running"] or self._is_closed.is_set()

    def _is_detached(self, began: float) -> bool:
        return self._tty and time.monotonic() > began + _LEFT_SECONDS

    def hang_up(self, *, grace_seconds: float = _GRACE_SECONDS) -> None:
        """End the command as when its terminal's line breaks, and the connection. Gone already is fine.

        Docker would let it run on. One that cannot be signalled from here, as on another machine, is asked
        by the end of its input, and the log says so: it may ignore that.
        """
        with self._hanging_up:
            if self._is_closed.is_set():
                return
            try:
                self._end(grace_seconds)
            except EngineUnavailable as exc:
                log.warning("a shell in %s may run on: %s", self._container_id[:12], exc.detail)
            except (PermissionError, ProcessLookupError) as exc:
                log.warning("a shell in %s is only asked to end: %s", self._container_id[:12], exc)
                self._ask_to_end()
            finally:
                self._close()

    def _end(self, grace_seconds: float) -> None:
        # One that has no process yet is about to get it.
        deadline = time.monotonic() + grace_seconds
        found = self._wait(
            lambda found: found["Pid"] or found["ExitCode"] is not None or time.monotonic() > deadline
        )
        if found is None or not found["Running"]:
            return
        with hold(found["Pid"], self._container_id) as process:
            # Only now is it certain that the process that is held is the one that Docker means.
            again = self._inspect()
            if again is None or not again["Running"]:
                return
            if process is not None and again["Pid"] == process.pid:
                hang_up(process, grace_seconds=grace_seconds)
                return
        raise ProcessLookupError("it is no process of this machine")

    def _ask_to_end(self) -> None:
        with self._dropping():
            if self._tty:
                self._socket.send(_END_OF_INPUT, socket.MSG_DONTWAIT)
            self._socket.shutdown(socket.SHUT_WR)

    def _close(self) -> None:
        self._is_closed.set()
        # Wakes the threads that read and write; a reader holds the lock of what is closed next.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._answer.close()

    def _wait(self, is_over: Callable[[Mapping[str, Any]], object]) -> Mapping[str, Any] | None:
        """Ask Docker about the command until `is_over`; None where it knows it no more."""
        pause = _FIRST_PAUSE_SECONDS
        while (found := self._inspect()) is not None and not is_over(found):
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)
        return found

    def _inspect(self) -> Mapping[str, Any] | None:
        try:
            with translated("looking after a shell"):
                found: Mapping[str, Any] = self._client.exec_inspect(self._exec_id)
        except docker.errors.NotFound:
            return None
        return found


@contextmanager
def _refusing_what_does_not_run() -> Iterator[None]:
    message = "Your container does not run now, or is paused. Start it, then open the shell again."
    try:
        yield
    except docker.errors.NotFound as exc:
        raise RequestRefused(message, detail=str(exc)) from exc
    except EngineUnavailable as exc:
        if getattr(exc.__cause__, "status_code", None) != 409:
            raise
        raise RequestRefused(message, detail=exc.detail) from exc
