#!/usr/bin/env python3
"""Run a whole JupyterHub with DS01 Spawner on 127.0.0.1:8000, with simulated GPUs, until Ctrl-C.

Prepares what the Hub needs (Docker Engine, base image, proxy, accounts in a file), starts it, and at
the end takes away what the demo made: containers, their image names, the network, the folder of its
three people, and the Docker Engine if it was started here. Built images stay, so that the next demo
starts sooner.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import base_image
import engine
import proxy
from machine import ROOT, ToolError, find_program, main_guard, run

CONFIG = ROOT / "hub_config"
NETWORK = "ds01-demo"
DEFAULT_DOCKER = "unix:///var/run/docker.sock"
# Beyond what people usually have, so that no file of the host belongs to them.
PEOPLE = {"alice": 64201, "bob": 64202, "carol": 64203}
STOP_SECONDS = 25
PORT = 8000


@contextmanager
def docker_engine() -> Iterator[str]:
    """Yield the address of a Docker Engine: the machine's own if it answers, else a private one."""
    address = os.environ.get("DOCKER_HOST", DEFAULT_DOCKER)
    if _answers(address):
        print(f"demo: using the Docker Engine at {address}")
        yield address
        return
    was_up = engine.ask(engine.locate(), "/version") is not None
    print(
        "demo: no Docker Engine answers, using a private one (its images stay in .cache/engine)", flush=True
    )
    handle = engine.up()
    try:
        yield handle.docker_host
    finally:
        if not was_up:
            engine.down()


def _answers(address: str) -> bool:
    command = [find_program("docker"), "--host", address, "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def people(numbers: dict[str, int]) -> Iterator[Path]:
    """Yield a folder with a passwd file and a home for each person; gone afterwards.

    The host gets no user. The folder can be entered by all, as /home can, since the Hub opens
    directories with each person's own rights.
    """
    with tempfile.TemporaryDirectory(prefix="ds01-demo-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        entries = []
        for person, number in numbers.items():
            home = folder / "home" / person
            home.mkdir(parents=True, mode=0o700)
            os.chown(home, number, number)
            entries.append(f"{person}:x:{number}:{number}:{person.title()}:{home}:/bin/bash\n")
        (folder / "passwd").write_text("".join(entries))
        yield folder


def list_images() -> list[str]:
    """Name the base images that the demo's catalog offers."""
    lines = (CONFIG / "demo-catalog.repo").read_text().splitlines()
    return [line.rsplit(",", 1)[1].strip() for line in lines if line.strip()]


@contextmanager
def network(docker: list[str]) -> Iterator[str]:
    """Yield the address of the host on the demo's own Docker network; the network is gone afterwards."""
    remove_leftovers(docker)
    option = "com.docker.network.bridge.enable_icc=false"
    run([*docker, "network", "create", "--driver", "bridge", "--opt", option, NETWORK])
    try:
        (found,) = json.loads(run([*docker, "network", "inspect", NETWORK]))
        yield found["IPAM"]["Config"][0]["Gateway"]
    finally:
        remove_leftovers(docker)


def remove_leftovers(docker: list[str]) -> None:
    """Remove the containers on the demo's network, the names of their images, and the network."""
    shown = ["--no-trunc", "--format", "{{.ID}} {{.Image}}"]
    for row in run([*docker, "ps", "--all", "--filter", f"network={NETWORK}", *shown]).splitlines():
        container, image = row.split()
        run([*docker, "rm", "--force", "--volumes", container])
        run([*docker, "rmi", "--no-prune", image])
    if run([*docker, "network", "ls", "--quiet", "--filter", f"name=^{NETWORK}$"]).strip():
        run([*docker, "network", "rm", NETWORK])


def hub_environment(folder: Path, docker_host: str, gateway: str) -> dict[str, str]:
    """Return the environment that hub_config/demo_config.py reads."""
    bundle = ssl.get_default_verify_paths().cafile or ""
    return os.environ | {
        "DS01_DEMO_DIR": str(folder),
        "DS01_DEMO_CONFIG_DIR": str(CONFIG),
        "DS01_DEMO_PROXY": str(proxy.ensure(ROOT / ".venv")),
        "DS01_DEMO_DOCKER_HOST": docker_host,
        "DS01_DEMO_DOCKER_COMMAND": find_program("docker"),
        "DS01_DEMO_CA_BUNDLE": bundle,
        "DS01_DEMO_GATEWAY": gateway,
    }


def run_hub(folder: Path, environment: dict[str, str]) -> int:
    """Run the Hub until it ends or a signal asks for it; its log goes to a file of the folder."""
    command = [ROOT / ".venv" / "bin" / "jupyterhub", "--config", CONFIG / "demo_config.py"]
    log = folder / "hub.log"
    with log.open("wb") as output:
        hub = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches the demo alone, which then ends Hub, proxy and builds in order.
            start_new_session=True,
        )
        asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.set())
        try:
            _greet(hub, log, asked, environment)
            while hub.poll() is None and not asked.wait(0.3):
                pass
        finally:
            _end(hub)
    if not asked.is_set():
        raise ToolError(f"the Hub ended by itself. Its log ends:\n{_tail(log)}")
    return 0


