"""`ds01 gpu user-status`: what one user has, may have, waits for, and is to have."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from ...model import Lease, Slot, name_gpu
from ...sizes import format_bytes
from ..sources import Sources, open_core
from ..tables import align, print_json, print_table, show
from ..times import show_time, write_time
from .status import end_of, list_place, name_server

if TYPE_CHECKING:
    from ...core.overview import Person

_Number = int | float | Fraction
_TOGETHER = ("cpus", "memory_bytes", "pids")
_NAMES = {
    "slots": "GPU slots",
    "gpu_share": "GPU share",
    "cpus": "CPUs",
    "memory_bytes": "memory",
    "pids": "processes",
}
_LEASE_HEADINGS = ("LEASE", "SERVER", "STATE", "SLOTS", "SINCE", "UNTIL", "NOTE")


def show_person(options: argparse.Namespace, sources: Sources) -> None:
    """Print where a user stands."""
    admin = open_core(sources).admin
    person = admin.person(options.user, options.group or sources.groups_of(options.user))
    known = admin.known_slots()
    if options.json:
        print_json(_as_json(person, known))
    else:
        _print(person, known)


def _measure(person: Person) -> dict[str, tuple[_Number | None, _Number | None]]:
    """Return what she uses and what she may, None for unlimited, by the word for it."""
    holdings, limits = person.holdings, person.limits
    takes, together = holdings.takes, limits.aggregate
    return {
        "servers": (holdings.containers, limits.containers),
        "slots": (holdings.slots, limits.slots),
        "gpu_share": (holdings.gpu_share, limits.gpu_share),
        "cpus": (takes.cpus, together.cpus),
        "memory_bytes": (takes.memory, together.memory),
        "pids": (takes.pids, together.pids),
    }


def _as_json(person: Person, known: Mapping[str, Slot]) -> dict[str, object]:
    return {
        "user": person.user,
        "group": person.limits.group,
        **{
            name: {"used": _number(used), "allowed": _number(allowed), "left": _number(_left(used, allowed))}
            for name, (used, allowed) in _measure(person).items()
        },
        "leases": [
            {
                "id": lease.id,
                "server": lease.server,
                "container": lease.container_name,
                "state": lease.state.value,
                "since": write_time(lease.created_at),
                "until": write_time(end_of(lease)),
                "ending": lease.ending,
                "slots": [slot_as_json(uuid, known) for uuid in lease.slots],
            }
            for lease in person.leases
        ],
        "queue": [list_place(one) for one in person.queue],
        "queue_length": person.queue_length,
        "reservations": [
            {
                "start": write_time(one.start),
                "end": write_time(one.end),
                "gpus": list(one.gpus),
                "devices": list(one.devices),
                "reason": one.reason,
            }
            for one in person.reservations
        ],
    }


def slot_as_json(uuid: str, known: Mapping[str, Slot]) -> dict[str, object]:
    """Return a slot for JSON; what nobody knows of it is empty."""
    slot = known.get(uuid)
    return {"id": slot.index if slot else "", "uuid": uuid, "profile": slot.profile if slot else ""}


def name_slots(uuids: tuple[str, ...], known: Mapping[str, Slot]) -> str:
    """Return slots as a person reads them: by index where that is known."""
    return ", ".join(known[uuid].index if uuid in known else uuid for uuid in uuids)


def _left(used: _Number | None, allowed: _Number | None) -> _Number | None:
    """Return what is left; nothing beside a server that may take any amount."""
    if allowed is None:
        return None
    return 0 if used is None else max(0, allowed - used)


def _number(value: _Number | None) -> float | None:
    return float(value) if isinstance(value, Fraction) else value


def _print(person: Person, known: Mapping[str, Slot]) -> None:
    print(f"{show(person.user)} (group {person.limits.group})")
    rows = [
        (_NAMES.get(name, name), _describe(name, used, allowed))
        for name, (used, allowed) in _measure(person).items()
        # The limits of a single server bind already where nothing is said of all together.
        if allowed is not None or name not in _TOGETHER
    ]
    print(align(rows, indent="  "))
    if person.leases:
        print()
        print_table(_LEASE_HEADINGS, [("", [_list_lease(lease, person, known) for lease in person.leases])])
    for waiting in person.queue:
        wish = waiting.entry.wish
        expected = show_time(waiting.expected_at, person.at)
        print(
            f"\nWaits for {wish.count} × {name_gpu(wish.profile)} since "
            f"{show_time(wish.requested_at, person.at)}, place {waiting.position} of {person.queue_length}, "
            f"{f'expected at {expected}' if expected else 'nobody knows until when'} "
            f"({show(name_server(waiting.entry))})."
        )
    for one in person.reservations:
        window = f"from {show_time(one.start, person.at)} until {show_time(one.end, person.at)}"
        print(
            f"\nReserved: GPU {', '.join(one.gpus)} {window}{f': {show(one.reason)}' if one.reason else '.'}"
        )


def _describe(name: str, used: _Number | None, allowed: _Number | None) -> str:
    if allowed is None:
        return "unlimited" if used is None else f"{_write(name, used)}, unlimited"
    if used is None:
        return f"all of {_write(name, allowed)}, since nobody knows a limit of one server"
    left = _write(name, max(0, allowed - used))
    return f"{_write(name, used)} of {_write(name, allowed)}, {left} left"


def _write(name: str, value: _Number) -> str:
    if name == "memory_bytes":
        return format_bytes(int(value))
    return f"{value:.10g}" if name in _TOGETHER else f"{float(value):.3g}"


def _list_lease(lease: Lease, person: Person, known: Mapping[str, Slot]) -> tuple[str, ...]:
    return (
        str(lease.id),
        name_server(lease),
        lease.state.value,
        name_slots(lease.slots, known),
        show_time(lease.created_at, person.at),
        show_time(end_of(lease), person.at),
        f"is being ended: {lease.ending}" if lease.ending else "",
    )
