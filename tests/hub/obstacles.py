"""Things that a start has to wait for, opened and closed by a test: a build, a Jupyter, an NVML and a
ledger that take as long as the test wants.

Nothing of the Hub is replaced: each obstacle is one that happens, held still for a moment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
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
    """A base image on which every build waits at a gate first; yields its name.

    Its Python waits when it makes the environment of the notebook server, and fails when it is turned away.
    """
    name = f"ds01-test/slow:{secrets.token_hex(4)}"
    wait = f"if 'venv' in sys.orig_argv:\n try:\n  {gate.code}\n except BaseException:\n  os._exit(1)"
    line = f"import os, sys; exec({wait!r})"
    write = f"import site; open(site.getsitepackages()[0] + '/ds01-test.pth', 'w').write({line!r})"
    dockerfile = f"FROM {base}\nRUN {json.dumps(['python3', '-c', write])}\n"
    for _ in client.build(fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True):
        pass
    try:
        yield name
    finally:
        client.remove_image(name, force=True)


@contextlib.contextmanager
def jupyter_configured(person: Person, code: str) -> Iterator[None]:
    """Let her Jupyter run Python when it starts, by a config file in her own home."""
    folder = person.container_home / ".jupyter"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "jupyter_server_config.py"
    config.write_text(code)
    for path in (person.home / ".ds01", person.container_home, folder, config):
        os.chown(path, person.uid, person.uid)
    try:
        yield
    finally:
        config.unlink()


def jupyter_that_starts_slowly(person: Person, gate: Gate) -> contextlib.AbstractContextManager[None]:
    """Let her Jupyter wait at a gate."""
    return jupyter_configured(person, gate.code)


class HangingFile:
    """A file that does not answer who reads it: it is a pipe, until `let_go`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = path.rename(path.with_suffix(".whole"))
        self._pipe = -1
        os.mkfifo(path)

    def wait_until_reached(self) -> None:
        """Wait until somebody reads it."""
        wait_for(self._open, f"{self._path.name} is read")

    def _open(self) -> bool:
        with contextlib.suppress(OSError):
            # Fails while nobody reads.
            self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        return self._pipe >= 0

    def let_go(self) -> None:
        """Answer who waits, and all after it."""
        if not self._whole.exists():
            return
        text = self._whole.read_bytes()
        self._whole.rename(self._path)
        if self._pipe >= 0:
            # Who read it may have been killed.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._pipe, text)
            os.close(self._pipe)


@contextlib.contextmanager
def hanging_file(path: Path) -> Iterator[HangingFile]:
    file = HangingFile(path)
    try:
        yield file
    finally:
        file.let_go()


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
