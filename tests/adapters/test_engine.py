"""What we ask of Docker, asked of a real one."""

from __future__ import annotations

import io
import secrets
import socket
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import docker
import docker.errors
import pytest

from ds01_spawner import mlc
from ds01_spawner.adapters.engine import DockerEngine, File
from ds01_spawner.errors import EngineUnavailable, ImageFailed, NameTaken
from ds01_spawner.model import Container

from ..conftest import PrivateEngine, run_tool
from ..hub.docker_link import DockerLink
from ..hub.waiting import wait_for

pytestmark = pytest.mark.docker

BASE = "ds01-test/no-python:latest"
PASSWD = ("/etc/passwd",)
INSIDE = ("/etc/passwd", "/opt/ds01/start.py")


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    tags = ["--no-python", "--tag", BASE]
    ensured = run_tool("base_image", "ensure", "--docker-host", private_engine.docker_host, *tags)
    assert ensured.returncode == 0, ensured.stderr
    return private_engine.docker_host


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=docker_host, version="auto")
    yield found
    found.close()


@pytest.fixture
def engine(docker_host: str) -> DockerEngine:
    return DockerEngine(docker_host=docker_host)


@pytest.fixture
def create(client: docker.APIClient) -> Iterator[Callable[..., str]]:
    """A function that creates a container as anybody would; removed at the end."""
    made: list[str] = []

    def run(*command: str, **options: object) -> str:
        made.append(client.create_container(BASE, list(command) or ["sleep", "60"], **options)["Id"])
        return made[-1]

    yield run
    for container_id in made:
        try:
            client.remove_container(container_id, force=True, v=True)
        except docker.errors.NotFound:
            continue


@pytest.fixture
def commit(client: docker.APIClient, create: Callable[..., str]) -> Iterator[Callable[[str], str]]:
    """A function that gives an image in which a shell script ran as root, as a hostile build can."""
    made: list[str] = []

    def run(script: str) -> str:
        container_id = create("sh", "-c", script, user="0")
        client.start(container_id)
        assert client.wait(container_id)["StatusCode"] == 0
        made.append(client.commit(container_id)["Id"])
        return made[-1]

    yield run
    for image in made:
        client.remove_image(image, force=True)


