"""A second Engine on the machine: it comes, restarts and goes without the first one feeling it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from ..conftest import PrivateEngine, run_tool
from . import engine as legacy
from .toolkit import install

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BASE = "ds01-test/no-python:latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A container of the first Engine, on a network of its own and with a published port."""

    client: docker.APIClient
    container: str
    network: str

    def rules(self) -> list[str]:
        """Return the rules of iptables that serve it, in their order."""
        inspected = self.client.inspect_container(self.container)
        address = inspected["NetworkSettings"]["Networks"][self.network]["IPAddress"]
        link = f"br-{self.client.inspect_network(self.network)['Id'][:12]}"
        words = (f" {link} ", f" {address}/", f" {address}:")
        return [
            line
            for table in ("filter", "nat")
            for line in read_rules(table)
            if any(word in f"{line} " for word in words)
        ]

    def process(self) -> int:
        """Return the id of its process; another one, had it been restarted."""
        found: int = self.client.inspect_container(self.container)["State"]["Pid"]
        return found


def read_rules(table: str) -> list[str]:
    command = ["/usr/sbin/iptables", "-w", "-t", table, "-S"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def neighbour(private_engine: PrivateEngine) -> Iterator[Neighbour]:
    host = private_engine.docker_host
    ensured = run_tool("base_image", "ensure", "--docker-host", host, "--no-python", "--tag", BASE)
    assert ensured.returncode == 0, ensured.stderr
    client = docker.APIClient(base_url=host, version="auto")
    name = f"ds01-test-{secrets.token_hex(3)}"
    client.create_network(name)
    settings = client.create_host_config(network_mode=name, port_bindings={80: ("127.0.0.1",)})
    made = client.create_container(BASE, ["sleep", "600"], ports=[80], host_config=settings)["Id"]
    try:
        client.start(made)
        yield Neighbour(client=client, container=made, network=name)
    finally:
        client.remove_container(made, force=True)
        client.remove_network(name)
        client.close()


def test_a_second_engine_comes_restarts_and_goes_without_harm_to_the_first(
    neighbour: Neighbour, tmp_path: Path
) -> None:
    rules, process = neighbour.rules(), neighbour.process()
    assert any("--to-destination" in rule for rule in rules)
    directory = tmp_path / "engine"
    toolkit = install(tmp_path)
    try:
        second = legacy.bring_up(toolkit, with_runtime=False, directory=directory)
        assert neighbour.rules() == rules
        client = docker.APIClient(base_url=second.docker_host, version="auto")
        assert client.containers(all=True) == []
        client.close()
        for how in ((), ("--kill",)):
            legacy.call("restart", *how, directory=directory)
            assert neighbour.rules() == rules
    finally:
        legacy.call("down", directory=directory)
    assert neighbour.rules() == rules
    assert neighbour.process() == process
    assert run_tool("engine", "status", "--legacy", "--directory", str(directory)).returncode == 1


def test_an_engine_that_is_not_up_is_not_restarted(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    answer = run_tool("engine", "restart", "--legacy", "--directory", str(tmp_path / "engine"))
    assert answer.returncode == 1
    assert "No Engine is up" in answer.stderr


def test_an_engine_that_runs_with_other_settings_is_not_taken_for_the_one_that_was_asked_for(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "engine"
    toolkit = install(tmp_path)
    try:
        legacy.bring_up(toolkit, with_runtime=False, directory=directory)
        again = ("up", "--legacy", "--directory", str(directory))
        assert run_tool("engine", *again, "--programs", str(toolkit.programs)).returncode == 0
        refused = run_tool("engine", *again)
        assert "runs with other settings" in refused.stderr
    finally:
        legacy.call("down", directory=directory)
