"""Builds that reach neither the host nor containers, by the rules of hub_config, and that still work."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import docker
import pytest

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine

from .building import BASE, CA_BUNDLE, DOCKER
from .registry import is_open

pytest_plugins = ("tests.adapters.building",)
pytestmark = pytest.mark.docker

SCRIPT = Path(__file__).parents[2] / "hub_config" / "ds01-build-network"
NAME = f"ds01-test-{secrets.token_hex(3)}"
PORT = 8080
TRY = b"""\
import socket, sys

for name in sys.argv[1:]:
    place, host, port = name.split(":")
    try:
        socket.create_connection((host, int(port)), 3)
    except OSError as exc:
        print(place, "is out of reach:", exc)
    else:
        print(place, "was reached")
"""
FETCH = (
    "PIP_CERT=/run/secrets/ca_bundle python3 -m pip download --quiet --no-deps --dest /fetched six "
    "&& ls /fetched"
)


@pytest.fixture(scope="module")
def targets(engine: docker.DockerClient, docker_host: str) -> Iterator[dict[str, str]]:
    """What builds shall not reach, the host as on the servers' network and two containers; and a resolver."""
    gateway = DockerEngine(docker_host=docker_host).ensure_network(NAME)
    serve = ["python3", "-m", "http.server", str(PORT)]
    containers = {
        "neighbour": engine.containers.run(BASE, serve, detach=True, network="bridge"),
        "server": engine.containers.run(BASE, serve, detach=True, network=NAME),
    }
    try:
        with listen(gateway, 0) as host, listen(gateway, 53) as resolver:
            found = {"host": host, "resolver": resolver}
            for name, container in containers.items():
                container.reload()
                (network,) = container.attrs["NetworkSettings"]["Networks"].values()
                found[name] = f"{network['IPAddress']}:{PORT}"
                wait_until_open(found[name])
            yield found
    finally:
        for container in containers.values():
            container.remove(force=True)
        engine.networks.get(NAME).remove()


@contextmanager
def listen(host: str, port: int) -> Iterator[str]:
    with socket.create_server((host, port)) as listener:
        threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
        yield f"{host}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def wait_until_open(address: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_open(address):
        assert time.monotonic() < deadline, f"nobody listens on {address}"
        time.sleep(0.05)


def accept_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.close()


@pytest.fixture(scope="module")
def run(engine: docker.DockerClient) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """The script on the bridge of the private Engine, with chains of the test's own."""
    bridge = engine.networks.get("bridge").attrs["Options"]["com.docker.network.bridge.name"]
    settings = {"BUILD_BRIDGE": bridge, "BUILD_CHAIN": NAME.upper()}

    def run_it(command: str, allow: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **settings, "BUILD_ALLOW": allow}
        return subprocess.run([SCRIPT, command], env=environment, capture_output=True, text=True)

    yield run_it
    run_it("down")


@contextmanager
def in_force(run: Callable[..., subprocess.CompletedProcess[str]], allow: str = "") -> Iterator[None]:
    try:
        done = run("up", allow)
        assert done.returncode == 0, done.stderr
        yield
    finally:
        run("down")


@pytest.fixture(scope="module")
def look(engine: docker.DockerClient, docker_host: str, targets: dict[str, str]) -> Callable[..., str]:
    """What a step of a build says of who can be reached, and what else it is to do."""

    def look_it(also: str = "true") -> str:
        lines: list[str] = []
        names = " ".join(f"{name}:{address}" for name, address in targets.items())
        dockerfile = (
            f"FROM {BASE}\n"
            "RUN --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle,required=false \\\n"
            "    --mount=type=bind,source=try.py,target=/try.py \\\n"
            f"    python3 /try.py {names} && {also} # {secrets.token_hex(4)}\n"
        )
        builder = Builder(docker_command=DOCKER, docker_host=docker_host, ca_bundle=CA_BUNDLE)
        builder.build(f"{NAME}:latest", dockerfile, {"try.py": TRY}, lines.append, Event())
        engine.images.remove(f"{NAME}:latest")
        return "\n".join(lines)

    return look_it


def list_rules() -> list[str]:
    """Every rule of the machine that names the chains of this test, or is in one."""
    said = [
        subprocess.run([f"/usr/sbin/{tool}", "--wait", "-S"], capture_output=True, text=True).stdout
        for tool in ("iptables", "ip6tables")
    ]
    return [line for text in said for line in text.splitlines() if NAME.upper() in line]


def test_with_the_rules_a_build_reaches_neither_host_nor_containers_and_fetches_packages(
    run: Callable[..., subprocess.CompletedProcess[str]], look: Callable[..., str]
) -> None:
    with in_force(run):
        said = look(also=FETCH)
    for name in ("host", "neighbour", "server"):
        assert f" {name} is out of reach:" in said
    assert " resolver was reached" in said
    assert " six-" in said


def test_without_them_it_reaches_the_host_and_what_is_on_its_bridge(look: Callable[..., str]) -> None:
    said = look()
    assert " host was reached" in said
    assert " neighbour was reached" in said
    # Docker itself keeps its bridges apart.
    assert " server is out of reach:" in said


def test_what_the_admin_allows_is_reached(
    run: Callable[..., subprocess.CompletedProcess[str]],
    look: Callable[..., str],
    targets: dict[str, str],
) -> None:
    with in_force(run, allow=f"udp/1 tcp/{targets['host'].partition(':')[2]}"):
        said = look()
    assert " host was reached" in said
    assert " neighbour is out of reach:" in said


def test_the_rules_come_once_however_often_they_are_asked_for_and_go_without_a_trace(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert list_rules() == []
    with in_force(run):
        once = list_rules()
        assert len(once) > 10
        assert run("up").returncode == 0
        assert list_rules() == once
    assert list_rules() == []
    assert run("down").returncode == 0


def test_rules_that_somebody_took_away_or_added_are_noticed(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    chain = f"{NAME.upper()}-HOST"
    assert f"INPUT does not lead to {chain}" in run("check").stderr
    with in_force(run):
        assert run("check").returncode == 0
        for change, words in (
            (["-D", chain, "-j", "REJECT"], f"iptables: no rule -A {chain} -j REJECT"),
            (["-I", chain, "-j", "ACCEPT"], "iptables: other rules in our chains"),
        ):
            subprocess.run(["/usr/sbin/iptables", "--wait", *change], check=True)
            found = run("check")
            assert found.returncode == 1
            assert words in found.stderr
            assert run("up").returncode == 0
        assert run("check").returncode == 0


@pytest.mark.parametrize("allow", ["3128", "tcp/", "icmp/1", "tcp/1;id", "tcp/1 -j", "-j/1"])
def test_what_cannot_be_allowed_is_said_before_anything_is_changed(
    run: Callable[..., subprocess.CompletedProcess[str]], allow: str
) -> None:
    refused = run("up", allow)
    assert refused.returncode == 1
    assert "BUILD_ALLOW" in refused.stderr
    assert list_rules() == []
