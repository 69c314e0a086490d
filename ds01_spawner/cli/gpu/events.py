"""`ds01 gpu history`: what happened to leases, slots and the queue, line by line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping

from ...model import DEFAULT_SERVER, Event, Slot
from ..sources import Sources, open_core
from ..tables import print_json, print_table
from ..times import write_time
from .person import name_slots

_HEADINGS = ("TIME", "WHAT", "WHO", "SERVER", "LEASE", "SLOTS", "WHY")
_CONTAINER_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")


def show_history(options: argparse.Namespace, sources: Sources) -> None:
    """Print the newest events, the oldest of them first."""
    admin = open_core(sources).admin
    events = admin.history(user=options.user, since=options.since, limit=options.limit)
    if options.json:
        print_json([_as_json(event) for event in events])
    elif events:
        known = admin.known_slots()
        print_table(_HEADINGS, [("", [_list_event(event, known) for event in events])])
    else:
        print("ds01: Nothing of that kind is in the history.", file=sys.stderr)


def _as_json(event: Event) -> dict[str, object]:
    return {
        "id": event.id,
        "at": write_time(event.at),
        "kind": event.kind,
        "who": event.who,
        "why": event.why,
        "lease": event.lease_id,
        "server": event.server,
        "slots": list(event.slots),
    }


def _list_event(event: Event, known: Mapping[str, Slot]) -> tuple[str, ...]:
    return (
        f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}",
        event.kind,
        event.who,
        "" if event.lease_id is None else event.server or DEFAULT_SERVER,
        "" if event.lease_id is None else str(event.lease_id),
        name_slots(event.slots, known),
        _CONTAINER_ID.sub(r"\1", event.why),
    )
