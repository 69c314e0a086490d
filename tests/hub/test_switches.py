"""What an admin may switch on, each seen in a real container, and what a server's own end looks like."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .conftest import OpenHub, signed_in
from .hub import Hub
from .obstacles import jupyter_configured
from .student import Student

pytestmark = pytest.mark.slow

# Where the engine may not set AIME's own ulimits, `open files` is what it can be asked for.
OPEN_FILES = 4096

SUDO = {"allow_sudo": True, "system_packages": ["sudo"]}
PROFILES = [
    {"display_name": "No GPU", "slug": "cpu", "default": True},
    {"display_name": "Root inside", "slug": "root-inside", "spawner_override": SUDO},
    {"display_name": "sudo, unused", "slug": "sudo", "spawner_override": {"system_packages": ["sudo"]}},
    {"display_name": "Host network", "slug": "network", "spawner_override": {"host_network": True}},
    {"display_name": "Host IPC", "slug": "ipc", "spawner_override": {"host_ipc": True}},
    {
        "display_name": "Few files",
        "slug": "few-files",
        "spawner_override": {"ulimits": {"nofile": OPEN_FILES}},
    },
]

SUDO_ID = """
import json, subprocess
said = subprocess.run(["sudo", "-n", "id", "-u"], capture_output=True, text=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([int(status["NoNewPrivs"]), said.returncode, said.stdout]))
"""

WRITE_AT_EXIT = """
import atexit, pathlib
atexit.register(lambda: pathlib.Path("/workspace/last-word").write_text("Jupyter ended by itself"))
"""


@pytest.fixture(scope="module")
def switched_hub(open_hub: OpenHub) -> Hub:
    """A Hub on which each switch has a profile."""
    return open_hub(settings={"DS01Spawner": {"profile_list": PROFILES}})


@pytest.fixture
def guest(switched_hub: Hub) -> Iterator[Callable[[], Student]]:
    """A function that gives one more student of that Hub, signed in."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(signed_in(switched_hub))


def test_with_sudo_allowed_she_can_become_root_inside(guest: Callable[[], Student]) -> None:
    student = guest()
    student.start({"profile": "root-inside"})
    assert json.loads(student.run(SUDO_ID)) == [0, 0, "0\n"]
    assert student.run("import os; print(os.getuid())") == f"{student.person.uid}\n"


def test_without_the_switch_an_installed_sudo_does_nothing(guest: Callable[[], Student]) -> None:
    student = guest()
    student.start({"profile": "sudo"})
    no_new_privileges, returncode, printed = json.loads(student.run(SUDO_ID))
    assert no_new_privileges == 1
    assert returncode != 0
    assert printed == ""


def address_of(hub: Hub, student: Student) -> str:
    """Return the address that a server was told to listen on."""
    environment = hub.container(student.person)["Config"]["Env"]
    (url,) = [entry for entry in environment if entry.startswith("JUPYTERHUB_SERVICE_URL=")]
    return str(url.partition("=")[2])


def test_on_the_hosts_network_servers_of_two_people_run_side_by_side(
    switched_hub: Hub, guest: Callable[[], Student]
) -> None:
    both = [guest(), guest()]
    for student in both:
        student.start({"profile": "network"})
        assert switched_hub.container(student.person)["HostConfig"]["NetworkMode"] == "host"
    assert len({address_of(switched_hub, student) for student in both}) == 2
    for student in both:
        assert student.page(f"/user/{student.name}/lab").status_code == 200
        assert student.run("import getpass; print(getpass.getuser())") == f"{student.name}\n"


def test_one_server_changes_between_its_own_network_and_the_hosts(
    switched_hub: Hub, guest: Callable[[], Student]
) -> None:
    student = guest()
    modes = {"network": "host", "cpu": switched_hub.lab.name}
    for profile in ("cpu", "network", "cpu"):
        student.start({"profile": profile})
        mode = switched_hub.container(student.person)["HostConfig"]["NetworkMode"]
        assert mode == modes[profile]
        assert student.run("print('reached')") == "reached\n"
        student.stop()


def test_a_server_on_the_hosts_network_outlives_a_restart_of_the_hub(
    switched_hub: Hub, guest: Callable[[], Student]
) -> None:
    student = guest()
    student.start({"profile": "network"})
    before = switched_hub.container(student.person)
    switched_hub.stop()
    switched_hub.start()
    assert student.server()["ready"]
    assert switched_hub.container(student.person)["State"] == before["State"]
    assert student.run("print('still here')") == "still here\n"


def test_on_the_hosts_network_a_held_container_is_resumed_too(
    switched_hub: Hub, guest: Callable[[], Student]
) -> None:
    student = guest()
    switched_hub.lab.set_limits(student.person, gpu_hold_after_stop="1h")
    student.start({"profile": "network"})
    before = switched_hub.container(student.person)
    switched_hub.docker.stop(before["Id"], timeout=5)
    student.wait_gone()
    student.start({"profile": "network"})
    assert switched_hub.container(student.person)["Id"] == before["Id"]
    assert student.run("print('again')") == "again\n"


def test_with_the_hosts_ipc_shared_memory_is_the_hosts(
    switched_hub: Hub, guest: Callable[[], Student]
) -> None:
    student = guest()
    student.start({"profile": "ipc"})
    assert switched_hub.container(student.person)["HostConfig"]["IpcMode"] == "host"
    namespace = student.run("import os; print(os.readlink('/proc/self/ns/ipc'))").strip()
    assert namespace == os.readlink("/proc/self/ns/ipc")


def test_ulimits_hold_inside(guest: Callable[[], Student]) -> None:
    student = guest()
    student.start({"profile": "few-files"})
    printed = student.run("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert printed == f"({OPEN_FILES}, {OPEN_FILES})\n"


def test_a_stop_from_the_hub_lets_jupyter_end_by_itself(
    switched_hub: Hub, guest: Callable[[], Student]
) -> None:
    # The init is PID 1 and gets SIGTERM; killed after the grace, Jupyter would have no last word.
    student = guest()
    with jupyter_configured(student.person, WRITE_AT_EXIT):
        student.start({"profile": "cpu"})
    last_word = student.person.workspace / "last-word"
    assert not last_word.exists()
    student.stop()
    assert last_word.read_text() == "Jupyter ended by itself"
    assert switched_hub.traces(student.person) == {}
