"""What each slot is at one moment, for whoever looks after the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from ..model import Lease, LeaseState, Mark, MarkKind, Reservation, Slot, SlotState
from .choice import slot_order
from .shortage import show_time

_GONE = "this slot is no longer on the machine"
_OF_LEASE = {
    LeaseState.PENDING: SlotState.PENDING,
    LeaseState.ACTIVE: SlotState.LEASED,
    LeaseState.HELD: SlotState.HELD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatus:
    """One slot: its state, the live lease that has it, and why it is so, "" where there is nothing to say."""

    slot: Slot
    state: SlotState
    lease: Lease | None = None
    why: str = ""


def slot_states(
    slots: Sequence[Slot],
    leases: Iterable[Lease],
    marks: Iterable[Mark],
    reservations: Iterable[Reservation],
    now: datetime,
    *,
    known: Iterable[Slot] = (),
) -> tuple[SlotStatus, ...]:
    """Return the state of each slot, in slot order.

    The first of these that holds: contested, unhealthy (a mark or a fault), the state of its live lease,
    external, drained, reserved at this moment, free. `why` has the reasons of all that hold.

    A slot in a live lease that is not among `slots` is shown too, as unhealthy and after the others. It
    is looked up among the `known` slots, which may hold present ones as well; one that is in neither
    has no index.
    """
    present = {slot.uuid for slot in slots}
    holders = {uuid: lease for lease in leases if lease.state.is_live for uuid in lease.slots}
    by_uuid = {slot.uuid: slot for slot in known}
    gone = [
        replace(by_uuid.get(uuid) or _make_unknown(uuid, lease), fault=_GONE)
        for uuid, lease in holders.items()
        if uuid not in present
    ]
    marked: dict[str, dict[MarkKind, Mark]] = {}
    for mark in marks:
        marked.setdefault(mark.slot, {})[mark.kind] = mark
    running = [one for one in reservations if one.start <= now < one.end]
    return tuple(
        _judge(
            slot,
            holders.get(slot.uuid),
            marked.get(slot.uuid, {}),
            next((one for one in running if one.covers(slot)), None),
            now,
        )
        for slot in (*sorted(slots, key=slot_order), *gone)
    )


def _judge(
    slot: Slot,
    lease: Lease | None,
    marks: dict[MarkKind, Mark],
    reservation: Reservation | None,
    now: datetime,
) -> SlotStatus:
    found: list[tuple[SlotState, str]] = []
    if MarkKind.CONTESTED in marks:
        found.append((SlotState.CONTESTED, marks[MarkKind.CONTESTED].why))
    if MarkKind.UNHEALTHY in marks:
        found.append((SlotState.UNHEALTHY, marks[MarkKind.UNHEALTHY].why))
    if slot.fault:
        found.append((SlotState.UNHEALTHY, slot.fault))
    if lease is not None:
        found.append((_OF_LEASE[lease.state], ""))
    if MarkKind.EXTERNAL in marks:
        found.append((SlotState.EXTERNAL, marks[MarkKind.EXTERNAL].why))
    if MarkKind.DRAINED in marks:
        found.append((SlotState.DRAINED, _describe_drain(marks[MarkKind.DRAINED])))
    if reservation is not None:
        found.append((SlotState.RESERVED, _describe_reservation(reservation, now)))
    found.append((SlotState.FREE, ""))
    # What NVML says of a slot may stand in a mark as well.
    reasons = dict.fromkeys(why for _, why in found if why)
    return SlotStatus(slot=slot, state=found[0][0], lease=lease, why="; ".join(reasons))


def _describe_drain(mark: Mark) -> str:
    by = f"drained by {mark.who}" if mark.who else "drained"
    return f"{by}: {mark.why}" if mark.why else by


def _describe_reservation(one: Reservation, now: datetime) -> str:
    said = f"reserved for {one.user} until {show_time(one.end, now)}"
    return f"{said}: {one.reason}" if one.reason else said


def _make_unknown(uuid: str, lease: Lease) -> Slot:
    return Slot(
        uuid=uuid,
        index="",
        profile="",
        gpu_uuid="",
        gpu_name="",
        memory_mib=0,
        share=Fraction(0),
        node=lease.node,
    )
