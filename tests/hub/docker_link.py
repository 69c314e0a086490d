"""A socket that leads to the real Docker, and that a test can hold at a certain call, or cut."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

REACHED_SECONDS = 60
_CHUNK = 65536
_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE) \S+ HTTP/1\.1\r\n")


class Hold:
    """One kind of call that waits: until `reached`, then until `release`."""

    def __init__(self, pattern: str, *, answer: bool) -> None:
        self._pattern = re.compile(pattern.encode())
        self.is_for_answer = answer
        self._reached = threading.Event()
        self._released = threading.Event()

    def matches(self, request_line: bytes) -> bool:
        return not self._released.is_set() and self._pattern.match(request_line) is not None

    def wait_here(self) -> None:
        """Called by the connection: say that it came so far, and wait."""
        self._reached.set()
        self._released.wait()

    def wait_until_reached(self) -> None:
        """Called by the test."""
        assert self._reached.wait(REACHED_SECONDS), f"no call {self._pattern.pattern!r} came"

    def release(self) -> None:
        """Let the call, and all after it, go on."""
        self._released.set()


class DockerLink:
    """The way to Docker at `docker_host`, for whoever connects to `path`."""

    def __init__(self, path: Path, docker_host: str) -> None:
        self.docker_host = f"unix://{path}"
        self._path = path
        self._target = docker_host.removeprefix("unix://")
        self._holds: list[Hold] = []
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.restore()

    @contextlib.contextmanager
    def hold(self, pattern: str, *, answer: bool = False) -> Iterator[Hold]:
        """Hold the calls whose request line begins like `pattern`.

        With `answer`, Docker gets them, and its answer waits.
        """
        hold = Hold(pattern, answer=answer)
        self._holds.append(hold)
        try:
            yield hold
        finally:
            hold.release()
            self._holds.remove(hold)

    def restore(self) -> None:
        """Listen (again)."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End every connection, and refuse new ones, as a Docker does that has gone."""
        assert self._listener is not None
        self._path.unlink()
        # A blocked accept() is not ended by close() alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        waiting: list[Hold] = []
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._target)
            self._open |= {client, server}

            def let_answer_wait(_chunk: bytes) -> None:
                while waiting:
                    waiting.pop().wait_here()

            def hold_request(chunk: bytes) -> None:
                line = _REQUEST.match(chunk)
                for hold in [hold for hold in self._holds if line and hold.matches(line[0])]:
                    if hold.is_for_answer:
                        waiting.append(hold)
                    else:
                        hold.wait_here()

            back = threading.Thread(target=_pump, args=(server, client, let_answer_wait), daemon=True)
            back.start()
            _pump(client, server, hold_request)
            back.join()
            self._open -= {client, server}


def _pump(source: socket.socket, sink: socket.socket, look: Callable[[bytes], None]) -> None:
    """Carry bytes from `source` to `sink` until its end; `look` sees each chunk first, and may block."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            look(chunk)
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
