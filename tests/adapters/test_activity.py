"""What a running container does, on a real engine: its counters, shells, and `.keep-alive`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import docker
import pytest
from docker.models.containers import Container

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.engine.times import read_time

from ..conftest import PrivateEngine
from ..hub.waiting import wait_for
from .building import BASE

pytest_plugins = ["tests.adapters.building"]
pytestmark = pytest.mark.docker

SPIN = "mkdir -p /workspace && touch -d 2026-03-01T12:00:00Z /workspace/.keep-alive && while :; do :; done"


@pytest.fixture
def spinning(engine: docker.DockerClient) -> Iterator[Container]:
    container = engine.containers.run(BASE, ["timeout", "300", "sh", "-c", SPIN], detach=True, init=True)
    yield container
    container.remove(force=True)


@pytest.fixture
def ours(private_engine: PrivateEngine) -> DockerEngine:
    return DockerEngine(docker_host=private_engine.docker_host)


def test_a_container_that_works_uses_more_and_more_of_a_cpu(spinning: Container, ours: DockerEngine) -> None:
    first = ours.activity(spinning.id)
    assert first is not None
    age = datetime.now(timezone.utc) - first.started_at
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert first.shells == 0
    assert wait_for(
        lambda: (seen := ours.activity(spinning.id)) and seen.cpu_seconds > first.cpu_seconds + 0.2,
        "it has computed",
    )


def test_the_time_of_keep_alive_is_that_of_the_file(spinning: Container, ours: DockerEngine) -> None:
    assert wait_for(
        lambda: (seen := ours.activity(spinning.id)) and seen.keep_alive, "the file is touched"
    ) == datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    spinning.exec_run(["rm", "/workspace/.keep-alive"])
    gone = ours.activity(spinning.id)
    assert gone is not None
    assert gone.keep_alive is None


def test_a_shell_counts_while_it_is_open_and_a_command_does_not(
    spinning: Container, ours: DockerEngine, engine: docker.DockerClient
) -> None:
    command = engine.api.exec_create(spinning.id, ["sleep", "100"])
    engine.api.exec_start(command["Id"], detach=True)
    shell = engine.api.exec_create(spinning.id, ["bash"], tty=True, stdin=True)
    terminal = engine.api.exec_start(shell["Id"], tty=True, socket=True)
    with_shell = ours.activity(spinning.id)
    assert with_shell is not None
    assert with_shell.shells == 1
    terminal._sock.sendall(b"exit\n")
    wait_for(lambda: (seen := ours.activity(spinning.id)) and seen.shells == 0, "the shell is closed")
    terminal.close()


def test_what_it_receives_and_sends_is_counted(spinning: Container, ours: DockerEngine) -> None:
    before = ours.activity(spinning.id)
    assert before is not None
    gateway = spinning.client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    spinning.exec_run(["bash", "-c", f"exec 3<>/dev/tcp/{gateway}/9"])
    after = wait_for(lambda: ours.activity(spinning.id), "it is looked at")
    assert after.network_bytes > before.network_bytes


def test_one_that_does_not_run_has_no_activity(spinning: Container, ours: DockerEngine) -> None:
    spinning.kill()
    wait_for(lambda: ours.activity(spinning.id) is None, "it is known to have ended")
    assert ours.activity("0" * 64) is None


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-03-01T12:00:00.123456789Z", 123456),
        ("2026-03-01T13:00:00.1+01:00", 100000),
        ("2026-03-01T12:00:00Z", 0),
    ],
)
def test_dockers_times_are_read_to_the_microsecond(text: str, microsecond: int) -> None:
    assert read_time(text) == datetime(2026, 3, 1, 12, 0, 0, microsecond, tzinfo=timezone.utc)
