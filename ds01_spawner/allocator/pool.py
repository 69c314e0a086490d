"""What a decision rests on: the pool as the ledger reads it, and the lease that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..model import LOCAL_NODE, UNLIMITED, Holdings, Mark, QueueEntry, Reservation, Resources, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseDraft:
    """A lease that is asked for: all of it but the slots, which are chosen under the ledger's lock.

    `container_name` is Docker's whole name. `deadline` is when the pending lease expires.
    `fingerprint` says what the container would be made of, so that a resume can compare it. `takes` is
    what the container would take at most.
    """

    user: str
    server: str
    container_name: str
    group: str
    nonce: str
    created_at: datetime
    deadline: datetime
    fingerprint: str = ""
    owner: str = ""
    runs_until: datetime | None = None
    takes: Resources = UNLIMITED
    node: str = LOCAL_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """What a decision may rest on, read in one transaction.

    `slots` are the node's present ones, `taken` the UUIDs of those in a live lease, `holdings`
    what the user who asks has on all nodes. `ends` says of each taken slot when its lease ends at the
    latest, None where nobody knows. `marks`, `queue` and `reservations` are the node's.
    """

    slots: tuple[Slot, ...]
    taken: frozenset[str]
    holdings: Holdings
    ends: Mapping[str, datetime | None] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    queue: tuple[QueueEntry, ...] = ()
    reservations: tuple[Reservation, ...] = ()
