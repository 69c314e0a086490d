"""The service beside the Hub: what it sees, what it mends, and that nobody needs it to be there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from ds01_spawner.model import LeaseState, MarkKind

from .conftest import OpenHub, signed_in
from .docker_link import DockerLink
from .hub import Hub
from .lab import Person
from .student import Student, read_text
from .waiting import wait_for

SMALL = {"profile": "small"}
# JupyterHub looks after its services every half minute.
BACK_SECONDS = 60


def marks(hub: Hub) -> dict[str, MarkKind]:
    """Return the marks on slots, by UUID."""
    with hub.ledger() as ledger:
        return {mark.slot: mark.kind for mark in ledger.marks()}


@contextlib.contextmanager
def foreign_container(hub: Hub, person: Person, device: str) -> Iterator[str]:
    """A container that somebody started past the Hub, with one GPU or slice."""
    made = hub.docker.create_container(
        hub.lab.base.image,
        entrypoint=["sleep", "600"],
        name=f"mine._.{person.uid}",
        host_config=hub.docker.create_host_config(
            device_requests=[{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={device}"]}]
        ),
    )
    hub.docker.start(made["Id"])
    try:
        yield str(made["Id"])
    finally:
        hub.docker.remove_container(made["Id"], force=True)


def hold(hub: Hub, student: Student) -> str:
    """Start a server and stop its container over SSH; returns the id of what is held."""
    hub.lab.set_limits(student.person, gpu_hold_after_stop="1h")
    student.start(SMALL)
    container = str(hub.container(student.person)["Id"])
    hub.docker.stop(container, timeout=5)
    student.wait_gone()
    return container


def test_a_held_container_started_over_ssh_is_her_server_again_unasked(hub: Hub, student: Student) -> None:
    container = hold(hub, student)
    hub.docker.start(container)
    wait_for(lambda: student.server().get("ready"), "her server is back")
    assert student.run("print('again')") == "again\n"
    assert hub.container(student.person)["Id"] == container
    (lease,) = hub.leases(student.person)
    assert (lease.state, lease.container_id) == (LeaseState.ACTIVE, container)


def test_a_hold_that_is_over_ends_without_anybody_asking(hub: Hub, student: Student) -> None:
    hub.lab.set_limits(student.person, gpu_hold_after_stop="2s")
    student.start(SMALL)
    hub.docker.stop(hub.container(student.person)["Id"], timeout=5)
    wait_for(lambda: hub.traces(student.person) == {}, "nothing is left")


def test_a_container_that_runs_although_its_slot_was_given_away_is_stopped_and_its_owner_reads_why(
    hub: Hub, student: Student
) -> None:
    student.start(SMALL)
    container = hub.container(student.person)["Id"]
    (lease,) = hub.leases(student.person)
    with hub.ledger() as ledger:
        ledger.release(lease.id, datetime.now(timezone.utc), "as after a backup was played back")
    wait_for(lambda: hub.containers(student.person) == [], "it is gone")
    student.wait_gone()
    assert "its time was over" in read_text(student.form().text)
    student.start(SMALL)
    assert hub.container(student.person)["Id"] != container


def test_a_container_removed_behind_the_hubs_back_frees_its_slot(hub: Hub, student: Student) -> None:
    student.start(SMALL)
    hub.docker.remove_container(hub.container(student.person)["Id"], force=True)
    wait_for(lambda: hub.leases(student.person) == (), "its lease has ended")
    student.wait_gone()
    student.start(SMALL)


def test_a_slot_of_a_foreign_container_is_external_until_it_ends(hub: Hub, student: Student) -> None:
    (slot,) = hub.lab.slots("2g.20gb")
    with foreign_container(hub, student.person, slot):
        wait_for(lambda: marks(hub).get(slot) is MarkKind.EXTERNAL, "the slot is external")
        assert "all 1 in use" in read_text(student.form().text)
        refused = student.read_refusal(student.ask_start({"profile": "large"}))
        assert "2g.20gb" in refused
    wait_for(lambda: slot not in marks(hub), "the slot is free")
    student.start({"profile": "large"})


def test_two_on_one_slot_make_it_contested_and_both_run_on(hub: Hub, newcomer: Callable[[], Student]) -> None:
    student, other = newcomer(), newcomer()
    student.start({"profile": "large"})
    (slot,) = hub.lab.slots("2g.20gb")
    with foreign_container(hub, other.person, slot) as foreign:
        wait_for(lambda: marks(hub).get(slot) is MarkKind.CONTESTED, "the slot is contested")
        assert "used by mine._." in read_text(student.form("second").text)
        assert hub.docker.inspect_container(foreign)["State"]["Running"]
        assert student.run("print('here')") == "here\n"
        student.stop()
        wait_for(lambda: marks(hub).get(slot) is MarkKind.EXTERNAL, "the slot is the foreign one's")


def test_a_gpu_that_reports_a_fatal_xid_is_handed_out_no_more(open_hub: OpenHub) -> None:
    hub = open_hub()
    (slot,) = hub.lab.slots("2g.20gb")
    gpu = next(line for line in hub.lab.box_text.splitlines() if line.startswith("gpu 0"))
    uuid = gpu.split("uuid=")[1].split()[0]
    with signed_in(hub) as student:
        hub.lab.box.write_text(f"{hub.lab.box_text}xid {uuid} 79\n")
        wait_for(lambda: marks(hub).get(slot) is MarkKind.UNHEALTHY, "the slot is out of order")
        assert "2g.20gb" in student.read_refusal(student.ask_start({"profile": "large"}))


def test_slots_follow_a_change_of_mig(open_hub: OpenHub) -> None:
    hub = open_hub()
    with signed_in(hub) as student:
        large = next(line for line in hub.lab.box_text.splitlines() if "2g.20gb" in line)
        hub.lab.box.write_text(hub.lab.box_text.replace(f"{large}\n", ""))
        wait_for(hub.has_read_gpus, "the service has seen the change")
        assert "this machine has 0" in student.read_refusal(student.ask_start({"profile": "large"}))
        hub.lab.box.write_text(hub.lab.box_text)
        wait_for(hub.has_read_gpus, "the service has seen it come back")
        student.start({"profile": "large"})


def test_servers_start_and_stop_while_the_service_is_away_and_the_hub_brings_it_back(
    hub: Hub, student: Student
) -> None:
    (before,) = hub.service_pids()
    os.kill(before, signal.SIGKILL)
    student.start(SMALL)
    assert student.run("print('here')") == "here\n"
    student.stop()
    assert hub.traces(student.person) == {}
    wait_for(hub.service_pids, "the service is back", seconds=BACK_SECONDS)
    wait_for(hub.has_read_gpus, "it has read the GPUs")


def test_two_services_never_run_at_once(open_hub: OpenHub) -> None:
    hub = open_hub()
    (first,) = hub.service_pids()
    command = [sys.executable, "-m", "ds01_spawner.service", "--config", str(hub.config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr is not None
        wait_for(
            lambda: "waiting until it ends" in (second.stderr.readline() if second.stderr else ""), "waits"
        )
        second.terminate()
        assert second.wait(30) == 0
    assert hub.service_pids() == [first]


def test_the_service_of_a_hub_that_was_killed_ends_and_the_next_hub_has_one(open_hub: OpenHub) -> None:
    hub = open_hub()
    with signed_in(hub) as student:
        student.start(SMALL)
        container = hub.container(student.person)["Id"]
        hub.kill()
        wait_for(lambda: not hub.service_pids(), "its service has ended")
        hub.start()
        wait_for(lambda: len(hub.service_pids()) == 1, "the new Hub has a service")
        assert student.server()["ready"]
        assert hub.container(student.person)["Id"] == container
        assert student.run("print('here')") == "here\n"


def test_a_server_that_the_hub_forgot_while_docker_was_away_is_taken_up_again(
    open_hub: OpenHub, link: DockerLink
) -> None:
    hub = open_hub(docker_host=link.docker_host)
    with signed_in(hub) as student:
        student.start(SMALL)
        container = hub.container(student.person)["Id"]
        hub.stop()
        link.cut()
        try:
            hub.start(needs_service=False)
        finally:
            link.restore()
        wait_for(lambda: student.server().get("ready"), "her server is there", seconds=120)
        assert hub.container(student.person)["Id"] == container
        assert student.run("print('here')") == "here\n"
