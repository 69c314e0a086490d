"""`ds01 gpu status`: every slot, who has it, and who waits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ...model import Lease, LeaseState, QueueEntry, SlotState, name_gpu
from ..sources import Sources, open_core
from ..tables import Block, Cell, print_json, print_table
from ..times import show_time, write_time

if TYPE_CHECKING:
    from ...allocator import SlotStatus
    from ...core.overview import Overview, Waiting

_STYLES = {
    SlotState.FREE: "green",
    SlotState.PENDING: "yellow",
    SlotState.HELD: "cyan",
    SlotState.RESERVED: "blue",
    SlotState.EXTERNAL: "magenta",
    SlotState.CONTESTED: "bold red",
    SlotState.UNHEALTHY: "red",
    SlotState.DRAINED: "yellow",
}
_SLOT_HEADINGS = (
    "SLOT", "PROFILE", "MEMORY", "STATE", "USER", "SERVER", "LEASE", "SINCE", "UNTIL", "NOTE",
)  # fmt: skip
_QUEUE_HEADINGS = ("PLACE", "USER", "SERVER", "WISH", "PRIORITY", "SINCE", "EXPECTED")


def show_status(options: argparse.Namespace, sources: Sources) -> None:
    """Print every slot with its state, the queue, and how many are free."""
    seen = open_core(sources).admin.overview()
    if options.json:
        print_json(_as_json(seen))
        return
    if seen.slots:
        print_table(_SLOT_HEADINGS, _list_slots(seen.slots, seen.at))
        print()
    if seen.queue:
        print("Queue")
        print_table(_QUEUE_HEADINGS, [("", [_list_place(one, seen.at) for one in seen.queue])])
        print()
    print(_sum_up(seen))
    if seen.problem is not None:
        print(f"ds01: {seen.problem}", file=sys.stderr)
        if seen.problem.detail:
            print(f"  {seen.problem.detail}", file=sys.stderr)


def name_server(holder: Lease | QueueEntry) -> str:
    """Return what a person calls a server: the NAME of its container, `jupyter` for the default one."""
    # What `allocate` gives has a name that no server can have.
    return "no server" if holder.server.startswith("#") else holder.container_name.partition("._.")[0]


def end_of(lease: Lease) -> datetime | None:
    """Return when a lease ends at the latest, as far as it is known."""
    return lease.deadline if lease.state is LeaseState.HELD else lease.runs_until


def list_place(waiting: Waiting) -> dict[str, object]:
    """Return a place in the queue for JSON, but for who has it."""
    entry = waiting.entry
    return {
        "position": waiting.position,
        "server": entry.server,
        "profile": entry.wish.profile,
        "count": entry.wish.count,
        "priority": entry.wish.priority,
        "requested_at": write_time(entry.wish.requested_at),
        "expected_at": write_time(waiting.expected_at),
    }


def _as_json(seen: Overview) -> dict[str, object]:
    return {
        "slots": [
            {
                "id": one.slot.index,
                "node": one.slot.node,
                "uuid": one.slot.uuid,
                "profile": one.slot.profile,
                "memory_mib": one.slot.memory_mib,
                "share": float(one.slot.share),
                "state": one.state.value,
                "why": one.why,
                "lease": None if one.lease is None else _lease_as_json(one.lease),
            }
            for one in seen.slots
        ],
        "queue": [{"user": one.entry.wish.user, **list_place(one)} for one in seen.queue],
        "problem": None if seen.problem is None else str(seen.problem),
    }


def _lease_as_json(lease: Lease) -> dict[str, object]:
    return {
        "id": lease.id,
        "user": lease.user,
        "server": lease.server,
        "container": lease.container_name,
        "state": lease.state.value,
        "since": write_time(lease.created_at),
        "until": write_time(end_of(lease)),
    }


def _list_slots(slots: Sequence[SlotStatus], now: datetime) -> list[Block]:
    blocks: dict[str, tuple[str, list[Sequence[Cell]]]] = {}
    for one in slots:
        number = one.slot.index.partition(":")[0]
        title = f"GPU {number}  {one.slot.gpu_name}" if number else "A GPU that is not there"
        blocks.setdefault(one.slot.gpu_uuid, (title, []))[1].append(_list_slot(one, now))
    return list(blocks.values())


def _list_slot(one: SlotStatus, now: datetime) -> Sequence[Cell]:
    slot, lease = one.slot, one.lease
    holder = ("", "", "", "", "")
    if lease is not None:
        since, until = show_time(lease.created_at, now), show_time(end_of(lease), now)
        holder = (lease.user, name_server(lease), str(lease.id), since, until)
    memory = f"{slot.memory_mib / 1024:.4g} GiB" if slot.memory_mib else ""
    profile = name_gpu(slot.profile)
    state = (one.state.value, _STYLES.get(one.state, ""))
    return (slot.index or slot.uuid, profile, memory, state, *holder, one.why)


def _list_place(waiting: Waiting, now: datetime) -> Sequence[Cell]:
    entry = waiting.entry
    return (
        str(waiting.position),
        entry.wish.user,
        name_server(entry),
        f"{entry.wish.count} × {name_gpu(entry.wish.profile)}",
        str(entry.wish.priority),
        show_time(entry.wish.requested_at, now),
        show_time(waiting.expected_at, now) or "not known",
    )


def _sum_up(seen: Overview) -> str:
    free = sum(one.state is SlotState.FREE for one in seen.slots)
    waiting = f", {len(seen.queue)} waiting" if seen.queue else ""
    return f"{free} of {len(seen.slots)} free{waiting}"
