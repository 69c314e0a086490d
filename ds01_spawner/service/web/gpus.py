"""The lab as JSON: every GPU with its slots, who waits, and what happened, as far as somebody may see it.

The same as long as nothing changed, so that its ETag holds: moments, never ages, and rounded measures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ...allocator import SlotStatus
from ...core.overview import Overview, Waiting, is_allocated
from ...core.servers import ServerView
from ...model import DEFAULT_SERVER, Event, Lease, LeaseState, Slot, SlotState, SlotUse
from .answers import write_time

_PERCENT_STEP = 5
_MEMORY_STEP_MIB = 64
_MINUTE = timedelta(minutes=1)
_CONTAINER_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What somebody sees: `login` is whose slots are her own, "" for nobody's.

    `everything` is who has which slot, since when, why, and what happened; `names` is the users' names
    alone. Who `manages` may stop, drain and extend.
    """

    login: str
    everything: bool = False
    names: bool = False
    manages: bool = False

    def owns(self, user: str) -> bool:
        """Whether a user of this machine is who looks."""
        return bool(self.login) and user == self.login


@dataclass(frozen=True, slots=True, kw_only=True)
class LabView:
    """All that there is to see: the slots and the queue, what is known of servers by their lease, how slots
    are used by their UUID, the newest events, and every slot there ever was."""

    seen: Overview
    servers: Mapping[int, ServerView]
    uses: Mapping[str, SlotUse]
    events: tuple[Event, ...] = ()
    known: Mapping[str, Slot]


def write_lab(view: LabView, sight: Sight) -> dict[str, object]:
    """Return the lab as who has this `sight` may see it."""
    slots = view.seen.slots
    return {
        "sees_all": sight.everything,
        "may_manage": sight.manages,
        "problem": None if view.seen.problem is None else str(view.seen.problem),
        "count": {
            "slots": len(slots),
            "free": sum(one.state is SlotState.FREE for one in slots),
            "mine": sum(_is_mine(one, sight) for one in slots),
        },
        "gpus": _write_gpus(view, sight),
        "queue": _write_queue(view.seen.queue, sight),
        "events": [_write_event(one, view.known) for one in reversed(view.events)]
        if sight.everything
        else [],
    }


def _write_gpus(view: LabView, sight: Sight) -> list[dict[str, object]]:
    gpus: dict[str, list[SlotStatus]] = {}
    for one in view.seen.slots:
        gpus.setdefault(one.slot.gpu_uuid, []).append(one)
    return [
        {
            "uuid": uuid,
            "id": members[0].slot.index.partition(":")[0],
            "name": members[0].slot.gpu_name,
            "slots": [_write_slot(one, view, sight) for one in members],
        }
        for uuid, members in gpus.items()
    ]


def _write_slot(one: SlotStatus, view: LabView, sight: Sight) -> dict[str, object]:
    slot, is_mine = one.slot, _is_mine(one, sight)
    is_open = sight.everything or is_mine
    names_user = one.lease is not None and (is_open or sight.names)
    return {
        "id": slot.index,
        "uuid": slot.uuid,
        "profile": slot.profile,
        "memory_mib": slot.memory_mib,
        "share": round(float(slot.share), 4),
        "state": one.state.value,
        "mine": is_mine,
        "user": one.lease.user if one.lease is not None and names_user else None,
        "origin": _find_origin(one) if sight.everything else None,
        "why": one.why if sight.everything else "",
        "lease": _write_lease(one.lease, view, sight) if one.lease is not None and is_open else None,
        "use": _write_use(view.uses.get(slot.uuid)) if is_open else None,
        "marks": [mark.kind.value for mark in view.seen.marks if mark.slot == slot.uuid]
        if sight.everything
        else [],
    }


def _is_mine(one: SlotStatus, sight: Sight) -> bool:
    return one.lease is not None and sight.owns(one.lease.user)


def _find_origin(one: SlotStatus) -> str | None:
    """Return where what uses a slot comes from, None for nothing that is known."""
    if one.lease is not None:
        return "allocated" if is_allocated(one.lease) else "hub"
    return "foreign" if one.state in (SlotState.EXTERNAL, SlotState.CONTESTED) else None


def _write_lease(lease: Lease, view: LabView, sight: Sight) -> dict[str, object]:
    server = view.servers.get(lease.id)
    may_act = sight.manages or sight.owns(lease.user)
    is_held = lease.state is LeaseState.HELD
    return {
        "id": lease.id,
        "server": None if is_allocated(lease) else lease.server,
        "name": "" if is_allocated(lease) else server_name(lease.container_name),
        "container": lease.container_name,
        "ending": lease.ending,
        "since": write_time(lease.created_at),
        "until": write_time(lease.deadline if is_held else lease.runs_until),
        "idle_since": None if server is None else write_time(server.time_left.idle_since),
        "may_stop": may_act and not lease.ending,
        "may_extend": may_act and not is_held and server is not None and server.may_extend,
    }


def server_name(container_name: str) -> str:
    """Return what a person calls the server of a container."""
    return container_name.partition("._.")[0]


def _write_use(use: SlotUse | None) -> dict[str, object] | None:
    if use is None:
        return None
    percent, memory = use.utilisation_percent, use.memory_used_mib
    return {
        "processes": use.processes,
        "utilisation_percent": None if percent is None else round(percent / _PERCENT_STEP) * _PERCENT_STEP,
        "memory_used_mib": None if memory is None else round(memory / _MEMORY_STEP_MIB) * _MEMORY_STEP_MIB,
    }


def _write_queue(queue: tuple[Waiting, ...], sight: Sight) -> dict[str, object]:
    """Return how many wait, and the places that may be seen: one's own, or all."""
    return {
        "length": len(queue),
        "places": [
            _write_place(one, sight)
            for one in queue
            if sight.everything or sight.names or sight.owns(one.entry.wish.user)
        ],
    }


def _write_place(one: Waiting, sight: Sight) -> dict[str, object]:
    entry = one.entry
    is_mine = sight.owns(entry.wish.user)
    return {
        "id": entry.id,
        "position": one.position,
        "mine": is_mine,
        "user": entry.wish.user,
        "name": server_name(entry.container_name) if is_mine or sight.everything else "",
        "profile": entry.wish.profile,
        "count": entry.wish.count,
        "since": write_time(entry.wish.requested_at),
        "expected_at": write_time(_round_up(one.expected_at)),
    }


def _round_up(moment: datetime | None) -> datetime | None:
    """Return the next full minute: what is expected moves by seconds with each look."""
    if moment is None:
        return None
    full = moment.replace(second=0, microsecond=0)
    return full if full == moment else full + _MINUTE


def _write_event(event: Event, known: Mapping[str, Slot]) -> dict[str, object]:
    return {
        "id": event.id,
        "at": write_time(event.at),
        "kind": event.kind,
        "who": event.who,
        "lease": event.lease_id,
        "name": "" if event.lease_id is None else event.server or DEFAULT_SERVER,
        "slots": [known[uuid].index if uuid in known else uuid for uuid in event.slots],
        "why": _CONTAINER_ID.sub(r"\1", event.why),
    }
