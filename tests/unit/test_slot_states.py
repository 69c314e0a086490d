"""What the admin reads of each slot, and which slots a reservation means."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from ds01_spawner.allocator import SlotStatus, resolve_reservations, slot_states
from ds01_spawner.model import Lease, LeaseState, Mark, MarkKind, Reservation, Slot, SlotState
from tests.unit.pools import HOUR, NOW, gpu, mark, mig, reserve

A, B, WHOLE = mig("0:0"), mig("0:1"), gpu("1")

LEASE = Lease(
    id=7,
    nonce="n",
    user="ada",
    server="",
    container_name="jupyter._.ada",
    state=LeaseState.ACTIVE,
    slots=(A.uuid,),
    share=A.share,
    created_at=NOW - HOUR,
)
RESERVED = reserve("kim", -1, 1, "GPU-0", reason="paper")
UNTIL = f"{(NOW + HOUR).astimezone():%H:%M}"


def status(
    slot: Slot = A,
    *,
    lease: Lease | None = None,
    marks: tuple[Mark, ...] = (),
    reservations: tuple[Reservation, ...] = (),
) -> SlotStatus:
    (found,) = slot_states([slot], [lease] if lease else [], marks, reservations, NOW)
    return found


def test_slot_that_nothing_is_said_of_is_free() -> None:
    assert status() == SlotStatus(slot=A, state=SlotState.FREE)


@pytest.mark.parametrize(
    ("lease_state", "state"),
    [
        (LeaseState.PENDING, SlotState.PENDING),
        (LeaseState.ACTIVE, SlotState.LEASED),
        (LeaseState.HELD, SlotState.HELD),
    ],
)
def test_live_lease_gives_its_state_and_itself(lease_state: LeaseState, state: SlotState) -> None:
    lease = replace(LEASE, state=lease_state)
    assert status(lease=lease) == SlotStatus(slot=A, state=state, lease=lease)


def test_released_lease_has_no_slot() -> None:
    assert status(lease=replace(LEASE, state=LeaseState.RELEASED)) == SlotStatus(slot=A, state=SlotState.FREE)


@pytest.mark.parametrize("kind", list(MarkKind))
def test_mark_gives_its_state_and_its_reason(kind: MarkKind) -> None:
    found = status(marks=(mark(A, kind, why="it is so"),))
    assert found.state is SlotState(kind.value)
    assert "it is so" in found.why


def test_fault_makes_a_slot_unhealthy() -> None:
    found = status(replace(A, fault="XID 79"))
    assert (found.state, found.why) == (SlotState.UNHEALTHY, "XID 79")


def test_reservation_that_runs_says_for_whom_and_until_when() -> None:
    found = status(reservations=(RESERVED,))
    assert (found.state, found.why) == (SlotState.RESERVED, f"reserved for kim until {UNTIL}: paper")


@pytest.mark.parametrize(
    ("start", "end", "state"),
    [
        (0, 1, SlotState.RESERVED),
        (-1, 0, SlotState.FREE),
        (0.01, 1, SlotState.FREE),
    ],
    ids=["starts now", "ends now", "starts soon"],
)
def test_window_holds_its_start_and_not_its_end(start: float, end: float, state: SlotState) -> None:
    assert status(reservations=(reserve("kim", start, end, A.uuid),)).state is state


def test_of_several_states_the_one_that_matters_most_is_shown() -> None:
    marks = {kind: mark(A, kind, why=kind.value) for kind in MarkKind}
    order = (
        (SlotState.CONTESTED, MarkKind.CONTESTED),
        (SlotState.UNHEALTHY, MarkKind.UNHEALTHY),
        (SlotState.LEASED, None),
        (SlotState.EXTERNAL, MarkKind.EXTERNAL),
        (SlotState.DRAINED, MarkKind.DRAINED),
        (SlotState.RESERVED, None),
    )
    lease: Lease | None = LEASE
    for state, kind in order:
        found = status(lease=lease, marks=tuple(marks.values()), reservations=(RESERVED,))
        assert (found.state, found.lease) == (state, lease)
        if kind is None:
            lease = None
        else:
            del marks[kind]


def test_drained_slot_with_a_lease_shows_the_lease_and_says_that_it_is_drained() -> None:
    found = status(lease=LEASE, marks=(mark(A, MarkKind.DRAINED, why="new fan", who="root"),))
    assert (found.state, found.why) == (SlotState.LEASED, "drained by root: new fan")
    assert status(marks=(mark(A, MarkKind.DRAINED),)).why == "drained"


def test_all_reasons_are_given_and_each_once() -> None:
    marks = (mark(A, MarkKind.UNHEALTHY, why="XID 79"), mark(A, MarkKind.DRAINED, who="root"))
    found = status(replace(A, fault="XID 79"), marks=marks, reservations=(RESERVED,))
    assert found.why == f"XID 79; drained by root; reserved for kim until {UNTIL}: paper"


def test_slots_come_in_the_order_in_which_they_are_counted() -> None:
    slots = [mig("0:10"), WHOLE, mig("0:2")]
    assert [one.slot.index for one in slot_states(slots, [], [], [], NOW)] == ["0:2", "0:10", "1"]


def test_what_belongs_to_other_slots_does_not_matter() -> None:
    (found,) = slot_states([B], [], [mark(A, MarkKind.DRAINED)], [reserve("kim", 0, 1, A.uuid)], NOW)
    assert found == SlotStatus(slot=B, state=SlotState.FREE)


def test_leased_slot_that_is_gone_is_shown_last_as_unhealthy() -> None:
    found = slot_states([B, WHOLE], [LEASE], [], [], NOW, known=[A, B])
    assert [(one.slot.index, one.state, one.lease) for one in found] == [
        ("0:1", SlotState.FREE, None),
        ("1", SlotState.FREE, None),
        ("0:0", SlotState.UNHEALTHY, LEASE),
    ]
    assert found[-1].why == "this slot is no longer on the machine"


def test_leased_slot_that_nobody_remembers_is_shown_by_its_uuid() -> None:
    (found,) = slot_states([], [LEASE], [], [], NOW)
    assert (found.slot.uuid, found.slot.index, found.slot.share) == (A.uuid, "", Fraction(0))
    assert (found.state, found.lease) == (SlotState.UNHEALTHY, LEASE)


def test_slot_that_is_gone_and_free_is_not_shown() -> None:
    assert slot_states([], [], [mark(A, MarkKind.DRAINED)], [], NOW, known=[A]) == ()


# which slots a reservation means -----------------------------------------------------------------


def resolve(*gpus: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The devices that `gpus` mean on a machine of A, B and WHOLE, and what means nothing."""
    (found,), unknown = resolve_reservations([replace(RESERVED, gpus=gpus, devices=())], [A, B, WHOLE])
    return found.devices, unknown


