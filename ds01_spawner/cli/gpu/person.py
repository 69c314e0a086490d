"""`ds01 gpu user-status`: what one user has, may have, waits for, and is to have."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from ...model import Lease, Slot, name_gpu
from ..sources import Sources, open_core
from ..tables import align, print_json, print_table, show
from ..times import show_time, write_time
from .status import end_of, list_place, name_server

if TYPE_CHECKING:
    from ...core.overview import Person

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


def _measure(person: Person) -> dict[str, tuple[int | Fraction, int | Fraction | None]]:
    """Return what she uses and what she may, None for unlimited, by the word for it."""
    holdings, limits = person.holdings, person.limits
    return {
        "servers": (holdings.containers, limits.containers),
        "slots": (holdings.slots, limits.slots),
        "gpu_share": (holdings.gpu_share, limits.gpu_share),
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


def _left(used: int | Fraction, allowed: int | Fraction | None) -> int | Fraction | None:
    return None if allowed is None else max(0, allowed - used)


def _number(value: int | Fraction | None) -> float | None:
    return float(value) if isinstance(value, Fraction) else value


def _print(person: Person, known: Mapping[str, Slot]) -> None:
    print(f"{show(person.user)} (group {person.limits.group})")
    rows = [
        (name.replace("gpu_share", "GPU share").replace("slots", "GPU slots"), _describe(used, allowed))
        for name, (used, allowed) in _measure(person).items()
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


def _describe(used: int | Fraction, allowed: int | Fraction | None) -> str:
    if allowed is None:
        return f"{float(used):.3g}, unlimited"
    return f"{float(used):.3g} of {float(allowed):.3g}, {float(_left(used, allowed) or 0):.3g} left"


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
