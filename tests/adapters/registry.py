"""A real registry on a loopback address, to which one has to log in, and a slow way to it.

dockerd speaks plain HTTP with loopback addresses. What a test pushes is small and random, so that no layer
of it is on the Engine before.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import secrets
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker
from binaries import ensure_test_programs

START_SECONDS = 30
LOGIN = ("lab", "password")
# The password above, as htpasswd -B has it.
HTPASSWD = "lab:$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n"


@dataclass(slots=True, kw_only=True)
class Registry:
    """A registry: where it listens, its folder, and its process while it runs."""

    address: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = ensure_test_programs() / "docker-registry"
        settings = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "data")}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "lab", "path": str(self.directory / "htpasswd")}},
        }
        (self.directory / "htpasswd").write_text(HTPASSWD)
        (self.directory / "config.yml").write_text(json.dumps(settings))
        with (self.directory / "log").open("ab") as log:
            command = [program, "serve", str(self.directory / "config.yml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not is_open(self.address):
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not listen"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; what was pushed stays."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def push(self, client: docker.APIClient, name: str, *, megabytes: int = 1) -> str:
        """Push a new image as `name`, `repository:tag` without an address; return its digest."""
        repository, _, tag = f"{self.address}/{name}".rpartition(":")
        client.import_image_from_data(_pack(megabytes), repository=repository, tag=tag)
        username, password = LOGIN
        login = {"username": username, "password": password}
        lines = list(client.push(repository, tag=tag, auth_config=login, stream=True, decode=True))
        client.remove_image(f"{repository}:{tag}")
        (digest,) = (line["aux"]["Digest"] for line in lines if "Digest" in line.get("aux", {}))
        return str(digest)

    def write_login(self, path: Path, password: str = LOGIN[1], *, address: str = "") -> Path:
        """Write what `docker login` writes."""
        token = base64.b64encode(f"{LOGIN[0]}:{password}".encode()).decode()
        path.write_text(json.dumps({"auths": {address or self.address: {"auth": token}}}))
        path.chmod(0o600)
        return path


@contextmanager
def run_registry(directory: Path) -> Iterator[Registry]:
    """Give a registry that listens; it ends with the block."""
    registry = Registry(address=f"127.0.0.1:{find_port()}", directory=directory)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


class SlowWay:
    """Passes bytes on to a registry, so few at a time that a download takes minutes."""

    CHUNK = 64 * 1024
    SECONDS = 0.1

    def __init__(self, target: str) -> None:
        self._target = target.split(":")
        self._loop = asyncio.new_event_loop()
        self._opened, self._closed = 0, 0
        self.passed = 0
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether all who came have gone."""
        return self._opened == self._closed > 0

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._opened += 1
        host, port = self._target
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        up = asyncio.create_task(self._pass(reader, up_writer, 0))
        down = asyncio.create_task(self._pass(up_reader, writer, self.SECONDS))
        # Docker closes the connection of a pull that has ended; ours to the registry ends with it.
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        for end in (up_writer, writer):
            end.close()
        self._closed += 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(self.CHUNK):
                writer.write(chunk)
                await writer.drain()
                if delay:
                    self.passed += len(chunk)
                    await asyncio.sleep(delay)


def find_port() -> int:
    """Return a port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_open(address: str) -> bool:
    host, port = address.split(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def _pack(megabytes: int) -> bytes:
    """Return a root file system with one file of so much that nothing compresses."""
    packed, content = io.BytesIO(), os.urandom(megabytes * 10**6)
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(f"mark-{secrets.token_hex(4)}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
