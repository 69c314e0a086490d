"""What is mended where ledger and Docker disagree, each branch of the plan on plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import pytest

from ds01_spawner.model import FULL_GPU, Container, Lease, LeaseState, Slot
from ds01_spawner.reconcile import Action, Repair, is_left_over, is_ours, is_stale, pinned_slots, plan

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
SOON, PAST = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)
QUARTER_HOUR = timedelta(minutes=15)

PENDING = Lease(
    id=7,
    nonce="0f0f",
    user="ada",
    server="vision",
    container_name="vision._.3001",
    state=LeaseState.PENDING,
    slots=("MIG-0",),
    share=Fraction(1, 7),
    created_at=NOW,
    deadline=SOON,
)
ACTIVE = replace(PENDING, state=LeaseState.ACTIVE, deadline=None, container_id="c1")
HELD = replace(ACTIVE, state=LeaseState.HELD, deadline=SOON)
EXPIRED = replace(PENDING, deadline=PAST)

RUNNING = Container(
    id="c1",
    name="vision._.3001",
    image="vision-ada-image:3001",
    state="running",
    labels={},
    nonce="0f0f",
)
EXITED = replace(RUNNING, state="exited")
CREATED = replace(RUNNING, state="created")
# `docker commit` copies labels: a container that somebody made from hers has her nonce.
COPY = replace(RUNNING, id="c2", name="copy")
# And somebody may take the name while hers is not there.
NAMESAKE = replace(RUNNING, id="c3", nonce="")


def remove(container_id: str, why: str) -> Repair:
    return Repair(action=Action.REMOVE, lease_id=7, container_id=container_id, why=why)


def release(why: str) -> Repair:
    return Repair(action=Action.RELEASE, lease_id=7, why=why)


def test_container_is_ours_by_the_id_in_the_lease() -> None:
    assert is_ours(replace(RUNNING, name="renamed", nonce=""), ACTIVE)


def test_other_container_with_name_and_nonce_is_not_ours_once_the_lease_has_an_id() -> None:
    assert not is_ours(replace(RUNNING, id="c9"), ACTIVE)


def test_container_of_a_pending_lease_is_ours_by_name_and_nonce_together() -> None:
    assert is_ours(CREATED, PENDING)
    assert not is_ours(COPY, PENDING)
    assert not is_ours(NAMESAKE, PENDING)


def test_released_lease_needs_nothing_whatever_runs() -> None:
    released = replace(ACTIVE, state=LeaseState.RELEASED)
    assert plan(released, [RUNNING], NOW, ended=True) == ()


def test_pending_lease_is_left_alone_until_its_deadline() -> None:
    assert plan(PENDING, [], NOW) == ()
    assert plan(PENDING, [CREATED], NOW) == ()
    assert plan(PENDING, [RUNNING], NOW) == ()


def test_pending_lease_that_expired_without_a_container_is_released() -> None:
    assert plan(EXPIRED, [], NOW) == (release("the start took longer than its deadline"),)


def test_deadline_itself_is_past() -> None:
    assert plan(replace(PENDING, deadline=NOW), [], NOW) == (
        release("the start took longer than its deadline"),
    )


@pytest.mark.parametrize("container", [CREATED, RUNNING, EXITED])
def test_container_that_outlived_the_deadline_of_its_start_is_removed_before_the_slot_is_free(
    container: Container,
) -> None:
    why = "the start took longer than its deadline"
    assert plan(EXPIRED, [container], NOW) == (remove("c1", why), release(why))


def test_expired_start_never_removes_a_container_of_the_same_name_or_nonce_alone() -> None:
    assert plan(EXPIRED, [COPY, NAMESAKE], NOW) == (release("the start took longer than its deadline"),)


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_active_lease_of_a_living_container_is_left_alone(state: str) -> None:
    assert plan(ACTIVE, [replace(RUNNING, state=state)], NOW) == ()


@pytest.mark.parametrize("lease", [ACTIVE, HELD])
def test_lease_whose_container_is_gone_is_released(lease: Lease) -> None:
    assert plan(lease, [COPY, NAMESAKE], NOW, hold=QUARTER_HOUR) == (release("its container is gone"),)


@pytest.mark.parametrize("state", ["exited", "dead", "removing", "created"])
def test_container_that_does_not_run_is_held_as_long_as_the_limits_say(state: str) -> None:
    stopped = replace(RUNNING, state=state)
    assert plan(ACTIVE, [stopped], NOW, hold=QUARTER_HOUR) == (
        Repair(action=Action.HOLD, lease_id=7, until=NOW + QUARTER_HOUR, why="its container exited"),
    )


def test_hold_without_end_has_no_until() -> None:
    assert plan(ACTIVE, [EXITED], NOW, hold=None) == (
        Repair(action=Action.HOLD, lease_id=7, until=None, why="its container exited"),
    )


def test_without_a_hold_the_exited_container_goes_at_once() -> None:
    why = "its container exited"
    assert plan(ACTIVE, [EXITED], NOW) == (remove("c1", why), release(why))


def test_held_lease_rests_until_its_deadline() -> None:
    assert plan(HELD, [EXITED], NOW) == ()


def test_lease_that_is_held_without_end_rests() -> None:
    assert plan(replace(HELD, deadline=None), [EXITED], NOW) == ()


def test_container_goes_when_its_hold_is_over() -> None:
    why = "its hold is over"
    assert plan(replace(HELD, deadline=PAST), [EXITED], NOW) == (remove("c1", why), release(why))


@pytest.mark.parametrize("deadline", [SOON, PAST, None])
def test_held_container_that_runs_again_is_adopted(deadline: datetime | None) -> None:
    assert plan(replace(HELD, deadline=deadline), [RUNNING], NOW) == (
        Repair(action=Action.ADOPT, lease_id=7, container_id="c1", why="its held container runs again"),
    )


@pytest.mark.parametrize("lease", [PENDING, ACTIVE, HELD])
@pytest.mark.parametrize("container", [RUNNING, EXITED])
def test_server_that_is_given_up_keeps_nothing(lease: Lease, container: Container) -> None:
    why = "the server was stopped"
    repairs = plan(lease, [container, replace(COPY, nonce="")], NOW, hold=None, ended=True)
    assert repairs == (remove("c1", why), release(why))


def test_start_that_is_given_up_before_its_container_was_made_is_released() -> None:
    assert plan(PENDING, [NAMESAKE], NOW, ended=True) == (release("the server was stopped"),)


def slot(uuid: str, index: str, gpu: str) -> Slot:
    return Slot(
        uuid=uuid,
        index=index,
        profile=FULL_GPU if uuid == gpu else "1g.10gb",
        gpu_uuid=gpu,
        gpu_name="A100",
        memory_mib=9728,
        share=Fraction(1),
    )


LAB = (slot("MIG-a", "0:0", "GPU-0"), slot("MIG-b", "0:1", "GPU-0"), slot("GPU-1", "1", "GPU-1"))


@pytest.mark.parametrize(
    ("devices", "slots"),
    [
        ((), set()),
        (("0:1",), {"MIG-b"}),
        (("MIG-a",), {"MIG-a"}),
        (("0",), {"MIG-a", "MIG-b"}),
        (("GPU-0",), {"MIG-a", "MIG-b"}),
        (("1",), {"GPU-1"}),
        (("GPU-1",), {"GPU-1"}),
        (("0:0", "1"), {"MIG-a", "GPU-1"}),
        (("all",), {"MIG-a", "MIG-b", "GPU-1"}),
        (("2", "0:7", "MIG-gone", "amd.com/gpu=0"), set()),
    ],
)
def test_device_ids_mean_slots_in_whatever_words(devices: tuple[str, ...], slots: set[str]) -> None:
    assert pinned_slots(devices, LAB) == slots


def test_lease_is_stale_once_the_clock_or_its_container_contradicts_it() -> None:
    assert [is_stale(PENDING, None, now) for now in (NOW, SOON)] == [False, True]
    assert [is_stale(ACTIVE, state, NOW) for state in ("running", "exited", None)] == [False, True, True]
    assert [is_stale(HELD, state, NOW) for state in ("exited", "running", None)] == [False, True, True]
    assert is_stale(HELD, "exited", SOON)


def test_created_container_of_an_ended_start_is_left_over_by_its_exact_name_and_nonce() -> None:
    ended = replace(PENDING, state=LeaseState.RELEASED)
    assert is_left_over(CREATED, ended)
    assert not is_left_over(RUNNING, ended)
    assert not is_left_over(replace(CREATED, nonce=""), ended)
    assert not is_left_over(replace(CREATED, name="copy"), ended)
    assert not is_left_over(CREATED, PENDING)
    assert not is_left_over(CREATED, replace(ended, container_id="c1"))
