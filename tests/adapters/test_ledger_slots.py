"""What the ledger knows of GPUs: readings, marks, reservations, and what a decision sees of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import PoolView
from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.model import Gpu, Inventory, Mark, MarkKind, Reservation, Slot

from .ledgers import BERLIN, FULL, LATER, NOW, SECOND, SMALL, draft, events, kinds, take

pytest_plugins = ("tests.adapters.postgres",)

HOUR = timedelta(hours=1)
GPUS = (
    Gpu(uuid="GPU-0", index=0, name="A100", compute_capability=(8, 0)),
    Gpu(uuid="GPU-2", index=2, name="A100", compute_capability=(9, 0)),
)
LOST = InventoryUnavailable("The GPUs cannot be read.", detail="NVML: driver not loaded")
BROKEN = Mark(slot="MIG-0", kind=MarkKind.UNHEALTHY, why="XID 79: GPU lost", since=NOW)
DRAINED = Mark(slot="MIG-0", kind=MarkKind.DRAINED, why="maintenance", since=LATER, who="root")


def reserve(user: str, *gpus: str, start: datetime = NOW, devices: tuple[str, ...] = ()) -> Reservation:
    return Reservation(
        user=user, start=start, end=start + HOUR, gpus=gpus, reason="a deadline", devices=devices
    )


# Readings


def test_a_reading_of_the_gpus_comes_back_in_the_order_of_its_indexes(ledger: Ledger) -> None:
    ledger.write_inventory(Inventory(slots=(FULL, SECOND, SMALL), gpus=GPUS, simulated=True), NOW)
    read = Inventory(slots=(SMALL, SECOND, FULL), gpus=GPUS, simulated=True)
    assert ledger.inventory() == (read, NOW)
    assert ledger.slots() == (SMALL, SECOND, FULL)


def test_the_nodes_of_a_slot_are_kept_and_learned_later(ledger: Ledger) -> None:
    known = replace(SMALL, device_nodes=("nvidia0", "nvidia-cap12", "nvidia-cap13"))
    ledger.write_inventory(Inventory(slots=(SMALL, FULL), gpus=GPUS), NOW)
    ledger.write_inventory(Inventory(slots=(known, FULL), gpus=GPUS), LATER)
    assert ledger.slots() == (known, FULL)
    ledger.write_inventory(Inventory(slots=(FULL,), gpus=GPUS), LATER)
    assert ledger.known_slots() == (known, FULL)


def test_the_newest_reading_replaces_the_one_before(ledger: Ledger) -> None:
    ledger.write_inventory(Inventory(slots=(SMALL, FULL), gpus=GPUS, simulated=True), NOW)
    ledger.write_inventory(Inventory(slots=(SMALL,), gpus=GPUS[:1]), LATER)
    assert ledger.inventory() == (Inventory(slots=(SMALL,), gpus=GPUS[:1]), LATER)


def test_a_machine_without_a_gpu_was_looked_at_all_the_same(ledger: Ledger) -> None:
    assert ledger.inventory() is None
    assert ledger.inventory_age(NOW) is None
    ledger.write_inventory(Inventory(slots=(), gpus=()), NOW)
    assert ledger.inventory() == (Inventory(slots=(), gpus=()), NOW)
    assert ledger.inventory_age(LATER) == LATER - NOW


def test_gpus_that_cannot_be_read_are_said_so_and_keep_their_slots(ledger: Ledger) -> None:
    ledger.write_inventory(Inventory(slots=(SMALL,), gpus=GPUS, simulated=True), NOW)
    ledger.write_problem(LOST, LATER)
    with pytest.raises(InventoryUnavailable, match="The GPUs cannot be read") as caught:
        ledger.inventory()
    assert caught.value.detail == f"NVML: driver not loaded (at {LATER.isoformat()})"
    assert ledger.slots() == (SMALL,)
    assert ledger.inventory_age(LATER) == timedelta(0)


def test_gpus_that_can_be_read_again_have_no_problem_any_more(ledger: Ledger) -> None:
    read = Inventory(slots=(SMALL,), gpus=GPUS)
    ledger.write_problem(LOST, NOW)
    ledger.write_inventory(read, LATER)
    assert ledger.inventory() == (read, LATER)


def test_the_first_reading_may_be_a_problem(ledger: Ledger) -> None:
    ledger.write_problem(LOST, NOW)
    with pytest.raises(InventoryUnavailable):
        ledger.inventory()
    assert ledger.inventory_age(LATER) == LATER - NOW
    assert ledger.slots() == ()


def test_readings_of_one_node_say_nothing_of_another(ledger: Ledger) -> None:
    there = Inventory(slots=(replace(SMALL, node="gpu2"),), gpus=GPUS)
    ledger.write_inventory(there, NOW, node="gpu2")
    ledger.write_problem(LOST, LATER)
    assert ledger.inventory(node="gpu2") == (there, NOW)
    assert ledger.inventory_age(LATER, node="gpu2") == LATER - NOW


def test_slots_that_are_gone_stay_known_as_they_were_last(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, FULL], NOW)
    moved = replace(SMALL, index="1:0", fault="XID 79")
    ledger.write_slots([moved, FULL], NOW)
    ledger.write_slots([FULL], LATER)
    assert ledger.slots() == (FULL,)
    assert ledger.known_slots() == (moved, FULL)
    assert ledger.known_slots(node="gpu2") == ()


# Marks


def test_marks_come_back_whole_the_oldest_first(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    assert ledger.mark(replace(DRAINED, since=LATER.astimezone(BERLIN))) is True
    assert ledger.mark(BROKEN) is True
    assert ledger.marks() == (BROKEN, DRAINED)
    assert ledger.marks(node="gpu2") == ()


def test_a_mark_that_says_the_same_is_no_second_event(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    assert ledger.mark(BROKEN) is True
    assert ledger.mark(replace(BROKEN, since=LATER)) is False
    assert ledger.marks() == (BROKEN,)
    assert events(sql) == [("repaired", "", "slot 0:0, unhealthy: XID 79: GPU lost")]


def test_a_mark_that_says_something_else_replaces_the_one_before(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    ledger.mark(BROKEN)
    other = replace(BROKEN, why="XID 48: memory error", since=LATER)
    assert ledger.mark(other) is True
    assert ledger.marks() == (other,)
    assert kinds(sql) == ["repaired", "repaired"]


def test_the_history_says_who_drained_a_slot_and_who_took_it_back(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    ledger.mark(DRAINED, kind="drained")
    assert ledger.unmark(DRAINED, LATER, who="eve", why="in use again", kind="undrained") is True
    assert events(sql) == [
        ("drained", "root", "slot 0:0: maintenance"),
        ("undrained", "eve", "slot 0:0: in use again"),
    ]


def test_a_drain_without_a_reason_is_told_without_one(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    ledger.mark(replace(DRAINED, why=""), kind="drained")
    assert events(sql) == [("drained", "root", "slot 0:0")]


def test_a_mark_is_taken_away_once_and_leaves_the_others(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.mark(BROKEN)
    ledger.mark(DRAINED)
    ledger.mark(replace(BROKEN, slot="MIG-1"))
    assert ledger.unmark(replace(BROKEN, since=LATER), LATER, why="it was reset") is True
    assert ledger.unmark(BROKEN, LATER, why="it was reset") is False
    assert {(mark.slot, mark.kind) for mark in ledger.marks()} == {
        ("MIG-0", MarkKind.DRAINED),
        ("MIG-1", MarkKind.UNHEALTHY),
    }
    assert kinds(sql) == ["repaired"] * 4


def test_a_mark_that_has_another_reason_by_now_stays(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.mark(BROKEN)
    other = replace(BROKEN, why="XID 48: memory error")
    ledger.mark(other)
    assert ledger.unmark(BROKEN, LATER, why="it was reset") is False
    assert ledger.marks() == (other,)
    assert kinds(sql) == ["repaired"] * 2


def test_marks_of_two_nodes_do_not_meet(ledger: Ledger) -> None:
    there = replace(BROKEN, node="gpu2")
    ledger.mark(BROKEN)
    ledger.mark(there)
    ledger.unmark(BROKEN, LATER, why="it was reset")
    assert (ledger.marks(), ledger.marks(node="gpu2")) == ((), (there,))


def test_a_slot_may_be_marked_before_it_is_known_and_after_it_is_gone(
    ledger: Ledger, sql: sa.Connection
) -> None:
    ledger.mark(replace(BROKEN, slot="MIG-9"))
    ledger.write_slots([SMALL], NOW)
    ledger.write_slots([], NOW)
    ledger.mark(BROKEN)
    assert [why for _, _, why in events(sql)] == [
        "slot MIG-9, unhealthy: XID 79: GPU lost",
        "slot 0:0, unhealthy: XID 79: GPU lost",
    ]


@pytest.mark.parametrize("kind", list(MarkKind))
def test_each_kind_of_mark_can_be_recorded(ledger: Ledger, kind: MarkKind) -> None:
    ledger.mark(replace(BROKEN, kind=kind))
    assert [mark.kind for mark in ledger.marks()] == [kind]


def test_the_database_itself_refuses_a_mark_of_another_kind(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.mark(BROKEN)
    with pytest.raises(sa.exc.IntegrityError):
        sql.execute(sa.text("UPDATE slot_marks SET kind = 'tired'"))


# Reservations


def test_reservations_come_back_whole_the_first_to_start_first(ledger: Ledger) -> None:
    late = reserve("ada", "0:1", "MIG-7", start=LATER, devices=("MIG-1", "MIG-7"))
    early = reserve("bob", "0", devices=("GPU-0",))
    ledger.write_reservations([late, early], NOW)
    assert ledger.reservations() == (early, late)
    assert ledger.reservations(node="gpu2") == ()


def test_a_new_reservation_is_an_event_of_its_owner_once(ledger: Ledger, sql: sa.Connection) -> None:
    one = reserve("ada", "0", "1:2", devices=("GPU-0", "MIG-12"))
    ledger.write_reservations([one], NOW)
    ledger.write_reservations([one, reserve("bob", "0", start=LATER)], NOW)
    window = f"{NOW.isoformat()} to {(NOW + HOUR).isoformat()}"
    assert events(sql)[0] == ("reserved", "ada", f"GPU 0, 1:2 from {window}: a deadline")
    assert [(kind, who) for kind, who, _ in events(sql)] == [("reserved", "ada"), ("reserved", "bob")]


def test_devices_that_were_found_once_stay_whatever_the_index_means_later(ledger: Ledger) -> None:
    ledger.write_reservations([reserve("ada", "0", devices=("GPU-0",))], NOW)
    ledger.write_reservations([reserve("ada", "0", devices=("GPU-7",))], LATER)
    assert ledger.reservations() == (reserve("ada", "0", devices=("GPU-0",)),)


def test_devices_that_were_not_found_are_recorded_when_they_are(ledger: Ledger) -> None:
    ledger.write_reservations([reserve("ada", "0")], NOW)
    assert ledger.reservations() == (reserve("ada", "0"),)
    found = reserve("ada", "0", devices=("GPU-0",))
    ledger.write_reservations([found], LATER)
    assert ledger.reservations() == (found,)


def test_devices_that_were_found_in_part_are_looked_up_again(ledger: Ledger) -> None:
    ledger.write_reservations([reserve("ada", "0", "1", devices=("GPU-0",))], NOW)
    whole = reserve("ada", "0", "1", devices=("GPU-0", "GPU-1"))
    ledger.write_reservations([whole], LATER)
    assert ledger.reservations() == (whole,)
    ledger.write_reservations([reserve("ada", "0", "1", devices=("GPU-1",))], LATER)
    assert ledger.reservations() == (whole,)


def test_a_reservation_of_other_gpus_or_another_time_is_another_one(ledger: Ledger) -> None:
    ledger.write_reservations([reserve("ada", "0", devices=("GPU-0",))], NOW)
    moved = [
        reserve("ada", "1", devices=("GPU-1",)),
        reserve("ada", "0", start=LATER, devices=("GPU-5",)),
        reserve("bob", "0", devices=("GPU-6",)),
    ]
    ledger.write_reservations(moved, NOW)
    assert set(ledger.reservations()) == set(moved)


def test_a_reservation_whose_reason_changed_keeps_its_devices(ledger: Ledger) -> None:
    one = reserve("ada", "0", devices=("GPU-0",))
    ledger.write_reservations([one], NOW)
    ledger.write_reservations([replace(one, reason="a talk", devices=("GPU-7",))], LATER)
    assert ledger.reservations() == (replace(one, reason="a talk"),)


def test_a_reservation_that_left_the_file_is_gone(ledger: Ledger) -> None:
    kept = reserve("bob", "1")
    ledger.write_reservations([reserve("ada", "0"), kept], NOW)
    ledger.write_reservations([kept], LATER)
    assert ledger.reservations() == (kept,)
    ledger.write_reservations([], LATER)
    assert ledger.reservations() == ()


def test_reservations_that_are_the_same_write_nothing(ledger: Ledger) -> None:
    one, other = reserve("ada", "0", devices=("GPU-0",)), reserve("bob", "1", devices=("GPU-1",))
    ledger.write_reservations([one, other], NOW)
    epoch = ledger.epoch()
    local = replace(one, start=one.start.astimezone(BERLIN), end=one.end.astimezone(BERLIN), devices=())
    ledger.write_reservations([other, local], LATER)
    assert ledger.epoch() == epoch


def test_reservations_of_one_node_leave_those_of_another(ledger: Ledger) -> None:
    one = reserve("ada", "0")
    ledger.write_reservations([one], NOW, node="gpu2")
    ledger.write_reservations([], NOW)
    assert ledger.reservations(node="gpu2") == (one,)


# What a decision sees


def test_a_decision_sees_marks_and_reservations(ledger: Ledger) -> None:
    window = reserve("bob", "0", devices=("GPU-0",))
    ledger.write_slots([SMALL, SECOND], NOW)
    ledger.mark(BROKEN)
    ledger.write_reservations([window], NOW)
    seen: list[PoolView] = []

    def look(view: PoolView) -> tuple[Slot, ...]:
        seen.append(view)
        return ()

    ledger.reserve(draft("cleo"), look)
    (view,) = seen
    assert (view.marks, view.reservations) == ((BROKEN,), (window,))
    again = ledger.view("nobody")
    assert (again.marks, again.reservations) == ((BROKEN,), (window,))


def test_a_taken_slot_is_free_when_its_run_time_or_its_hold_is_over(ledger: Ledger) -> None:
    third = replace(SMALL, uuid="MIG-2", index="0:2")
    ledger.write_slots([SMALL, SECOND, third, FULL], NOW)
    over = NOW + 3 * HOUR
    running = ledger.reserve(replace(draft("ada"), runs_until=over), take(SMALL))
    ledger.activate(running.id, "c1", NOW)
    held = ledger.reserve(replace(draft("bob"), runs_until=over), take(SECOND))
    ledger.hold(held.id, NOW + HOUR, NOW, "stopped over SSH")
    ledger.reserve(replace(draft("cleo"), runs_until=over), take(third))
    ledger.reserve(draft("dan"), take(FULL))
    view = ledger.view("ada")
    assert view.ends == {"MIG-0": over, "MIG-1": NOW + HOUR, "MIG-2": over, "GPU-2": None}
    assert view.taken == view.ends.keys()


def test_a_hold_without_an_end_has_none_whatever_the_run_time_was(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    held = ledger.reserve(replace(draft("ada"), runs_until=LATER), take(SMALL))
    ledger.hold(held.id, None, NOW, "stopped over SSH")
    assert ledger.view("ada").ends == {"MIG-0": None}


def test_a_leased_slot_that_is_gone_is_taken_still(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, FULL], NOW)
    ledger.reserve(replace(draft("ada"), runs_until=LATER), take(SMALL))
    ledger.write_slots([FULL], NOW)
    view = ledger.view("ada")
    assert (view.slots, view.taken, view.ends) == ((FULL,), {"MIG-0"}, {"MIG-0": LATER})
