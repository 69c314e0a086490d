"""The thread of a student with NVIDIA's older hook, on Debian 12's own Docker, which has no CDI.

Once with nothing but the hook on dockerd's PATH, which `docker info` does not show, and once with NVIDIA's
runtime as the default one, under which the environment of every container is a request for GPUs. The base
image asks for all of them there, as NVIDIA's own images do.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import docker
import pytest

from ds01_spawner.catalog import parse_catalog, resolve

from ..conftest import PrivateEngine, run_tool
from ..legacy import engine as legacy
from ..legacy.toolkit import Toolkit, giving_all, install
from .conftest import OpenHub, signed_in
from .hub import Hub
from .lab import ARCHITECTURE, FRAMEWORK, UNKNOWN_TO_DOCKER, VERSION, Lab, read_catalog
from .student import Student
from .test_first_light import LOOK_AROUND, check_inside, leave_a_file
from .waiting import wait_for

pytestmark = pytest.mark.slow

PLAIN_BASE = "ds01-test/plain-base:latest"
HOOK_ALONE, DEFAULT_RUNTIME = "the hook alone", "the default runtime"

# What a program finds that looks for GPUs.
LOOK_FOR_GPUS = """
import glob, json, re, shutil, subprocess
say = lambda *command: subprocess.run(command, capture_output=True, text=True, check=True).stdout
listing = say("nvidia-smi", "-L") if shutil.which("nvidia-smi") else ""
nodes = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/nvidia-caps/*")
print(json.dumps({"listed": re.findall(r"MIG-[^)]+", listing), "nodes": sorted(nodes)}))
"""
NOTHING: dict[str, list[str]] = {"listed": [], "nodes": []}


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Toolkit:
    """NVIDIA's programs as our stand-ins, and the box file that they read."""
    return install(tmp_path_factory.mktemp("toolkit"))


@pytest.fixture(scope="module", params=[HOOK_ALONE, DEFAULT_RUNTIME])
def legacy_engine(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, toolkit: Toolkit
) -> PrivateEngine:
    """Debian 12's Docker, with the hook and with a base image that asks for all GPUs."""
    # Hubs are cleared up at the end of the run, and need their Engine for it.
    pytestconfig.add_cleanup(legacy.take_down)
    engine = legacy.bring_up(toolkit, with_runtime=request.param == DEFAULT_RUNTIME)
    make_base_image(engine)
    return engine


def make_base_image(engine: PrivateEngine) -> None:
    """Make the catalog's image; it stays in the Engine, and so does what is built on it."""
    arguments = ("ensure", "--docker-host", engine.docker_host, "--tag", PLAIN_BASE)
    ensured = run_tool("base_image", *arguments)
    assert ensured.returncode == 0, ensured.stderr
    name = resolve(parse_catalog(read_catalog()), FRAMEWORK, VERSION, ARCHITECTURE).image
    text = f"FROM {PLAIN_BASE}\nENV NVIDIA_VISIBLE_DEVICES=all\n"
    with connected(engine) as client:
        said = list(client.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, decode=True))
    assert "error" not in said[-1], said


@contextmanager
def connected(engine: PrivateEngine) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=engine.docker_host, version="auto")
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def legacy_hub(legacy_engine: PrivateEngine, toolkit: Toolkit, open_hub: OpenHub) -> Iterator[Hub]:
    """A Hub on it: `auto` finds the runtime, and the hook alone has to be named."""
    mode = "auto" if has_nvidia_runtime(legacy_engine) else "nvidia"
    hub = open_hub(
        engine=legacy_engine, settings={"DS01": {"device_mode": mode}}, prepare=lambda lab: tell(lab, toolkit)
    )
    yield hub
    hub.stop()


def tell(lab: Lab, toolkit: Toolkit) -> None:
    """Let the hook know the lab's GPUs but for one slice, as when they were cut anew a moment ago."""
    lines = lab.box_text.splitlines(keepends=True)
    toolkit.box.write_text("".join(line for line in lines if f"profile={UNKNOWN_TO_DOCKER} " not in line))


def has_nvidia_runtime(engine: PrivateEngine) -> bool:
    with connected(engine) as client:
        return "nvidia" in client.info()["Runtimes"]


@pytest.fixture
def guest(legacy_hub: Hub) -> Iterator[Student]:
    """A student who is new to that Hub."""
    with signed_in(legacy_hub) as student:
        yield student


def look_for_gpus(student: Student) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(student.run(LOOK_FOR_GPUS))
    return found


def check_slice(hub: Hub, student: Student) -> None:
    """Fail unless her server has exactly the slice of its lease."""
    (lease,) = hub.leases(student.person)
    assert (lease.state.value, len(lease.slots)) == ("active", 1)
    assert look_for_gpus(student) == {
        "listed": list(lease.slots),
        "nodes": hub.lab.device_nodes(lease.slots),
    }
    inspected = hub.container(student.person)
    assert inspected["Id"] == lease.container_id
    (request,) = inspected["HostConfig"]["DeviceRequests"]
    assert (request["Driver"], request["DeviceIDs"]) == ("nvidia", list(lease.slots))


def test_a_student_signs_in_posts_the_form_works_on_her_slice_and_stops(
    legacy_hub: Hub, guest: Student
) -> None:
    leave_a_file(guest.person)
    assert "1g.10gb" in guest.form().text
    assert guest.post_form({"profile": "small"}).status_code == 200
    guest.wait_ready()
    assert guest.page(f"/user/{guest.name}/lab").status_code == 200
    check_slice(legacy_hub, guest)
    (lease,) = legacy_hub.leases(guest.person)
    found = json.loads(guest.run(LOOK_AROUND))
    # Docker's request overrules our `void`, for the hook and for her programs.
    assert found["visible devices"] == lease.slots[0]
    check_inside(found | {"visible devices": "void"}, guest.person, legacy_hub.lab.device_nodes(lease.slots))
    guest.stop()
    assert legacy_hub.traces(guest.person) == {}
    with legacy_hub.ledger() as ledger:
        assert lease.slots[0] not in ledger.view(guest.name).taken


def look_without_us(hub: Hub) -> dict[str, list[str]]:
    """Return what a container of the base image finds that somebody else started, with nothing asked for."""
    made = hub.docker.create_container(hub.lab.base.image, ["python3", "-c", LOOK_FOR_GPUS])["Id"]
    try:
        hub.docker.start(made)
        assert hub.docker.wait(made)["StatusCode"] == 0
        found: dict[str, list[str]] = json.loads(hub.docker.logs(made))
        return found
    finally:
        hub.docker.remove_container(made, force=True)


def test_a_server_without_a_gpu_gets_none_of_those_that_its_image_asks_for(
    legacy_hub: Hub, legacy_engine: PrivateEngine, guest: Student
) -> None:
    # Without us the default runtime gives it everything: the danger is real.
    assert bool(look_without_us(legacy_hub)["nodes"]) == has_nvidia_runtime(legacy_engine)
    guest.start({"profile": "cpu"})
    assert look_for_gpus(guest) == NOTHING


def test_a_server_with_two_slices_has_both(legacy_hub: Hub, guest: Student) -> None:
    guest.start({"gpu_profile": "1g.10gb", "gpu_count": 2})
    (lease,) = legacy_hub.leases(guest.person)
    assert len(lease.slots) == 2
    found = look_for_gpus(guest)
    assert sorted(found["listed"]) == sorted(lease.slots)
    assert found["nodes"] == legacy_hub.lab.device_nodes(lease.slots)


@pytest.mark.parametrize("legacy_engine", [DEFAULT_RUNTIME], indirect=True, scope="module")
def test_a_default_runtime_that_gives_gpus_unasked_is_found_out(
    legacy_hub: Hub, toolkit: Toolkit, guest: Student
) -> None:
    mark = legacy_hub.log_mark()
    with giving_all(toolkit):
        answer = guest.ask_start({"profile": "cpu"})
        assert "saw a GPU although none was leased for it" in guest.read_refusal(answer)
        guest.wait_gone()
        assert legacy_hub.traces(guest.person) == {}
    assert answer.status_code == 503
    told = legacy_hub.log_since(mark)
    assert f"self-test of jupyter._.{guest.person.uid}: nvidia0, nvidia1, nvidia2" in told
    assert "default runtime" in told
    with legacy_hub.ledger() as ledger:
        assert ledger.marks() == ()
        ended = [event for event in ledger.history(user=guest.name) if event.kind == "released"]
    assert "nvidia0, nvidia1, nvidia2" in ended[-1].why
    guest.start({"profile": "cpu"})


@pytest.mark.parametrize("legacy_engine", [DEFAULT_RUNTIME], indirect=True, scope="module")
def test_a_slice_that_brings_other_gpus_with_it_is_out_of_use(
    legacy_hub: Hub, toolkit: Toolkit, guest: Student
) -> None:
    (large,) = legacy_hub.lab.slots("2g.20gb")
    with giving_all(toolkit):
        answer = guest.ask_start({"profile": "large"})
        assert "saw a GPU that was not leased for it" in guest.read_refusal(answer)
        guest.wait_gone()
    assert legacy_hub.traces(guest.person) == {}
    with legacy_hub.ledger() as ledger:
        (mark,) = ledger.marks()
        assert (mark.slot, mark.kind.value, mark.who) == (large, "drained", "self-test")
        ledger.unmark(mark, datetime.now(timezone.utc), why="the runtime is mended")
    guest.start({"profile": "large"})
    check_slice(legacy_hub, guest)


def test_a_device_that_the_hook_does_not_know(legacy_hub: Hub, guest: Student) -> None:
    mark = legacy_hub.log_mark()
    answer = guest.ask_start({"gpu_profile": UNKNOWN_TO_DOCKER})
    assert "tell your admin" in guest.read_refusal(answer)
    assert answer.status_code == 503
    (uuid,) = legacy_hub.lab.slots(UNKNOWN_TO_DOCKER)
    assert f"{uuid}: unknown device" in legacy_hub.log_since(mark)
    guest.wait_gone()
    assert legacy_hub.traces(guest.person) == {}


@pytest.mark.parametrize("how", [(), ("--kill",)], ids=["gracefully", "by kill -9"])
def test_dockerd_ends_and_comes_back_under_a_server(
    legacy_hub: Hub, guest: Student, how: tuple[str, ...]
) -> None:
    guest.start({"profile": "large"})
    check_slice(legacy_hub, guest)
    legacy.call("restart", *how)
    # Without live-restore a container ends with its dockerd, or when that is back.
    guest.wait_gone()
    wait_for(lambda: not legacy_hub.traces(guest.person), "container, lease and tag have gone")
    guest.start({"profile": "large"})
    check_slice(legacy_hub, guest)
    guest.stop()
    assert legacy_hub.traces(guest.person) == {}


@pytest.mark.parametrize("legacy_engine", [HOOK_ALONE], indirect=True, scope="module")
def test_the_hook_alone_has_to_be_named(
    legacy_engine: PrivateEngine, toolkit: Toolkit, open_hub: OpenHub
) -> None:
    hub = open_hub(engine=legacy_engine)
    with signed_in(hub) as student:
        mark = hub.log_mark()
        answer = student.ask_start({"profile": "small"})
        assert "cannot hand out GPUs" in student.read_refusal(answer)
        assert answer.status_code == 503
        assert "c.DS01.device_mode" in hub.log_since(mark)
        assert hub.traces(student.person) == {}
    hub.stop()
