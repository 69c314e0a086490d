"""What outlives a stop over SSH: a held container and its slot, taken up again, replaced, or given back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ds01_spawner.model import Lease, LeaseState

from .conftest import ONLY_LOOKS, OpenHub
from .docker_link import DockerLink
from .hub import Hub
from .obstacles import gate_at, jupyter_configured, jupyter_that_starts_slowly
from .student import Student
from .waiting import wait_for

pytestmark = pytest.mark.slow

SMALL: Mapping[str, object] = {"profile": "small"}
GRACE_SECONDS = 5
# Long enough to be seen while it lasts, on a busy machine too.
SHORT_HOLD = "5s"


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub of this module's own: it is the student who starts what the Hub forgot, not the service."""
    return open_hub(settings={"JupyterHub": {"load_roles": ONLY_LOOKS}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A stopped container that is kept, as Docker described it while it ran, and its lease now."""

    running: Mapping[str, Any]
    lease: Lease

    @property
    def id(self) -> str:
        return str(self.running["Id"])


def hold(hub: Hub, student: Student, server: str = "", *, until: str = "1h", **limits: object) -> Held:
    """Let a student start a server and stop its container over SSH; the Hub notices, and it is held."""
    hub.lab.set_limits(student.person, gpu_hold_after_stop=until, **limits)
    student.start(SMALL, server)
    name = f"{server or 'jupyter'}._.{student.person.uid}"
    running = hub.docker.inspect_container(name)
    hub.docker.stop(name, timeout=GRACE_SECONDS)
    student.wait_gone(server)
    (lease,) = hub.leases(student.person)
    assert lease.state is LeaseState.HELD
    assert lease.container_id == running["Id"]
    return Held(running=running, lease=lease)


def start_over_ssh(hub: Hub, held: Held) -> dict[str, Any]:
    """Start a held container as `mlc-start` does; returns Docker's inspect of it."""
    hub.docker.start(held.id)
    found: dict[str, Any] = hub.docker.inspect_container(held.id)
    assert found["State"]["Running"]
    return found


def taken_slots(hub: Hub, student: Student) -> frozenset[str]:
    with hub.ledger() as ledger:
        return frozenset(ledger.view(student.name).taken)


def check_ended(hub: Hub, student: Student, held: Held) -> None:
    """Fail unless the held container, its tag and its lease have gone, and its slot is free."""
    assert hub.traces(student.person) == {}
    assert not taken_slots(hub, student) & set(held.lease.slots)


def check_replaced(hub: Hub, student: Student, held: Held) -> Lease:
    """Fail unless a new container runs in place of the held one, on a lease of its own; returns that."""
    (inspected,) = hub.containers(student.person)
    assert inspected["Id"] != held.id
    assert student.run("print('new')") == "new\n"
    (lease,) = hub.leases(student.person)
    assert (lease.state, lease.container_id) == (LeaseState.ACTIVE, inspected["Id"])
    with hub.ledger() as ledger:
        before = ledger.lease(held.lease.id)
    assert before is not None
    assert before.state is LeaseState.RELEASED
    return lease


def check_serves(hub: Hub, student: Student, held: Held) -> dict[str, Any]:
    """Fail unless the held container runs as her server again, on its slot; returns Docker's inspect."""
    (inspected,) = hub.containers(student.person)
    assert inspected["Id"] == held.id
    assert student.run("print('again')") == "again\n"
    assert hub.takes_token_of(inspected)
    assert student.page(f"/user/{student.name}/lab").url.path == f"/user/{student.name}/lab"
    (lease,) = hub.leases(student.person)
    assert (lease.id, lease.slots) == (held.lease.id, held.lease.slots)
    assert (lease.state, lease.deadline) == (LeaseState.ACTIVE, None)
    return inspected


def test_a_container_stopped_over_ssh_is_held_with_its_slot_and_its_token(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    (inspected,) = hub.containers(student.person)
    assert (inspected["Id"], inspected["State"]["Status"]) == (held.id, "exited")
    assert held.lease.deadline is not None
    left = held.lease.deadline - datetime.now(timezone.utc)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    assert set(held.lease.slots) <= taken_slots(hub, student)
    assert hub.takes_token_of(inspected)
    assert hub.tags(student.person)


def test_a_start_of_the_same_options_resumes_it_and_a_stop_from_the_hub_ends_it(
    hub: Hub, student: Student
) -> None:
    held = hold(hub, student)
    student.start(SMALL)
    inspected = check_serves(hub, student, held)
    assert inspected["State"]["StartedAt"] > held.running["State"]["StartedAt"]
    student.stop()
    check_ended(hub, student, held)
    assert not hub.takes_token_of(inspected)


def test_it_can_be_held_and_resumed_more_than_once(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    for _ in range(2):
        student.start(SMALL)
        check_serves(hub, student, held)
        hub.docker.stop(held.id, timeout=GRACE_SECONDS)
        student.wait_gone()
        assert [lease.state for lease in hub.leases(student.person)] == [LeaseState.HELD]


def test_it_is_resumed_by_a_hub_that_was_restarted_meanwhile(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    hub.stop()
    hub.start()
    student.start(SMALL)
    check_serves(hub, student, held)


def test_a_start_with_another_gpu_profile_replaces_it(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    student.start({"profile": "large"})
    lease = check_replaced(hub, student, held)
    assert lease.slots == hub.lab.slots("2g.20gb")
    assert not taken_slots(hub, student) & set(held.lease.slots)


def test_a_workspace_that_is_another_directory_now_means_a_new_container(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    person = student.person
    person.workspace.rename(person.home / "workspace.before")
    person.workspace.mkdir()
    os.chown(person.workspace, person.uid, person.uid)
    student.start(SMALL)
    check_replaced(hub, student, held)
    student.run("open('/workspace/here', 'w').close()")
    assert (person.workspace / "here").exists()


def test_one_that_was_started_over_ssh_is_adopted_as_it_runs(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    before = start_over_ssh(hub, held)
    student.start(SMALL)
    assert check_serves(hub, student, held)["State"] == before["State"]


def test_one_that_runs_is_adopted_with_other_options_too_and_she_is_told(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    before = start_over_ssh(hub, held)
    messages = student.start_watched({"profile": "large"})
    assert "taken as it is" in " ".join(messages)
    assert check_serves(hub, student, held)["State"] == before["State"]


# The first is refused before anything is asked of Docker, the second while the start is under way.
@pytest.mark.parametrize(
    "options",
    [{"packages": ["x; curl y"]}, {"profile": "base", "base_image": "example.invalid/nothing:here"}],
    ids=["hostile package", "base image that is not there"],
)
def test_a_refused_start_leaves_a_forgotten_container_running(
    hub: Hub, student: Student, options: dict[str, object]
) -> None:
    held = hold(hub, student)
    before = start_over_ssh(hub, held)
    assert student.read_refusal(student.ask_start(options))
    student.wait_gone()
    (inspected,) = hub.containers(student.person)
    assert (inspected["Id"], inspected["State"]) == (held.id, before["State"])
    assert set(held.lease.slots) <= taken_slots(hub, student)
    student.start(SMALL)
    assert check_serves(hub, student, held)["State"] == before["State"]


def count_tokens(student: Student) -> int:
    """Return how many API tokens the Hub keeps for her, those of her servers included."""
    return len(student.api("GET", f"/users/{student.name}/tokens").json()["api_tokens"])


def test_a_refused_start_leaves_a_held_container_held(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    before = count_tokens(student)
    for _ in range(3):
        refused = student.ask_start({"packages": ["x; curl y"]})
        assert refused.status_code == 400
    assert hub.leases(student.person) == (held.lease,)
    assert count_tokens(student) == before
    student.start(SMALL)
    check_serves(hub, student, held)


def start_cpu_server(other: Student) -> None:
    other.start({"profile": "cpu"})


def test_a_hold_that_is_over_ends_at_the_next_start_of_anybody(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student, other = newcomer(), newcomer()
    held = hold(hub, student, until=SHORT_HOLD)
    deadline = held.lease.deadline
    assert deadline is not None
    wait_for(lambda: datetime.now(timezone.utc) > deadline, "the hold is over")
    start_cpu_server(other)
    check_ended(hub, student, held)


def test_a_hold_that_is_not_over_outlasts_another_ones_start(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student, other = newcomer(), newcomer()
    held = hold(hub, student)
    start_cpu_server(other)
    assert hub.leases(student.person) == (held.lease,)
    student.start(SMALL)
    check_serves(hub, student, held)


def test_one_that_was_removed_over_ssh_frees_its_slot_at_the_next_start(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student, other = newcomer(), newcomer()
    held = hold(hub, student)
    hub.docker.remove_container(held.id)
    start_cpu_server(other)
    check_ended(hub, student, held)


def test_a_start_that_the_held_one_leaves_no_room_for_names_it_and_its_time(
    hub: Hub, student: Student
) -> None:
    held = hold(hub, student, max_containers_per_user=1)
    assert held.lease.deadline is not None
    refused = student.ask_start({}, server="second")
    assert refused.status_code == 400
    sentence = student.read_refusal(refused, server="second")
    assert "your limit is 1" in sentence
    assert f"jupyter (until {held.lease.deadline.astimezone():%H:%M})" in sentence
    assert hub.leases(student.person) == (held.lease,)


def test_a_held_named_server_that_is_deleted_gives_all_back(hub: Hub, student: Student) -> None:
    held = hold(hub, student, "second")
    answer = delete_for_ever(student, "second")
    assert answer == 204
    check_ended(hub, student, held)


def delete_for_ever(student: Student, server: str) -> int:
    """Let the Hub forget a named server; returns the status of its answer."""
    return student.api("DELETE", f"/users/{student.name}/servers/{server}", {"remove": True}).status_code


@pytest.mark.parametrize("end", ["stopped", "deleted"])
def test_a_server_that_ends_while_docker_is_away_is_ended_when_docker_is_back(
    linked_hub: Hub, link: DockerLink, linked_student: Student, end: str
) -> None:
    student = linked_student
    student.start(SMALL, server="second")
    link.cut()
    try:
        if end == "stopped":
            assert student.ask_stop("second").status_code in (202, 204)
        else:
            assert delete_for_ever(student, "second") in (202, 204)
        student.wait_gone("second")
        (lease,) = linked_hub.leases(student.person)
        assert lease.state is LeaseState.ACTIVE
    finally:
        link.restore()
    # Nobody asks: the Hub tries again by itself.
    wait_for(lambda: not linked_hub.traces(student.person), "container, lease and tag have gone")


def test_a_held_server_that_is_deleted_while_docker_is_away_is_ended_when_docker_is_back(
    linked_hub: Hub, link: DockerLink, linked_student: Student
) -> None:
    student = linked_student
    held = hold(linked_hub, student, "second")
    link.cut()
    try:
        assert delete_for_ever(student, "second") == 204
        (lease,) = linked_hub.leases(student.person)
        assert (lease.id, lease.slots) == (held.lease.id, held.lease.slots)
    finally:
        link.restore()
    wait_for(lambda: not linked_hub.traces(student.person), "container, lease and tag have gone")


def test_an_adoption_that_is_cancelled_ends_the_container(linked_hub: Hub, linked_student: Student) -> None:
    student = linked_student
    held = hold(linked_hub, student)
    with gate_at(linked_hub.gateway) as gate, jupyter_that_starts_slowly(student.person, gate):
        start_over_ssh(linked_hub, held)
        gate.wait_until_reached()
        assert student.ask_start(SMALL).status_code in (201, 202)
        student.wait_for_step("waiting for Jupyter")
        assert student.ask_stop().status_code in (202, 204)
        student.wait_gone()
        wait_for(lambda: not linked_hub.traces(student.person), "nothing is left")
    check_ended(linked_hub, student, held)
    student.start(SMALL)


def test_a_resumption_that_is_cancelled_ends_the_container(
    linked_hub: Hub, link: DockerLink, linked_student: Student
) -> None:
    student = linked_student
    held = hold(linked_hub, student)
    with link.hold(rf"POST \S+/containers/{held.id}/start") as starting:
        assert student.ask_start(SMALL).status_code in (201, 202)
        starting.wait_until_reached()
        assert student.ask_stop().status_code in (202, 204)
        starting.release()
        student.wait_gone()
        wait_for(lambda: not linked_hub.traces(student.person), "nothing is left")
    check_ended(linked_hub, student, held)


def test_a_resumed_container_that_ends_at_once_is_not_held_again(hub: Hub, student: Student) -> None:
    held = hold(hub, student)
    with jupyter_configured(student.person, "import os; print('no more', flush=True); os._exit(3)"):
        assert "ended after its start: no more" in student.read_refusal(student.ask_start(SMALL))
    student.wait_gone()
    check_ended(hub, student, held)
    student.start(SMALL)
    check_replaced(hub, student, held)
