"""Which GPUs a container can see, looked at from outside, on a real Engine with CDI."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from ds01_spawner.adapters.device_nodes import read_device_nodes
from ds01_spawner.adapters.engine import DockerEngine

from ..conftest import PrivateEngine, run_tool
from ..hub.waiting import wait_for
from ..simulator.cdi import make_node

pytestmark = pytest.mark.docker

BASE = "ds01-test/no-python:latest"
SLICE = ("nvidia0", "nvidia-cap66", "nvidia-cap67")
# Of the driver's own, and what another driver might have at the same numbers.
OTHERS = [
    {"path": "/dev/nvidiactl", "type": "c", "major": 195, "minor": 255},
    {"path": "/dev/nvidia-modeset", "type": "c", "major": 195, "minor": 254},
    {"path": "/dev/nvidia-uvm", "type": "c", "major": 235, "minor": 0},
    {"path": "/dev/other", "type": "c", "major": 196, "minor": 7},
    {"path": "/dev/block", "type": "b", "major": 195, "minor": 8},
]


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


Give = Callable[..., str]


@pytest.fixture
def give(private_engine: PrivateEngine) -> Iterator[Give]:
    """A function that makes a CDI device of some nodes, and returns its name for Docker."""
    made: list[Path] = []

    def write(*names: str, others: list[dict[str, object]] | None = None) -> str:
        nodes = [*(make_node(name) for name in names), *(others or [])]
        device = f"MIG-{secrets.token_hex(8)}"
        spec = {
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": [{"name": device, "containerEdits": {"deviceNodes": nodes}}],
        }
        file = private_engine.cdi_directory / f"{device}.json"
        made.append(file)
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(spec))
        unfinished.rename(file)
        return f"nvidia.com/gpu={device}"

    yield write
    for file in made:
        file.unlink()


Run = Callable[..., str]


@pytest.fixture
def run(client: docker.APIClient) -> Iterator[Run]:
    """A function that starts a container with a CDI device; removed at the end."""
    made: list[str] = []

    def start(*command: str, device: str = "", user: str = "", **host_config: object) -> str:
        requests = [{"Driver": "cdi", "DeviceIDs": [device]}] if device else []
        settings = client.create_host_config(device_requests=requests, init=True, **host_config)
        words = list(command) or ["sleep", "60"]
        made.append(client.create_container(BASE, words, user=user, host_config=settings)["Id"])
        client.start(made[-1])
        return made[-1]

    yield start
    for container_id in made:
        client.remove_container(container_id, force=True, v=True)


def nodes_of(engine: DockerEngine, container_id: str) -> set[str]:
    found = engine.visible_devices(container_id)
    assert found is not None
    assert not found.privileged
    return set(found.nodes)


def test_a_container_shows_the_nodes_that_docker_gave_it(engine: DockerEngine, give: Give, run: Run) -> None:
    assert nodes_of(engine, run()) == set()
    assert nodes_of(engine, run(device=give(*SLICE))) == set(SLICE)


def test_what_every_program_on_a_gpu_needs_is_no_gpu(engine: DockerEngine, give: Give, run: Run) -> None:
    assert nodes_of(engine, run(device=give("nvidia253", others=OTHERS))) == {"nvidia253"}


def test_a_node_is_named_by_its_number_whatever_it_is_called(
    engine: DockerEngine, give: Give, run: Run
) -> None:
    renamed = [
        {**make_node("nvidia5"), "path": "/dev/nvidia0"},
        {**make_node("nvidia6"), "path": "/dev/a-sound-card"},
        {**make_node("nvidia-cap9"), "path": "/dev/nvidia-caps/other"},
    ]
    assert nodes_of(engine, run(device=give(others=renamed))) == {"nvidia5", "nvidia6", "nvidia-cap9"}


def test_a_container_that_has_ended_shows_nothing(
    engine: DockerEngine, client: docker.APIClient, run: Run
) -> None:
    ended = run("true")
    client.wait(ended)
    assert engine.visible_devices(ended) is None
    assert engine.visible_devices("0" * 64) is None


def test_a_privileged_container_is_told(engine: DockerEngine, give: Give, run: Run) -> None:
    found = engine.visible_devices(run(device=give(*SLICE), privileged=True))
    assert found is not None
    assert found.privileged
    assert found.nodes >= set(SLICE)


# As a person without rights in a container as ours are, she tries to hide a node and to make others.
TAMPER = """
cd /dev
rm -f nvidia0 nvidia-caps/nvidia-cap66
mv nvidia-caps other
mknod nvidia7 c 195 7
ln -s nvidia0 nvidia8
mknod /dev/shm/nvidia9 c 195 9
echo tried
sleep 60
"""


def test_who_has_no_rights_in_a_container_cannot_change_what_it_shows(
    engine: DockerEngine, client: docker.APIClient, give: Give, run: Run
) -> None:
    limits = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    tampered = run("sh", "-c", TAMPER, device=give(*SLICE), user="3000:3000", **limits)
    wait_for(lambda: b"tried" in client.logs(tampered), "she has tried")
    refused = re.findall(rb"Permission denied|not permitted", client.logs(tampered))
    assert len(refused) == 6
    assert nodes_of(engine, tampered) == set(SLICE)


def test_another_process_is_not_taken_for_the_containers(client: docker.APIClient, run: Run) -> None:
    mine, others = run(), run()
    pid = client.inspect_container(others)["State"]["Pid"]
    assert read_device_nodes(pid, others) == frozenset()
    with pytest.raises(ProcessLookupError):
        read_device_nodes(pid, mine)


LOOK = """
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.errors import EngineUnavailable
try:
    print(DockerEngine(docker_host={host!r}).visible_devices({container!r}))
except EngineUnavailable as exc:
    print(exc.message, exc.detail)
"""


def test_who_does_not_see_dockers_processes_does_not_say_that_all_is_well(docker_host: str, run: Run) -> None:
    code = LOOK.format(host=docker_host, container=run())
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "could not be checked" in said
    assert "see the same processes" in said