@pytest.mark.parametrize(
    ("gpu_name", "device"),
    [("0", "GPU-0"), ("1", "GPU-1"), ("0:1", "MIG-0:1"), ("MIG-0:0", "MIG-0:0"), ("GPU-gone", "GPU-gone")],
)
def test_index_and_uuid_mean_one_device(gpu_name: str, device: str) -> None:
    assert resolve(gpu_name) == ((device,), ())


def test_index_of_a_gpu_means_the_gpu_whatever_slices_it_will_have() -> None:
    assert RESERVED.covers(mig("0:6"))
    assert not RESERVED.covers(WHOLE)


def test_index_that_does_not_exist_is_left_out_and_reported() -> None:
    assert resolve("7", "0:1", "0:9") == (("MIG-0:1",), ("7", "0:9"))


def test_what_was_resolved_once_stays_so() -> None:
    before = replace(RESERVED, gpus=("0",), devices=("GPU-before",))
    assert resolve_reservations([before], [A]) == ((before,), ())


def test_indexes_that_nobody_has_are_reported_once() -> None:
    both = [replace(RESERVED, user=user, gpus=("7",), devices=()) for user in ("ada", "kim")]
    found, unknown = resolve_reservations(both, [A])
    assert (len(found), unknown) == (2, ("7",))
