"""The two daemons of a private Docker Engine, containerd and dockerd: where they live, their start and end.

Everything of one Engine is found through its directory: images and logs lie in it, sockets in a short
folder below /run whose name is a hash of it (a socket's path has at most 107 characters). So its daemons
are told from any other Docker's by their command lines, even when no file remembers them.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import processes
from machine import ToolError, find_program, run

RUNTIME_PREFIX = "/run/ds01-engine-"
START_SECONDS = 60
DAEMONS = ("dockerd", "containerd", processes.SHIM)


@dataclass(frozen=True)
class EngineHandle:
    """A private Engine, running or not: where it keeps its data, where it listens, where CDI specs go."""

    directory: Path
    runtime: Path

    @property
    def socket(self) -> Path:
        return self.runtime / "docker.sock"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def cdi_directory(self) -> Path:
        """Read by an Engine with CDI at every start of a container: a spec put here counts at once."""
        return self.directory / "cdi"

    @property
    def pid_file(self) -> Path:
        return self.runtime / "docker.pid"

    @property
    def state_file(self) -> Path:
        return self.directory / "engine.json"

    @property
    def config_file(self) -> Path:
        return self.directory / "daemon.json"

    @property
    def mark(self) -> str:
        """What stands in the command lines of this Engine's daemons, and in no others."""
        return f"{self.runtime}/"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Engine's socket, for its API."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def place(directory: Path) -> EngineHandle:
    """Return the handle of the Engine that lives in `directory`, whether it runs or not."""
    home = directory.resolve()
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return EngineHandle(home, Path(f"{RUNTIME_PREFIX}{digest}"))


def ask(engine: EngineHandle, path: str, timeout: float = 5) -> object | None:
    """GET a path of the Engine's API as JSON; None when it does not answer, or not with 200."""
    connection = UnixConnection(engine.socket, timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return json.loads(body) if response.status == 200 else None


def write_config(engine: EngineHandle, settings: Mapping[str, object]) -> None:
    """Write dockerd's configuration: `settings`, and what follows from where the Engine lives."""
    config = {
        **settings,
        "hosts": [engine.docker_host],
        "containerd": str(engine.runtime / "containerd.sock"),
        "data-root": str(engine.directory / "data"),
        "exec-root": str(engine.runtime / "exec"),
        "ip6tables": False,
        # The same driver with and without systemd.
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "shutdown-timeout": 10,
    }
    engine.config_file.write_text(json.dumps(config, indent=1))


def start_containerd(engine: EngineHandle, path: str) -> None:
    """Start containerd, detached, and wait until it listens; `path` is where its programs are searched.

    It is started here, not by dockerd: where the machine runs one, dockerd would share it.
    """
    find_program("runc")
    engine.runtime.mkdir(mode=0o711, parents=True, exist_ok=True)
    listening = engine.runtime / "containerd.sock"
    config = engine.directory / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{engine.directory}/containerd"\nstate = "{engine.runtime}/containerd"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{listening}"\n'
    )
    arguments = ["--config", str(config), "--address", str(listening)]
    _start(engine, path, "containerd", arguments, listening.exists)


def start_dockerd(engine: EngineHandle, path: str) -> None:
    """Start dockerd, detached, and wait until its API answers."""
    # The pidfile is given here, not in the file: the command line then names this Engine's folder.
    arguments = ["--config-file", str(engine.config_file), "--pidfile", str(engine.pid_file)]
    _start(engine, path, "dockerd", arguments, lambda: ask(engine, "/version") is not None)


def _start(
    engine: EngineHandle, path: str, name: str, arguments: list[str], is_ready: Callable[[], bool]
) -> None:
    program = shutil.which(name, path=path)
    if program is None:
        raise ToolError(f"{name} is missing. Run `python3 tools/setup.py packages test` as root first.")
    env = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
    log = engine.directory / f"{name}.log"
    child = processes.spawn([program, *arguments], env | {"PATH": path}, log)
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if processes.has_ended(child) or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
            raise ToolError(f"{name} did not start. Its log is {log}, and ends:\n{tail}")
        time.sleep(0.1)


def end_dockerd(engine: EngineHandle, *, kill: bool = False) -> None:
    """End dockerd alone, with `kill` as `kill -9` does; containerd stays, and so do containers then."""
    processes.end("dockerd", engine.mark, by=(signal.SIGKILL,) if kill else processes.GENTLY)
    # A killed one leaves its file, and the next would not start while /proc still has the dead process.
    engine.pid_file.unlink(missing_ok=True)


def end_all(engine: EngineHandle) -> None:
    """End every process of the Engine, its containers too, and unmount what lies in its folders."""
    for program in DAEMONS:
        processes.end(program, engine.mark)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    prefixes = (f"{engine.directory}/", engine.mark)
    # The deepest first.
    for point in sorted((point for point in points if point.startswith(prefixes)), key=len, reverse=True):
        run([find_program("umount"), "--lazy", point])
