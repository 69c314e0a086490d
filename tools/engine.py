#!/usr/bin/env python3
"""Run a private Docker Engine with CDI, beside whatever Docker the machine already has.

`up` starts it (twice is once), `down` ends it and leaves only its images, `status` says whether it
answers, `env` prints what a shell needs to talk to it. Everything of one Engine is found through its
directory: images and logs lie in it, sockets in a short folder below /run whose name is a hash of it
(a socket's path has at most 107 characters). Guarantees: no process is ended, no link and no rule
removed that this Engine did not make; the machine's own Docker and its socket are left alone.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

import network
import processes
from binaries import ensure_binaries
from machine import CACHE, SYSTEM_PATH, ToolError, find_program, main_guard, require_debian_root, run

DIRECTORY = CACHE / "engine"
START_SECONDS = 60
PROGRAMS = ("dockerd", "containerd", processes.SHIM)
INSTEAD = "install Docker Engine 25 or newer, switch its CDI feature on, and set DOCKER_HOST"


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
        """Always read by the Engine, at every start of a container: a spec put here counts at once."""
        return self.directory / "cdi"

    @property
    def state_file(self) -> Path:
        return self.directory / "engine.json"

    @property
    def config_file(self) -> Path:
        return self.directory / "daemon.json"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Engine's socket, for its API."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def locate(directory: Path = DIRECTORY) -> EngineHandle:
    """Return the handle of the Engine that lives in `directory`, whether it runs or not."""
    home = directory.resolve()
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return EngineHandle(home, Path(f"/run/ds01-engine-{digest}"))


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


def up(
    directory: Path = DIRECTORY,
    *,
    cdi_spec_dirs: Sequence[Path] = (),
    bridge: str | None = None,
    subnet: str | None = None,
) -> EngineHandle:
    """Start the Engine unless it runs, and return its handle once it answers.

    Raises ToolError where it cannot run, or when it already runs with other CDI directories.
    """
    require_debian_root("A private Docker Engine starts", INSTEAD)
    engine = locate(directory)
    engine.cdi_directory.mkdir(parents=True, exist_ok=True)
    config = [str(engine.cdi_directory), *(str(path.resolve()) for path in cdi_spec_dirs)]
    with _locked(engine):
        if ask(engine, "/version") is not None:
            _refuse_other_config(engine, config)
            return engine
        _sweep(engine)
        programs = ensure_binaries()
        link = network.choose_bridge(engine.directory, bridge, subnet)
        _write_state(engine, link)
        network.write_forwarding("1")
        network.add_bridge(link)
        _write_config(engine, link, config)
        rules_of_others = network.read_docker_rules()
        _start(engine, programs)
        network.restore_docker_rules(rules_of_others)
    return engine


def down(directory: Path = DIRECTORY) -> None:
    """End the Engine and all that it started; its images stay for the next `up`."""
    engine = locate(directory)
    if not engine.directory.exists():
        return
    require_debian_root("A private Docker Engine is ended", INSTEAD)
    with _locked(engine):
        _sweep(engine)


@contextmanager
def _locked(engine: EngineHandle) -> Iterator[None]:
    """Let one `up` or `down` of this Engine happen at a time."""
    with (engine.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refuse_other_config(engine: EngineHandle, cdi_spec_dirs: list[str]) -> None:
    running = json.loads(engine.config_file.read_text())["cdi-spec-dirs"]
    if not set(cdi_spec_dirs) <= set(running):
        raise ToolError(
            f"The Engine in {engine.directory} runs with the CDI directories {', '.join(running)}. "
            f"Put the spec into one of them, or end it first: python3 tools/engine.py down"
        )


def _write_state(engine: EngineHandle, bridge: network.Bridge) -> None:
    """Write down what `down` must undo, before anything is done."""
    state = {
        "bridge": bridge.name,
        "address": str(bridge.address),
        "forwarding_before": network.read_forwarding(),
        "had_docker_chains": network.has_docker_chains(),
    }
    engine.state_file.write_text(json.dumps(state))


def _write_config(engine: EngineHandle, bridge: network.Bridge, cdi_spec_dirs: list[str]) -> None:
    config = {
        "features": {"cdi": True},
        "cdi-spec-dirs": cdi_spec_dirs,
        "hosts": [engine.docker_host],
        "containerd": str(engine.runtime / "containerd.sock"),
        "data-root": str(engine.directory / "data"),
        "exec-root": str(engine.runtime / "exec"),
        # Never `none`: in the machine's own namespace that deletes another dockerd's docker0.
        "bridge": bridge.name,
        "default-address-pools": [{"base": str(bridge.pool), "size": 24}],
        "ip6tables": False,
        # The same driver with and without systemd.
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "shutdown-timeout": 10,
    }
    engine.config_file.write_text(json.dumps(config, indent=1))


def _start(engine: EngineHandle, programs: Path) -> None:
    """Start containerd and dockerd, detached, and wait until the API answers.

    containerd is started here, not by dockerd: where the machine runs one, dockerd would share it.
    """
    find_program("runc")
    engine.runtime.mkdir(mode=0o711, parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    env["PATH"] = f"{programs}:{SYSTEM_PATH}:/usr/libexec/docker"
    containerd_config = engine.directory / "containerd.toml"
    containerd_config.write_text(
        f'version = 2\nroot = "{engine.directory}/containerd"\nstate = "{engine.runtime}/containerd"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{engine.runtime}/containerd.sock"\n'
    )
    address = ["--address", str(engine.runtime / "containerd.sock")]
    log = engine.directory / "containerd.log"
    child = processes.spawn(
        [str(programs / "containerd"), "--config", str(containerd_config), *address], env, log
    )
    _await(engine, child, log, lambda: (engine.runtime / "containerd.sock").exists())
    # The pidfile is given here, not in the file: the command line then names this Engine's folder.
    pidfile = ["--pidfile", str(engine.runtime / "docker.pid")]
    log = engine.directory / "dockerd.log"
    child = processes.spawn(
        [str(programs / "dockerd"), "--config-file", str(engine.config_file), *pidfile], env, log
    )
    _await(engine, child, log, lambda: ask(engine, "/version") is not None)


def _await(engine: EngineHandle, child: int, log: Path, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if processes.has_ended(child) or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
            _sweep(engine)
            raise ToolError(f"{log.stem} did not start. Its log is {log}, and ends:\n{tail}")
        time.sleep(0.1)


def _sweep(engine: EngineHandle) -> None:
    """End what runs of this Engine and undo what it did to the machine."""
    mark = f"{engine.runtime}/"
    for program in PROGRAMS:
        processes.end(program, mark)
    _unmount(engine)
    if engine.state_file.exists():
        state = json.loads(engine.state_file.read_text())
        network.remove_networks(network.Bridge(state["bridge"], IPv4Interface(state["address"])))
        if not processes.find("dockerd"):
            if not state["had_docker_chains"]:
                network.remove_docker_chains()
            network.write_forwarding(state["forwarding_before"])
        engine.state_file.unlink()
    if engine.runtime.exists():
        run(["rm", "-rf", "--one-file-system", engine.runtime])


def _unmount(engine: EngineHandle) -> None:
    """Unmount what lies below this Engine's folders, the deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    prefixes = (f"{engine.directory}/", f"{engine.runtime}/")
    for point in sorted((point for point in points if point.startswith(prefixes)), key=len, reverse=True):
        run([find_program("umount"), "--lazy", point])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "env"))
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="of images and logs (%(default)s)")
    parser.add_argument(
        "--cdi-spec-dir", type=Path, action="append", default=[], help="besides DIRECTORY/cdi"
    )
    parser.add_argument("--bridge", help="name of its bridge (made from the directory)")
    parser.add_argument("--subnet", help="address of its bridge, A.B.C.1/24 (a free one)")
    arguments = parser.parse_args()
    engine = locate(arguments.directory)

    if arguments.command == "up":
        up(
            arguments.directory,
            cdi_spec_dirs=arguments.cdi_spec_dir,
            bridge=arguments.bridge,
            subnet=arguments.subnet,
        )
    elif arguments.command == "down":
        down(arguments.directory)
        print("engine: ended; its images are kept")
        return 0
    elif arguments.command == "env":
        print(f"export DOCKER_HOST={engine.docker_host} DOCKER_BUILDKIT=1")
        return 0
    version = ask(engine, "/version")
    if not isinstance(version, dict):
        print(f"engine: not running in {engine.directory}")
        return 1
    print(f"engine: Docker {version['Version']} on {engine.docker_host}, CDI specs in {engine.cdi_directory}")
    return 0


if __name__ == "__main__":
    main_guard(main)
