"""Time on a real Hub, with seconds for hours: idle and overdue servers are warned, stopped, held, removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from ds01_spawner.site import DS01, read_config

from .conftest import OpenHub, signed_in
from .hub import Hub
from .student import Student
from .waiting import wait_for

pytestmark = pytest.mark.slow

SMALL = {"profile": "small"}
# Without a grace after the start, and with a notebook server that may still do as it likes.
POLICIES = {
    "grace_period": "0s",
    "idle_detection_window": 2,
    "cpu_idle_threshold": 100,
    "network_idle_threshold": 10**9,
    "warning_lead_m": 0.05,
    "sigterm_grace_s": 20,
}
# Saves what it has when it is asked to end, which takes it longer than Jupyter needs to end.
TRAINER = """
import pathlib, subprocess, sys
code = '''
import pathlib, signal, sys, time
def save(*_):
    time.sleep(4)
    pathlib.Path("/workspace/saved").write_text("yes")
    sys.exit()
signal.signal(signal.SIGTERM, save)
pathlib.Path("/workspace/trains").write_text("yes")
while True:
    time.sleep(0.1)
'''
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
"""


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub of this module's own, which tells the service at once what it saw."""
    return open_hub()


@pytest.fixture
def student(hub: Hub) -> Iterator[Student]:
    with signed_in(hub) as student:
        yield student


def history(hub: Hub, student: Student) -> list[str]:
    """Return the kinds of what happened to her leases, the oldest first."""
    with hub.ledger() as ledger:
        return [event.kind for event in ledger.history(user=student.name)]


@contextmanager
def working_gpu(hub: Hub, slot: str) -> Iterator[None]:
    """A process that computes on a slot."""
    before = hub.lab.box.read_text()
    hub.lab.box.write_text(f"{before}process {slot} pid=4711 memory_mib=500\n")
    yield
    hub.lab.box.write_text(before)


def _looked_at(hub: Hub, lease_id: int) -> datetime:
    """Return when the service looked at a server last."""

    def find() -> datetime | None:
        with hub.ledger() as ledger:
            found = ledger.watches().get(lease_id)
        return found[0].looked_at if found else None

    return wait_for(find, "it is looked at")


def _find_idle_checks(hub: Hub, lease_id: int) -> int:
    """Return how many looks in a row found a server idle."""
    with hub.ledger() as ledger:
        return ledger.watches()[lease_id][0].idle_checks


def test_an_idle_server_is_warned_stopped_held_and_removed_in_that_order(hub: Hub, student: Student) -> None:
    hub.lab.set_limits(student.person, idle_timeout="4s", gpu_hold_after_stop="3s", policies=POLICIES)
    student.start(SMALL)
    wait_for(lambda: "released" in history(hub, student), "it was removed", seconds=90)
    # She is warned once more where something moved in between.
    told = [kind for kind in history(hub, student) if kind in ("warned", "stopped", "held", "released")]
    assert list(dict.fromkeys(told)) == ["warned", "stopped", "held", "released"]
    assert told.count("stopped") == 1
    assert hub.traces(student.person) == {}
    student.wait_gone()


def test_a_slice_with_a_process_is_kept_and_without_one_it_is_not(hub: Hub, student: Student) -> None:
    hub.lab.set_limits(student.person, idle_timeout="2s", policies=POLICIES)
    student.start(SMALL)
    (lease,) = hub.leases(student.person)
    with working_gpu(hub, lease.slots[0]):
        since = _looked_at(hub, lease.id)
        wait_for(lambda: (_looked_at(hub, lease.id) - since).total_seconds() > 8, "time has passed")
        assert not _find_idle_checks(hub, lease.id)
        assert "warned" not in history(hub, student)
    wait_for(lambda: "stopped" in history(hub, student), "it is stopped", seconds=90)


def test_at_the_end_of_its_run_time_a_trainer_can_save_and_an_extension_counts(
    hub: Hub, student: Student
) -> None:
    hub.lab.set_limits(
        student.person,
        max_runtime="20s",
        gpu_hold_after_stop="0s",
        policies=POLICIES | {"max_extension_h": 1, "max_extensions": 1},
    )
    student.start(SMALL)
    student.run(TRAINER)
    (lease,) = hub.leases(student.person)
    assert lease.runs_until is not None
    wait_for(lambda: "warned" in history(hub, student), "she is warned")
    site = DS01(config=read_config(hub.config))
    extension = site.core.lifetimes.extend(lease.id, timedelta(seconds=10), student.name)
    assert extension.until == lease.runs_until + timedelta(seconds=10)
    wait_for(lambda: "released" in history(hub, student), "it has ended", seconds=120)
    with hub.ledger() as ledger:
        stopped = next(one for one in ledger.history(user=student.name) if one.kind == "stopped")
    assert stopped.at >= extension.until
    assert (student.person.workspace / "saved").read_text() == "yes"


def test_a_program_that_ignores_the_end_is_waited_for_no_longer_than_the_grace(
    hub: Hub, student: Student
) -> None:
    hub.lab.set_limits(
        student.person,
        idle_timeout="2s",
        gpu_hold_after_stop="0s",
        policies=POLICIES | {"sigterm_grace_s": 2},
    )
    student.start(SMALL)
    student.run(TRAINER.replace("time.sleep(4)", "time.sleep(100)"))
    wait_for(lambda: hub.traces(student.person) == {}, "it has ended", seconds=90)
    assert not (student.person.workspace / "saved").exists()
