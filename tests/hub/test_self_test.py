"""A server that sees other GPUs than those of its lease is stopped, its slot drained, and people read why.

The lab's box file is the inventory here, so that the nodes of every slot are known to the last one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ds01_spawner.adapters.box import read_box
from ds01_spawner.model import Slot

from .conftest import OpenHub, signed_in
from .hub import Hub
from .lab import Lab
from .student import Student, read_text
from .waiting import wait_for

pytestmark = pytest.mark.slow

TWO = {"gpu_profile": "1g.10gb", "gpu_count": 2}
LARGE = {"profile": "large"}
COMMAND = str(Path(sys.executable).with_name("ds01"))


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub of this module's own: slots are drained here."""
    settings: dict[str, dict[str, object]] = {"DS01": {}}

    def read_box_file(lab: Lab) -> None:
        settings["DS01"]["inventory"] = str(lab.box)

    return open_hub(settings=settings, prepare=read_box_file)


@pytest.fixture
def student(hub: Hub) -> Iterator[Student]:
    """A student of that Hub; what was drained while she was there is handed out again."""
    with signed_in(hub) as student:
        yield student
    with hub.ledger() as ledger:
        for mark in ledger.marks():
            ledger.unmark(mark, datetime.now(timezone.utc), why="the test is over")


def ask(hub: Hub, *words: str) -> Any:
    """Return what `ds01 gpu` answers an admin, as JSON."""
    command = [COMMAND, "gpu", *words, "--json", "--config", str(hub.config)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def drained(hub: Hub) -> dict[str, str]:
    """Return what the self-test has drained, and why."""
    with hub.ledger() as ledger:
        return {mark.slot: mark.why for mark in ledger.marks() if mark.who == "self-test"}


def slot_of(hub: Hub, uuid: str) -> Slot:
    return next(slot for slot in read_box(hub.lab.box).slots if slot.uuid == uuid)


def large_slot(hub: Hub) -> Slot:
    """The only slot of its profile."""
    (uuid,) = hub.lab.slots("2g.20gb")
    return slot_of(hub, uuid)


def be_refused(hub: Hub, student: Student, options: dict[str, object]) -> str:
    """Ask for a server that is stopped; returns what she reads, once nothing is left of it."""
    answer = student.ask_start(options)
    said = student.read_refusal(answer)
    student.wait_gone()
    assert hub.traces(student.person) == {}
    return said


@pytest.mark.parametrize("options", [{"profile": "cpu"}, {"profile": "small"}, TWO])
def test_a_server_that_sees_what_was_leased_starts(
    hub: Hub, student: Student, options: dict[str, object]
) -> None:
    student.start(options)
    (lease,) = hub.leases(student.person)
    assert len(lease.slots) == options.get("gpu_count", int(options.get("profile") != "cpu"))
    assert lease.state.value == "active"
    assert drained(hub) == {}


def test_a_slot_whose_nodes_are_not_in_the_container_is_drained_and_everybody_reads_why(
    hub: Hub, student: Student
) -> None:
    slot, mark = large_slot(hub), hub.log_mark()
    lacking = f"{', '.join(slot.device_nodes[1:])} of slot {slot.index} ({slot.uuid}) missing"
    with hub.lab.handing_out(slot.uuid, slot.device_nodes[0]):
        said = be_refused(hub, student, LARGE)
    assert said == (
        f"Your server did not see the GPU leased for it, so it was stopped, and slot {slot.index} was taken "
        "out of use. Please start again, and tell your admin."
    )
    assert f"{student.person.uid} did not see the GPU leased for it" in read_text(student.form().text)
    (found,) = (one for one in ask(hub, "status")["slots"] if one["state"] == "drained")
    assert (found["uuid"], lacking in found["why"]) == (slot.uuid, True)
    assert lacking in hub.log_since(mark)
    assert "nvidia-ctk cdi generate" in hub.log_since(mark)
    events = {event["kind"]: event for event in ask(hub, "history")}
    assert (events["drained"]["who"], lacking in events["drained"]["why"]) == ("self-test", True)
    assert (events["released"]["who"], lacking in events["released"]["why"]) == (student.name, True)
    assert "did not see" in events["stopped"]["why"]


def test_a_slot_that_was_drained_so_is_nobodys_until_an_admin_hands_it_out_again(
    hub: Hub, student: Student
) -> None:
    slot = large_slot(hub)
    with hub.lab.handing_out(slot.uuid):
        be_refused(hub, student, LARGE)
    # Docker would give it again, but nobody gets it.
    assert "1 out of order" in be_refused(hub, student, LARGE)
    ask(hub, "undrain", slot.index)
    student.start(LARGE)
    assert [lease.slots for lease in hub.leases(student.person)] == [(slot.uuid,)]


def test_a_spec_that_gives_another_slice_drains_the_one_that_was_leased(hub: Hub, student: Student) -> None:
    slot, other = large_slot(hub), slot_of(hub, hub.lab.slots("1g.10gb")[-1])
    with hub.lab.handing_out(slot.uuid, *other.device_nodes):
        said = be_refused(hub, student, LARGE)
    assert "saw another GPU than was leased for it" in said
    ((uuid, why),) = drained(hub).items()
    assert uuid == slot.uuid
    assert f"{', '.join(other.device_nodes)} visible without a lease" in why


def test_a_spec_that_gives_a_whole_gpu_besides_is_found_out(hub: Hub, student: Student) -> None:
    slot = large_slot(hub)
    with hub.lab.handing_out(slot.uuid, *slot.device_nodes, "nvidia2"):
        said = be_refused(hub, student, LARGE)
    assert "saw a GPU that was not leased for it" in said
    assert list(drained(hub)) == [slot.uuid]


def test_of_two_slots_only_the_one_that_is_missing_is_drained(hub: Hub, student: Student) -> None:
    student.start(TWO)
    ((_, second),) = (lease.slots for lease in hub.leases(student.person))
    student.stop()
    # Free as before, the same two are chosen again.
    with hub.lab.handing_out(second, slot_of(hub, second).device_nodes[0]):
        assert "did not see all GPUs" in be_refused(hub, student, TWO)
    assert list(drained(hub)) == [second]
    student.start(TWO)
    assert all(second not in lease.slots for lease in hub.leases(student.person))


def test_a_held_container_that_is_started_over_ssh_is_looked_at_too(hub: Hub, student: Student) -> None:
    slot = large_slot(hub)
    hub.lab.set_limits(student.person, gpu_hold_after_stop="1h")
    student.start(LARGE)
    container = hub.container(student.person)["Id"]
    hub.docker.stop(container)
    student.wait_gone()
    with hub.lab.handing_out(slot.uuid, slot.device_nodes[0]):
        hub.docker.start(container)
        # The service lets the Hub take it up.
        wait_for(lambda: drained(hub), "its slot is drained")
        wait_for(lambda: not hub.traces(student.person), "container, lease and tag have gone")
    student.wait_gone()
    assert "did not see the GPU leased for it" in read_text(student.form().text)