def read(client: docker.APIClient, container_id: str, path: str) -> bytes:
    stream, _ = client.get_archive(container_id, path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        file = archive.extractfile(archive.getmembers()[0])
        assert file is not None
        return file.read()


def has_exited(engine: DockerEngine, container_id: str) -> bool:
    # Docker's list can be a moment behind.
    found = engine.container(container_id)
    return found is not None and found.state == "exited"


def read_until(terminal: socket.SocketIO, mark: bytes = b"") -> bytes:
    """Read a terminal until `mark` comes; without one until it is closed."""
    seen = b""
    while not mark or mark not in seen:
        chunk = terminal.read(4096)
        if not chunk:
            break
        seen += chunk
    return seen


def test_an_image_is_found_by_name_and_an_unknown_one_is_not(engine: DockerEngine) -> None:
    found = engine.image(BASE)
    assert found is not None
    assert engine.image(found.id) == found
    assert engine.image("ds01-test/nothing-like-it:latest") is None


def test_the_names_of_all_images_are_given_and_none_of_the_nameless(
    engine: DockerEngine, client: docker.APIClient, commit: Callable[[str], str]
) -> None:
    assert client.inspect_image(commit("true"))["RepoTags"] == []
    name = f"ds01-test/{secrets.token_hex(4)}:one"
    engine.tag(BASE, name)
    try:
        names = engine.image_names()
    finally:
        engine.untag(name)
    assert {BASE, name} <= names
    assert not [found for found in names if "<none>" in found]
    assert name not in engine.image_names()


def test_an_engine_with_cdi_hands_out_gpus_by_cdi(engine: DockerEngine) -> None:
    assert engine.device_mode() == "cdi"


def test_an_engine_that_is_away_is_said_so() -> None:
    away = DockerEngine(docker_host="unix:///nonexistent/docker.sock")
    with pytest.raises(EngineUnavailable, match="try again"):
        away.image(BASE)


def test_our_network_is_made_once_and_keeps_containers_apart(
    engine: DockerEngine, client: docker.APIClient
) -> None:
    name = f"ds01-test-{secrets.token_hex(4)}"
    try:
        assert engine.ensure_network(name) == engine.ensure_network(name)
        (found,) = client.networks(names=[name])
        assert found["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    finally:
        client.remove_network(name)


def test_a_taken_name_is_said_and_nothing_is_touched(
    engine: DockerEngine, create: Callable[..., str]
) -> None:
    name = f"taken-{secrets.token_hex(4)}._.4711"
    theirs = create(name=name)
    with pytest.raises(NameTaken, match=name):
        engine.create({"image": BASE, "name": name, "command": ["true"], "host_config": {}})
    found = engine.container(name)
    assert found is not None
    assert found.id == theirs


def test_removing_twice_is_removing_once(engine: DockerEngine, create: Callable[..., str]) -> None:
    container_id = create()
    engine.remove(container_id)
    engine.remove(container_id)
    assert engine.container(container_id) is None


class TestSnapshot:
    """Other tests may have containers of their own on the Engine: only one's own are looked at."""

    @pytest.fixture
    def link(self, docker_host: str, tmp_path: Path) -> Iterator[DockerLink]:
        link = DockerLink(tmp_path / "docker.sock", docker_host)
        yield link
        link.cut()

    @pytest.fixture
    def linked(self, link: DockerLink) -> DockerEngine:
        return DockerEngine(docker_host=link.docker_host)

    @staticmethod
    def find(engine: DockerEngine, container_id: str) -> Container | None:
        found = {container.id: container for container in engine.snapshot()}
        return found.get(container_id)

    def test_says_of_each_container_what_an_inspect_says_but_the_exit_code(
        self, engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
    ) -> None:
        gpus = {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "0:1"], "Capabilities": [["gpu"]]}
        config = client.create_host_config(device_requests=[gpus])
        pinning = create(labels={mlc.LEASE_LABEL: "a nonce"}, host_config=config)
        failed = create("false")
        client.start(failed)
        client.wait(failed)
        for container_id in (pinning, failed):
            expected = engine.container(container_id)
            assert expected is not None
            wanted = replace(expected, exit_code=0)
            wait_for(
                lambda one=container_id, wanted=wanted: self.find(engine, one) == wanted,
                f"the snapshot has {wanted}",
            )
        seen = self.find(engine, pinning)
        assert seen is not None
        assert (seen.nonce, seen.devices, seen.state) == ("a nonce", ("GPU-1", "0:1"), "created")

    def test_follows_state_and_name_without_asking_again(
        self, linked: DockerEngine, link: DockerLink, client: docker.APIClient, create: Callable[..., str]
    ) -> None:
        container_id, name = create(), f"renamed-{secrets.token_hex(4)}"
        assert self.find(linked, container_id) is not None
        client.start(container_id)
        client.rename(container_id, name)
        # An inspect of it would never come back.
        with link.hold(rf"GET /v[^/]+/containers/{container_id}/json"):
            seen = self.find(linked, container_id)
            assert seen is not None
            assert (seen.name, seen.state) == (name, "running")
            client.pause(container_id)
            paused = self.find(linked, container_id)
            assert paused is not None
            assert (paused.state, paused.is_running) == ("paused", True)
        client.unpause(container_id)

    def test_gives_the_own_name_of_a_container_that_another_one_links_to(
        self, engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
    ) -> None:
        name = f"linked-{secrets.token_hex(4)}"
        container_id = create(name=name)
        client.start(container_id)
        create(host_config=client.create_host_config(links={name: "alias"}))
        seen = self.find(engine, container_id)
        assert seen is not None
        assert seen.name == name

    def test_forgets_what_has_gone(self, engine: DockerEngine, create: Callable[..., str]) -> None:
        container_id = create()
        assert self.find(engine, container_id) is not None
        engine.remove(container_id)
        assert self.find(engine, container_id) is None

    def test_leaves_out_a_container_that_goes_between_list_and_inspect(
        self, linked: DockerEngine, link: DockerLink, client: docker.APIClient, create: Callable[..., str]
    ) -> None:
        going, staying = create(), create()
        with ThreadPoolExecutor(1) as pool, link.hold(rf"GET /v[^/]+/containers/{going}/json") as hold:
            snapshot = pool.submit(linked.snapshot)
            hold.wait_until_reached()
            client.remove_container(going)
            hold.release()
            seen = {container.id for container in snapshot.result()}
        assert staying in seen
        assert going not in seen

    def test_is_none_at_all_when_docker_goes_away_in_the_middle(
        self, linked: DockerEngine, link: DockerLink, create: Callable[..., str]
    ) -> None:
        container_id = create()
        with ThreadPoolExecutor(1) as pool, link.hold(rf"GET /v[^/]+/containers/{container_id}/json") as hold:
            snapshot = pool.submit(linked.snapshot)
            hold.wait_until_reached()
            link.cut()
            hold.release()
            with pytest.raises(EngineUnavailable):
                snapshot.result()
        with pytest.raises(EngineUnavailable):
            linked.snapshot()
        link.restore()
        assert self.find(linked, container_id) is not None

    def test_may_be_taken_by_many_threads_while_containers_come_and_go(
        self, engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
    ) -> None:
        staying = [create() for _ in range(3)]
        with ThreadPoolExecutor(4) as pool:
            snapshots = [pool.submit(engine.snapshot) for _ in range(20)]
            for _ in range(5):
                client.remove_container(create())
            for snapshot in snapshots:
                assert {container.id for container in snapshot.result()} >= set(staying)


def test_a_label_finds_its_containers_also_stopped_ones(
    engine: DockerEngine, create: Callable[..., str]
) -> None:
    nonce = secrets.token_hex(8)
    container_id = create(labels={mlc.LEASE_LABEL: nonce})
    (found,) = engine.containers(label=f"{mlc.LEASE_LABEL}={nonce}")
    assert (found.id, found.nonce) == (container_id, nonce)


def test_files_go_into_a_created_container_with_their_modes(
    engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
) -> None:
    container_id = create("stat", "-c", "%a %u %g", "/opt/ds01/mark")
    engine.put_files(container_id, (File(path="/opt/ds01/mark", content=b"hers", mode=0o640),))
    assert read(client, container_id, "/opt/ds01/mark") == b"hers"
    client.start(container_id)
    client.wait(container_id)
    assert client.logs(container_id).strip() == b"640 0 0"


def test_a_file_in_a_running_container_is_written_as_its_user_and_never_as_root(
    engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
) -> None:
    container_id = create(user="1234:1234")
    hers = File(path="/opt/ds01/hers", content=b"{}", uid=1234, gid=1234)
    engine.put_files(container_id, (hers, File(path="/opt/ds01/roots", content=b"root's")))
    client.start(container_id)
    hostile = '"$(id)" `id` \'; id; %s \\n'
    engine.write_as_user(container_id, "/opt/ds01/hers", hostile)
    engine.write_as_user(container_id, "/opt/ds01/roots", "hers")
    assert read(client, container_id, "/opt/ds01/hers").decode() == f"{hostile}\n"
    assert read(client, container_id, "/opt/ds01/roots") == b"root's"


def test_writing_into_a_container_that_cannot_says_so_and_into_one_that_went_does_not(
    engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
) -> None:
    container_id = create()
    client.start(container_id)
    client.pause(container_id)
    with pytest.raises(EngineUnavailable):
        engine.write_as_user(container_id, "/tmp/mark", "hers")
    client.unpause(container_id)
    client.remove_container(container_id, force=True)
    engine.write_as_user(container_id, "/tmp/mark", "hers")


class TestFilesOfAnImage:
    """They are read, and later written, as root: no symlink of a student's image may lead elsewhere."""

    def test_are_read_and_an_absent_one_is_empty(self, engine: DockerEngine) -> None:
        image = engine.image(BASE)
        assert image is not None
        found = engine.image_files(image.id, INSIDE)
        assert found["/etc/passwd"].startswith(b"root:x:0:0:")
        assert found["/opt/ds01/start.py"] == b""

    @pytest.mark.parametrize(
        "script",
        [
            "mkdir -p /workspace && ln -s /workspace /opt/ds01",
            "mkdir -p /workspace && rmdir /opt && ln -s /workspace /opt",
            "mkdir -p /opt && touch /opt/ds01",
            "ln -s /nowhere /opt/ds01",
        ],
    )
    def test_a_directory_that_is_none_is_refused(
        self, engine: DockerEngine, commit: Callable[[str], str], script: str
    ) -> None:
        with pytest.raises(ImageFailed, match="replaces the directory /opt"):
            engine.image_files(commit(script), INSIDE)

    def test_a_link_in_place_of_a_file_reads_as_empty(
        self, engine: DockerEngine, commit: Callable[[str], str]
    ) -> None:
        image = commit("rm /etc/passwd && ln -s /workspace/passwd /etc/passwd")
        assert engine.image_files(image, PASSWD) == {"/etc/passwd": b""}


class TestStopWithWords:
    """Somebody has a shell in the container, as `mlc-open` opens it, while it is stopped."""

    WORDS = "Your slot was given away. $(touch /opt/oops) `id` \"'; %s \\n"

    @pytest.fixture
    def running(self, client: docker.APIClient, create: Callable[..., str]) -> str:
        """A container as ours are: without capabilities, its user no one's name."""
        config = client.create_host_config(init=True, cap_drop=["ALL"], security_opt=["no-new-privileges"])
        container_id = create(user="4711:4711", host_config=config)
        client.start(container_id)
        return container_id

    @staticmethod
    def open_shell(client: docker.APIClient, container_id: str) -> socket.SocketIO:
        made = client.exec_create(
            container_id, ["sh", "-c", "echo ready; exec sh"], stdin=True, tty=True, user="4711:4711"
        )
        terminal: socket.SocketIO = client.exec_start(made["Id"], socket=True, tty=True)
        assert read_until(terminal, b"ready")
        return terminal

    def test_tells_every_terminal_and_stops(
        self, engine: DockerEngine, client: docker.APIClient, running: str
    ) -> None:
        terminals = [self.open_shell(client, running) for _ in range(2)]
        engine.stop_with_words(running, self.WORDS, grace_seconds=1)
        for terminal in terminals:
            assert f"\n{self.WORDS}\r" in read_until(terminal).decode()
            terminal.close()
        assert has_exited(engine, running)
        assert not [item for item in client.diff(running) or [] if "oops" in item["Path"]]

    def test_a_terminal_that_holds_its_output_holds_nothing_up(
        self, engine: DockerEngine, client: docker.APIClient, running: str
    ) -> None:
        held, other = self.open_shell(client, running), self.open_shell(client, running)
        held._sock.send(b"\x13")  # type: ignore[attr-defined]
        engine.stop_with_words(running, self.WORDS, grace_seconds=1)
        assert self.WORDS in read_until(other).decode()
        assert has_exited(engine, running)
        held.close()
        other.close()

    @pytest.mark.parametrize("command", [None, ["rm", "/bin/sh"]])
    def test_where_nobody_listens_and_where_there_is_no_shell_it_just_stops(
        self,
        engine: DockerEngine,
        client: docker.APIClient,
        create: Callable[..., str],
        command: list[str] | None,
    ) -> None:
        container_id = create(user="0")
        client.start(container_id)
        if command is not None:
            client.exec_start(client.exec_create(container_id, command)["Id"])
        engine.stop_with_words(container_id, self.WORDS, grace_seconds=0)
        assert has_exited(engine, container_id)

    def test_a_paused_container_stops_too(
        self, engine: DockerEngine, client: docker.APIClient, running: str
    ) -> None:
        client.pause(running)
        engine.stop_with_words(running, self.WORDS, grace_seconds=0)
        assert has_exited(engine, running)

    def test_one_that_stopped_or_has_gone_is_no_error(
        self, engine: DockerEngine, create: Callable[..., str]
    ) -> None:
        container_id = create()
        engine.stop_with_words(container_id, self.WORDS)
        engine.remove(container_id)
        engine.stop_with_words(container_id, self.WORDS)

    def test_a_docker_that_is_away_is_said_so(self) -> None:
        away = DockerEngine(docker_host="unix:///nonexistent/docker.sock")
        with pytest.raises(EngineUnavailable):
            away.stop_with_words("some id", self.WORDS)


def test_ulimits_are_tried_once_and_known_ones_work(engine: DockerEngine) -> None:
    assert engine.supports_ulimits(BASE, {"nofile": 1024})
    assert engine.supports_ulimits("ds01-test/nothing-like-it:latest", {"nofile": 1024})


def test_a_base_without_python_is_probed_as_such(engine: DockerEngine) -> None:
    assert engine.probe(BASE).python == ""


def test_a_base_that_brings_instructions_of_its_own_is_refused(
    engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
) -> None:
    changes = ["ONBUILD RUN --mount=type=secret,id=pip_config cp /run/secrets/pip_config /stolen"]
    image_id = client.commit(create(), changes=changes)["Id"]
    try:
        with pytest.raises(ImageFailed, match="ONBUILD") as caught:
            engine.probe(image_id)
        assert "/stolen" in caught.value.detail
    finally:
        client.remove_image(image_id)
