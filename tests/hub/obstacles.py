"""Things that a start has to wait for, opened and closed by a test: a real Docker, but out of reach for
one call; a build, a Jupyter and a ledger that take as long as the test wants.

Nothing of the Hub is replaced: each obstacle is one that happens, held still for a moment.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import docker

from .lab import Person
from .waiting import wait_for

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
    """A socket that leads to the real Docker, which can be held at a certain call, or cut."""

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
        """Hold calls whose request line begins like `pattern`; `answer`: Docker gets them, and its answer waits."""
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


class Gate:
    """A port of the host at which programs in builds and containers wait for one byte."""

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self._visitors: list[socket.socket] = []
        self._reached = threading.Event()
        self._answer: bytes | None = None
        self.visits = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def code(self) -> str:
        """Python that waits here, and fails when it is turned away."""
        host, port = self._listener.getsockname()
        return f"import socket; assert socket.create_connection(({host!r}, {port})).recv(1) == b'y'"

    def _accept(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._visitors.append(visitor)
                self.visits += 1
                self._reached.set()
                if self._answer is not None:
                    self._send(visitor)

    def _send(self, visitor: socket.socket) -> None:
        with visitor, contextlib.suppress(OSError):
            visitor.sendall(self._answer or b"")

    def wait_until_reached(self) -> None:
        """Wait until the first visitor is there."""
        assert self._reached.wait(REACHED_SECONDS), "nobody came to the gate"

    def decide(self, *, open: bool) -> None:
        """Let all visitors through, or turn them away, from now on."""
        with self._lock:
            self._answer = b"y" if open else b"n"
            for visitor in self._visitors:
                self._send(visitor)
            self._visitors.clear()

    def close(self) -> None:
        """Turn away who waits still, and stop listening."""
        self.decide(open=False)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def gate_at(host: str) -> Iterator[Gate]:
    """A gate on one of the host's addresses."""
    gate = Gate(host)
    try:
        yield gate
    finally:
        gate.close()


@contextlib.contextmanager
def base_that_builds_slowly(client: docker.APIClient, base: str, gate: Gate) -> Iterator[str]:
    """A base image on which every build waits at a gate first; yields its name."""
    name = f"ds01-test/slow:{secrets.token_hex(4)}"
    trigger = f'ONBUILD RUN ["python3", "-c", "{gate.code}"]'
    for _ in client.build(fileobj=io.BytesIO(f"FROM {base}\n{trigger}\n".encode()), tag=name, rm=True):
        pass
    try:
        yield name
    finally:
        client.remove_image(name, force=True)


@contextlib.contextmanager
def jupyter_that_starts_slowly(person: Person, gate: Gate) -> Iterator[None]:
    """Let her Jupyter wait at a gate, by a config file in her own home."""
    folder = person.container_home / ".jupyter"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "jupyter_server_config.py"
    config.write_text(gate.code)
    for path in (person.home / ".ds01", person.container_home, folder, config):
        os.chown(path, person.uid, person.uid)
    try:
        yield
    finally:
        config.unlink()


@contextlib.contextmanager
def hanging_nvml(box: Path) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Let NVML not answer: its box is a pipe; yields what waits until it is asked, and what lets it answer."""
    whole = box.rename(box.with_suffix(".whole"))
    os.mkfifo(box)
    pipe: list[int] = []

    def is_being_read() -> bool:
        with contextlib.suppress(OSError):
            # Fails while nobody reads.
            pipe.append(os.open(box, os.O_WRONLY | os.O_NONBLOCK))
        return bool(pipe)

    def let_go() -> None:
        if whole.exists():
            text = whole.read_bytes()
            whole.rename(box)
            for descriptor in pipe:
                os.write(descriptor, text)
                os.close(descriptor)

    try:
        yield lambda: wait_for(is_being_read, "NVML is asked") and None, let_go
    finally:
        let_go()


@contextlib.contextmanager
def locked_ledger(file: Path) -> Iterator[Callable[[], None]]:
    """Hold the ledger's write lock, as another writer does; yields what lets go of it."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")

        def let_go() -> None:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

        try:
            yield let_go
        finally:
            let_go()
