"""What we ask of Docker, asked of a real one."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Callable, Iterator

import docker
import docker.errors
import pytest

from ds01_spawner import mlc
from ds01_spawner.adapters.engine import DockerEngine, File
from ds01_spawner.errors import EngineUnavailable, ImageFailed, NameTaken

from ..conftest import PrivateEngine, run_tool

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


def test_an_image_is_found_by_name_and_an_unknown_one_is_not(engine: DockerEngine) -> None:
    found = engine.image(BASE)
    assert found is not None
    assert engine.image(found.id) == found
    assert engine.image("ds01-test/nothing-like-it:latest") is None


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


def test_states_and_running_containers_are_what_docker_says(
    engine: DockerEngine, client: docker.APIClient, create: Callable[..., str]
) -> None:
    created, running = create(), create()
    client.start(running)
    states = engine.container_states()
    assert (states[created], states[running]) == ("created", "running")
    assert running in {container.id for container in engine.running_containers(but=())}
    assert running not in {container.id for container in engine.running_containers(but={running})}


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


def test_ulimits_are_tried_once_and_known_ones_work(engine: DockerEngine) -> None:
    assert engine.supports_ulimits(BASE, {"nofile": 1024})
    assert engine.supports_ulimits("ds01-test/nothing-like-it:latest", {"nofile": 1024})


def test_a_base_without_python_is_probed_as_such(engine: DockerEngine) -> None:
    assert engine.probe(BASE).python == ""
