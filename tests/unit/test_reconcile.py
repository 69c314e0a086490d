"""What is mended where ledger and Docker disagree, each branch of the plan on plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import pytest

from ds01_spawner.model import (
    FULL_GPU,
    Container,
    GpuWish,
    Lease,
    LeaseState,
    Limits,
    Mark,
    MarkKind,
    QueueEntry,
    Slot,
)
from ds01_spawner.reconcile import (
    Action,
    Repair,
    Rules,
    hold_for,
    is_ours,
    pinned_slots,
    plan,
)

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


def slot(uuid: str, index: str, gpu: str, *, fault: str = "") -> Slot:
    return Slot(
        uuid=uuid,
        index=index,
        profile=FULL_GPU if uuid == gpu else "1g.10gb",
        gpu_uuid=gpu,
        gpu_name="A100",
        memory_mib=9728,
        share=Fraction(1),
        fault=fault,
    )


SLOTS = (slot("MIG-0", "0:0", "GPU-0"), slot("MIG-1", "0:1", "GPU-0"), slot("GPU-1", "1", "GPU-1"))

EXPIRY = "the start took longer than its deadline"
HELD_FOR_A_WHILE = Rules(hold_of=lambda _lease: QUARTER_HOUR)
HELD_FOR_EVER = Rules(hold_of=lambda _lease: None)
HUB_IS_DEAD = Rules(is_alive=lambda owner: owner != "hub")


def end(why: str) -> Repair:
    return Repair(action=Action.END, lease_id=7, why=why)


def remove(container_id: str, why: str) -> Repair:
    return Repair(action=Action.REMOVE, lease_id=7, container_id=container_id, why=why)


def release(why: str) -> Repair:
    return Repair(action=Action.RELEASE, lease_id=7, why=why)


def mend(
    leases: Lease | list[Lease],
    containers: list[Container],
    *,
    rules: Rules = HELD_FOR_A_WHILE,
    slots: tuple[Slot, ...] = SLOTS,
    marks: tuple[Mark, ...] = (),
) -> tuple[Repair, ...]:
    wanted = leases if isinstance(leases, list) else [leases]
    return plan(wanted, containers, slots, NOW, rules=rules, marks=marks)


def test_container_is_ours_by_the_id_in_the_lease() -> None:
    assert is_ours(replace(RUNNING, name="renamed", nonce=""), ACTIVE)


def test_other_container_with_name_and_nonce_is_not_ours_once_the_lease_has_an_id() -> None:
    assert not is_ours(replace(RUNNING, id="c9"), ACTIVE)


def test_container_of_a_pending_lease_is_ours_by_name_and_nonce_together() -> None:
    assert is_ours(CREATED, PENDING)
    assert not is_ours(COPY, PENDING)
    assert not is_ours(NAMESAKE, PENDING)


# starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("containers", [[], [CREATED], [RUNNING]])
def test_pending_lease_within_its_deadline_is_left_alone(containers: list[Container]) -> None:
    assert mend(PENDING, containers) == ()


def test_pending_lease_past_its_deadline_without_a_container_is_released() -> None:
    assert mend(EXPIRED, []) == (end(EXPIRY), release(EXPIRY))


def test_deadline_itself_is_past() -> None:
    assert mend(replace(PENDING, deadline=NOW), []) == (end(EXPIRY), release(EXPIRY))


@pytest.mark.parametrize("container", [CREATED, RUNNING, EXITED])
def test_pending_lease_past_its_deadline_with_a_container_loses_both(container: Container) -> None:
    assert mend(EXPIRED, [container]) == (end(EXPIRY), remove("c1", EXPIRY), release(EXPIRY))


def test_expired_start_never_removes_a_container_of_the_same_name_or_nonce_alone() -> None:
    removed = [step.container_id for step in mend(EXPIRED, [COPY, NAMESAKE]) if step.action is Action.REMOVE]
    assert removed == []


@pytest.mark.parametrize("containers", [[], [CREATED], [RUNNING]])
def test_start_whose_hub_was_killed_is_undone_at_once(containers: list[Container]) -> None:
    why = "the Hub went while it started the server"
    repairs = mend(replace(PENDING, owner="hub"), containers, rules=HUB_IS_DEAD)
    assert repairs == (end(why), *(remove("c1", why) for _ in containers), release(why))
    assert mend(replace(PENDING, owner="another"), containers, rules=HUB_IS_DEAD) == ()


@pytest.mark.parametrize(("container", "stops"), [(CREATED, False), (EXITED, False), (RUNNING, True)])
def test_container_that_docker_made_after_the_spawn_was_given_up_is_removed(
    container: Container, stops: bool
) -> None:
    repairs = mend(replace(PENDING, state=LeaseState.RELEASED), [container])
    assert [step.action for step in repairs] == [*([Action.STOP] if stops else []), Action.REMOVE]
    assert {step.container_id for step in repairs} == {"c1"}


def test_created_container_left_by_an_interrupted_start_goes_with_its_lease() -> None:
    why = "the Hub went while it started the server"
    interrupted = replace(PENDING, owner="hub", container_id="c1")
    assert mend(interrupted, [CREATED], rules=HUB_IS_DEAD) == (end(why), remove("c1", why), release(why))


def test_half_made_image_goes_with_the_lease_it_was_tagged_for() -> None:
    # The tag is the lease's: releasing takes it away, also where no container was made of it.
    why = "the Hub went while it started the server"
    assert mend(replace(PENDING, owner="hub"), [], rules=HUB_IS_DEAD)[-1] == release(why)


# servers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_active_lease_of_a_living_container_is_left_alone(state: str) -> None:
    assert mend(ACTIVE, [replace(RUNNING, state=state)]) == ()


def test_server_that_the_hub_forgot_while_docker_was_away_keeps_its_lease() -> None:
    # What the Hub forgot runs all the same; the service asks the Hub to take it up.
    assert mend(replace(ACTIVE, owner="hub"), [RUNNING], rules=HUB_IS_DEAD) == ()


@pytest.mark.parametrize("state", ["exited", "dead", "removing", "created"])
def test_active_lease_whose_container_exited_is_held_as_long_as_the_limits_say(state: str) -> None:
    assert mend(ACTIVE, [replace(RUNNING, state=state)]) == (
        Repair(action=Action.HOLD, lease_id=7, until=NOW + QUARTER_HOUR, why="its container exited"),
    )


def test_hold_without_end_has_no_until() -> None:
    assert mend(ACTIVE, [EXITED], rules=HELD_FOR_EVER) == (
        Repair(action=Action.HOLD, lease_id=7, until=None, why="its container exited"),
    )


def test_without_a_hold_the_exited_container_goes_at_once() -> None:
    why = "its container exited"
    assert mend(ACTIVE, [EXITED], rules=Rules()) == (end(why), remove("c1", why), release(why))


@pytest.mark.parametrize("lease", [ACTIVE, HELD])
def test_lease_whose_container_was_removed_is_released(lease: Lease) -> None:
    why = "its container is gone"
    assert mend(lease, []) == (end(why), release(why))


def test_container_recreated_under_the_same_name_is_not_the_leases() -> None:
    why = "its container is gone"
    again = replace(RUNNING, id="c9", nonce="", devices=("MIG-0",))
    repairs = mend(ACTIVE, [again])
    assert repairs[:2] == (end(why), release(why))
    assert [step.action for step in repairs[2:]] == [Action.MARK]


def test_renamed_container_keeps_its_lease() -> None:
    assert mend(ACTIVE, [replace(RUNNING, name="other")]) == ()


def test_lease_that_is_ending_is_ended_whatever_runs() -> None:
    why = "the server was stopped"
    ending = replace(ACTIVE, ending=why)
    assert mend(ending, [RUNNING]) == (remove("c1", why), release(why))
    assert mend(ending, []) == (release(why),)
    assert mend(replace(PENDING, ending=why), [CREATED]) == (remove("c1", why), release(why))
    assert mend(replace(HELD, ending=why), [EXITED]) == (remove("c1", why), release(why))


def test_end_that_another_process_has_begun_is_left_to_it_while_it_lives() -> None:
    ending = replace(ACTIVE, ending="the server was stopped", owner="hub", deadline=SOON)
    assert mend(ending, [RUNNING], rules=Rules(owner="service")) == ()
    assert mend(ending, [RUNNING], rules=Rules(owner="hub"))[-1].action is Action.RELEASE
    assert mend(ending, [RUNNING], rules=HUB_IS_DEAD)[-1].action is Action.RELEASE


def test_end_that_takes_too_long_is_anybodys() -> None:
    ending = replace(ACTIVE, ending="the server was stopped", owner="hub", deadline=NOW)
    assert mend(ending, [RUNNING], rules=Rules(owner="service"))[-1].action is Action.RELEASE


def test_released_lease_needs_nothing_once_its_container_is_gone() -> None:
    assert mend(replace(ACTIVE, state=LeaseState.RELEASED), []) == ()


# holds ---------------------------------------------------------------------------------------------


def test_stopped_container_within_its_hold_rests() -> None:
    assert mend(HELD, [EXITED]) == ()
    assert mend(replace(HELD, deadline=None), [EXITED]) == ()


def test_stopped_container_past_its_hold_goes() -> None:
    why = "its hold is over"
    repairs = mend(replace(HELD, deadline=PAST), [EXITED])
    assert repairs == (end(why), remove("c1", why), release(why))


@pytest.mark.parametrize("deadline", [SOON, PAST, None])
def test_held_container_started_again_over_ssh_is_adopted(deadline: datetime | None) -> None:
    assert mend(replace(HELD, deadline=deadline), [RUNNING]) == (
        Repair(action=Action.ADOPT, lease_id=7, container_id="c1", why="its held container runs again"),
    )


def test_container_started_again_after_its_slot_was_given_away_is_stopped_and_removed() -> None:
    before = replace(ACTIVE, state=LeaseState.RELEASED)
    new_holder = replace(ACTIVE, id=8, nonce="1e1e", container_id="c8", container_name="new._.3002")
    repairs = mend(
        [new_holder, before],
        [replace(RUNNING, devices=("MIG-0",)), replace(RUNNING, id="c8", nonce="1e1e", devices=("MIG-0",))],
    )
    ours = [step for step in repairs if step.lease_id == 7]
    assert [(step.action, step.container_id) for step in ours] == [
        (Action.STOP, "c1"),
        (Action.REMOVE, "c1"),
    ]
    assert not [step for step in repairs if step.lease_id == 8]


def test_slots_given_to_somebody_without_a_server_stay_until_their_time_is_over() -> None:
    given = replace(HELD, container_id=None)
    assert mend(given, []) == ()
    over = "its time is over"
    assert mend(replace(given, deadline=PAST), []) == (end(over), release(over))


@pytest.mark.parametrize(
    ("gpu", "container", "slots", "hold"),
    [
        (15, 30, ("MIG-0",), 15),
        (15, 10, ("MIG-0",), 10),
        (None, 30, ("MIG-0",), 30),
        (15, None, ("MIG-0",), 15),
        (None, None, ("MIG-0",), None),
        (0, 30, (), 30),
        (15, None, (), None),
    ],
)
def test_slots_and_container_are_held_together_for_the_shorter_of_their_times(
    gpu: int | None, container: int | None, slots: tuple[str, ...], hold: int | None
) -> None:
    limits = Limits(
        group="student",
        gpu_hold_after_stop=None if gpu is None else timedelta(minutes=gpu),
        container_hold_after_stop=None if container is None else timedelta(minutes=container),
    )
    found = hold_for(replace(ACTIVE, slots=slots), limits)
    assert found == (None if hold is None else timedelta(minutes=hold))


# slots ---------------------------------------------------------------------------------------------


def test_container_that_stopped_on_a_vanished_slot_is_removed_and_never_restarted() -> None:
    why = "its container stopped, and its slot is no longer there"
    after_mig_change = (slot("MIG-9", "0:0", "GPU-0"),)
    for lease in (ACTIVE, HELD):
        repairs = mend(lease, [EXITED], slots=after_mig_change)
        assert repairs == (end(why), remove("c1", why), release(why))


def test_running_container_on_a_vanished_slot_keeps_its_lease() -> None:
    assert mend(ACTIVE, [RUNNING], slots=()) == ()


def test_slot_that_came_back_with_another_uuid_is_another_slot() -> None:
    again = (slot("MIG-9", "0:0", "GPU-0"), *SLOTS[1:])
    assert mend(ACTIVE, [replace(RUNNING, devices=("MIG-0",))], slots=again) == ()


def test_server_on_an_unhealthy_slot_is_not_touched() -> None:
    lost = (slot("MIG-0", "0:0", "GPU-0", fault="the GPU is lost"),)
    assert mend(ACTIVE, [RUNNING], slots=lost) == ()


# containers that are not ours ----------------------------------------------------------------------

FOREIGN = replace(RUNNING, id="f1", name="foreign", nonce="", devices=("0:1",))


def mark(uuid: str, kind: MarkKind, why: str) -> Mark:
    return Mark(slot=uuid, kind=kind, why=why, since=NOW)


def marks_of(repairs: tuple[Repair, ...]) -> list[tuple[Action, str, MarkKind]]:
    return [(step.action, step.mark.slot, step.mark.kind) for step in repairs if step.mark is not None]


@pytest.mark.parametrize(
    ("devices", "slots"),
    [
        (("0:1",), {"MIG-1"}),
        (("MIG-1",), {"MIG-1"}),
        (("0",), {"MIG-0", "MIG-1"}),
        (("GPU-0",), {"MIG-0", "MIG-1"}),
        (("1", "0:0"), {"GPU-1", "MIG-0"}),
        ((), set()),
    ],
)
def test_foreign_container_makes_its_slots_external_in_whatever_words_it_asked(
    devices: tuple[str, ...], slots: set[str]
) -> None:
    found = marks_of(mend([], [replace(FOREIGN, devices=devices)]))
    assert {(action, kind) for action, _, kind in found} <= {(Action.MARK, MarkKind.EXTERNAL)}
    assert {uuid for _, uuid, _ in found} == slots


def test_container_with_all_gpus_shares_them_unless_it_is_to_block() -> None:
    everything = [replace(FOREIGN, devices=("all",))]
    assert mend([], everything) == ()
    blocked = mend([], everything, rules=Rules(shared_containers_block=True))
    assert {uuid for _, uuid, _ in marks_of(blocked)} == {"MIG-0", "MIG-1", "GPU-1"}


def test_stopped_foreign_container_occupies_nothing() -> None:
    assert mend([], [replace(FOREIGN, state="exited")]) == ()


def test_slot_is_free_again_when_the_foreign_container_has_gone() -> None:
    before = mark("MIG-1", MarkKind.EXTERNAL, "used by foreign without a lease")
    assert marks_of(mend([], [FOREIGN], marks=(before,))) == []
    assert marks_of(mend([], [], marks=(before,))) == [(Action.UNMARK, "MIG-1", MarkKind.EXTERNAL)]


def test_container_with_copied_labels_is_foreign_and_never_touched() -> None:
    committed = replace(COPY, devices=("MIG-1",))
    repairs = mend(ACTIVE, [RUNNING, committed])
    assert marks_of(repairs) == [(Action.MARK, "MIG-1", MarkKind.EXTERNAL)]
    assert all(step.mark for step in repairs)


def test_two_containers_on_one_slot_make_it_contested_and_neither_is_stopped() -> None:
    repairs = mend(ACTIVE, [replace(RUNNING, devices=("MIG-0",)), replace(FOREIGN, devices=("0:0",))])
    assert marks_of(repairs) == [(Action.MARK, "MIG-0", MarkKind.CONTESTED)]
    assert repairs[0].why == "leased to ada for vision._.3001, and used by foreign"


def test_contested_slot_is_external_once_ours_has_gone() -> None:
    before = mark("MIG-1", MarkKind.CONTESTED, "leased to ada for vision._.3001, and used by foreign")
    assert marks_of(mend([], [FOREIGN], marks=(before,))) == [
        (Action.UNMARK, "MIG-1", MarkKind.CONTESTED),
        (Action.MARK, "MIG-1", MarkKind.EXTERNAL),
    ]


def test_marks_are_for_what_is_left_when_all_is_mended() -> None:
    guest = replace(FOREIGN, devices=("MIG-0",))
    # Her container was removed, and somebody else uses the slot: her lease ends with this.
    assert marks_of(mend(ACTIVE, [guest])) == [(Action.MARK, "MIG-0", MarkKind.EXTERNAL)]
    # An admin gave the slot until now, and what runs on it runs on.
    given = replace(HELD, container_id=None, deadline=PAST)
    assert marks_of(mend(given, [guest])) == [(Action.MARK, "MIG-0", MarkKind.EXTERNAL)]
    # What is removed uses nothing any more.
    left_over = replace(RUNNING, devices=("MIG-0",))
    assert marks_of(mend(replace(ACTIVE, state=LeaseState.RELEASED), [left_over])) == []


def test_what_runs_on_a_slot_given_by_an_admin_is_no_contest() -> None:
    given = replace(HELD, container_id=None, slots=("MIG-1",))
    assert mend(given, [FOREIGN]) == ()


@pytest.mark.parametrize("kind", [MarkKind.DRAINED, MarkKind.UNHEALTHY])
def test_marks_of_an_admin_and_of_nvml_stay(kind: MarkKind) -> None:
    assert mend([], [], marks=(mark("MIG-1", kind, "why"),)) == ()


LOOKING = replace(CREATED, id="l1", name="ds01-look-0f0f", nonce="", looker="hub")


def test_container_that_a_killed_hub_made_to_look_into_an_image_is_removed() -> None:
    why = "the Hub went while it looked into an image"
    assert mend([], [LOOKING], rules=HUB_IS_DEAD) == (
        Repair(action=Action.REMOVE, container_id="l1", why=why),
    )
    assert mend([], [LOOKING]) == ()
    assert mend([], [replace(LOOKING, state="exited")], rules=HUB_IS_DEAD) == ()


# the queue -----------------------------------------------------------------------------------------


def test_place_of_a_hub_that_was_killed_is_given_up() -> None:
    wish = GpuWish(user="ada", profile="1g.10gb", count=1, requested_at=NOW)
    dead = QueueEntry(id=3, wish=wish, server="", container_name="a", entered_at=NOW, owner="hub")
    alive = replace(dead, id=4, container_name="b", owner="another")
    repairs = plan([], [], SLOTS, NOW, rules=HUB_IS_DEAD, queue=[dead, alive])
    assert [(step.action, step.entry_id) for step in repairs] == [(Action.LEAVE, 3)]


@pytest.mark.parametrize(("seconds", "stays"), [(0, True), (1, False)])
def test_place_that_is_older_than_anybody_waits_is_given_up(seconds: int, stays: bool) -> None:
    # The start was given up while the ledger could not be written.
    wish = GpuWish(user="ada", profile="1g.10gb", count=1, requested_at=NOW)
    entered = NOW - timedelta(hours=2, seconds=seconds)
    entry = QueueEntry(id=3, wish=wish, server="", container_name="a", entered_at=entered, owner="another")
    repairs = plan([], [], SLOTS, NOW, rules=Rules(longest_wait=timedelta(hours=2)), queue=[entry])
    assert [(step.action, step.entry_id) for step in repairs] == ([] if stays else [(Action.LEAVE, 3)])


def test_without_a_longest_wait_a_place_stays() -> None:
    wish = GpuWish(user="ada", profile="1g.10gb", count=1, requested_at=NOW)
    entered = NOW - timedelta(days=30)
    entry = QueueEntry(id=3, wish=wish, server="", container_name="a", entered_at=entered, owner="another")
    assert plan([], [], SLOTS, NOW, queue=[entry]) == ()


OTHERS = (slot("MIG-a", "0:0", "GPU-0"), slot("MIG-b", "0:1", "GPU-0"), slot("GPU-1", "1", "GPU-1"))


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
    assert pinned_slots(devices, OTHERS) == slots
