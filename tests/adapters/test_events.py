"""Following what happens to containers, on a real Docker."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import docker
import docker.errors
import pytest

from ds01_spawner.adapters.engine import ContainerEvent, watch
from ds01_spawner.errors import EngineUnavailable

from ..conftest import PrivateEngine, run_tool
from ..hub.docker_link import DockerLink
from ..hub.waiting import wait_for

pytestmark = pytest.mark.docker

BASE = "ds01-test/no-python:latest"
SECONDS = 30


class Watcher:
    """Somebody who follows the events in a thread; the events of containers that are `ours` are kept."""

    def __init__(self, docker_host: str) -> None:
        self._docker_host = docker_host
        self.stop = threading.Event()
        self.opened = threading.Event()
        self._events: queue.SimpleQueue[ContainerEvent] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(1)
        self.result = self.follow()

    def follow(self) -> Future[None]:
        self.opened.clear()
        self.result = self._pool.submit(
            watch, self._docker_host, self._events.put, stop=self.stop, on_open=self.opened.set
        )
        return self.result

    def wait_open(self) -> None:
        assert self.opened.wait(SECONDS)

    def actions(self, container_id: str, until: str) -> list[tuple[str, str]]:
        """Return (action, name) of what is told of one container, up to an action."""
        seen: list[tuple[str, str]] = []
        while not seen or seen[-1][0] != until:
            event = self._events.get(timeout=SECONDS)
            if event.container_id == container_id:
                seen.append((event.action, event.name))
        return seen

    def close(self) -> None:
        self.stop.set()
        self._pool.shutdown()


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    tags = ["--no-python", "--tag", BASE]
    ensured = run_tool("base_image", "ensure", "--docker-host", private_engine.docker_host, *tags)
    assert ensured.returncode == 0, ensured.stderr
    return private_engine.docker_host


@pytest.fixture
def client(docker_host: str) -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=docker_host, version="auto")
    yield found
    found.close()


@pytest.fixture
def name(client: docker.APIClient) -> Iterator[str]:
    """The name of a container that a test may make; what has it at the end is removed."""
    name = f"watched-{secrets.token_hex(4)}"
    yield name
    for wanted in (name, f"{name}-renamed"):
        try:
            client.remove_container(wanted, force=True, v=True)
        except docker.errors.NotFound:
            continue


@pytest.fixture
def open_watcher() -> Iterator[Callable[[str], Watcher]]:
    """A function that gives a watcher of the Docker at an address, connected."""
    made: list[Watcher] = []

    def run(docker_host: str) -> Watcher:
        made.append(Watcher(docker_host))
        made[-1].wait_open()
        return made[-1]

    yield run
    for watcher in made:
        watcher.close()


@pytest.fixture
def link(docker_host: str, tmp_path: Path) -> Iterator[DockerLink]:
    link = DockerLink(tmp_path / "docker.sock", docker_host)
    yield link
    link.cut()


def test_a_containers_life_is_told_in_order(
    docker_host: str, client: docker.APIClient, name: str, open_watcher: Callable[[str], Watcher]
) -> None:
    watcher = open_watcher(docker_host)
    container_id = client.create_container(BASE, ["sleep", "60"], name=name)["Id"]
    client.start(container_id)
    client.pause(container_id)
    client.unpause(container_id)
    client.rename(container_id, f"{name}-renamed")
    client.stop(container_id, timeout=0)
    client.remove_container(container_id)
    told = watcher.actions(container_id, until="destroy")
    assert [item for item in told if item[0] not in ("die", "stop")] == [
        ("create", name),
        ("start", name),
        ("pause", name),
        ("unpause", name),
        ("rename", f"{name}-renamed"),
        ("destroy", f"{name}-renamed"),
    ]
    # Docker does not promise which of the two is first.
    assert {item[0] for item in told[5:7]} == {"die", "stop"}


def test_an_end_by_itself_is_told(
    docker_host: str, client: docker.APIClient, name: str, open_watcher: Callable[[str], Watcher]
) -> None:
    watcher = open_watcher(docker_host)
    container_id = client.create_container(BASE, ["false"], name=name)["Id"]
    client.start(container_id)
    assert watcher.actions(container_id, until="die")[-1] == ("die", name)


def test_stop_ends_it_without_an_error_while_nothing_happens(
    docker_host: str, open_watcher: Callable[[str], Watcher]
) -> None:
    watcher = open_watcher(docker_host)
    assert not watcher.result.done()
    watcher.stop.set()
    watcher.result.result(timeout=SECONDS)


def test_stop_before_the_beginning_ends_it_too() -> None:
    stop = threading.Event()
    stop.set()
    watch("unix:///nonexistent/docker.sock", lambda event: None, stop=stop)


def test_a_docker_that_is_away_is_said_so() -> None:
    with pytest.raises(EngineUnavailable, match="try again"):
        watch("unix:///nonexistent/docker.sock", lambda event: None, stop=threading.Event())


def test_a_docker_that_goes_away_ends_it_and_the_next_one_follows_on(
    link: DockerLink, client: docker.APIClient, name: str, open_watcher: Callable[[str], Watcher]
) -> None:
    watcher = open_watcher(link.docker_host)
    link.cut()
    with pytest.raises(EngineUnavailable):
        watcher.result.result(timeout=SECONDS)
    with pytest.raises(EngineUnavailable):
        watcher.follow().result(timeout=SECONDS)
    link.restore()
    watcher.follow()
    watcher.wait_open()
    container_id = client.create_container(BASE, ["true"], name=name)["Id"]
    assert watcher.actions(container_id, until="create") == [("create", name)]


def test_what_happens_between_dockers_answer_and_its_listening_is_told(
    link: DockerLink, client: docker.APIClient, name: str, open_watcher: Callable[[str], Watcher]
) -> None:
    with link.hold(r"GET /v[^/]+/events") as hold:
        watcher = Watcher(link.docker_host)
        try:
            hold.wait_until_reached()
            container_id = client.create_container(BASE, ["true"], name=name)["Id"]
            hold.release()
            assert watcher.actions(container_id, until="create") == [("create", name)]
        finally:
            hold.release()
            watcher.close()


def test_an_error_of_who_is_told_comes_through_as_it_is(
    docker_host: str, client: docker.APIClient, name: str
) -> None:
    opened = threading.Event()

    def fail(event: ContainerEvent) -> None:
        raise ZeroDivisionError

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(watch, docker_host, fail, stop=threading.Event(), on_open=opened.set)
        assert opened.wait(SECONDS)
        client.create_container(BASE, ["true"], name=name)
        with pytest.raises(ZeroDivisionError):
            result.result(timeout=SECONDS)


def test_nothing_is_left_behind_when_it_ends(
    docker_host: str, open_watcher: Callable[[str], Watcher]
) -> None:
    before = set(threading.enumerate())
    watcher = open_watcher(docker_host)
    watcher.close()
    wait_for(lambda: set(threading.enumerate()) <= before, "its threads have ended")