def _greet(
    hub: subprocess.Popen[bytes], log: Path, asked: threading.Event, environment: dict[str, str]
) -> None:
    """Say where the Hub is, as soon as it answers and its service has read the GPUs."""
    for is_ready in (_answers_people, lambda: _knows_gpus(environment)):
        while not is_ready() and hub.poll() is None and not asked.wait(0.3):
            pass
    if hub.poll() is None and not asked.is_set():
        print(
            f"\n  JupyterHub runs on  http://127.0.0.1:{PORT}\n"
            f"  Sign in as          {', '.join(PEOPLE)}\n"
            "  Password            demo\n\n"
            "  bob and carol may have larger slices and a whole GPU; carol is the admin.\n"
            "  The GPUs are simulated. The first start builds an image, which takes a minute or two.\n"
            f"  The Hub's log is {log}. Ctrl-C ends the demo and takes everything away.\n",
            flush=True,
        )


def _answers_people() -> bool:
    """Say whether the Hub answers through its proxy, which listens before it knows the Hub."""
    try:
        # A proxy that the site sets for the outside has no way to this machine.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{PORT}/hub/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _knows_gpus(environment: dict[str, str]) -> bool:
    ds01 = str(ROOT / ".venv" / "bin" / "ds01")
    command = [ds01, "gpu", "status", "--json", "--config", str(CONFIG / "demo_config.py")]
    answer = subprocess.run(command, env=environment, capture_output=True)
    return answer.returncode == 0 and bool(json.loads(answer.stdout)["slots"])


def _is_listening() -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def _end(hub: subprocess.Popen[bytes]) -> None:
    """Ask the Hub to stop its servers and its proxy; what is left of its children is ended after that."""
    print("demo: stopping", flush=True)
    children = _descendants(hub.pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if hub.poll() is None:
            hub.send_signal(number)
            try:
                hub.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                children |= _descendants(hub.pid)
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(status.parent.name)
            found |= {child} | _descendants(child)
    return found


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    if os.geteuid() != 0:
        raise ToolError("the demo starts servers as three different people: run it as root (sudo make demo).")
    if _is_listening():
        raise ToolError(f"something listens on 127.0.0.1:{PORT} already. End it, then start the demo again.")
    with docker_engine() as docker_host:
        print(f"demo: {base_image.ensure(docker_host, list_images())}", flush=True)
        docker = [find_program("docker"), "--host", docker_host]
        with people(PEOPLE) as folder, network(docker) as gateway:
            return run_hub(folder, hub_environment(folder, docker_host, gateway))


if __name__ == "__main__":
    main_guard(main)
