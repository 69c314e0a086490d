"""What an admin looks at: each slot, each person, who waits, and what happened. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .. import allocator
from ..allocator import PoolView, SlotStatus
from ..errors import InventoryUnavailable
from ..model import Event, Holdings, Lease, Limits, Mark, QueueEntry, Reservation, Slot
from .leases import Leases
from .offers import Offers

if TYPE_CHECKING:
    from ..adapters.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A place in the queue, from 1, and when it should be served; None where nobody can know."""

    entry: QueueEntry
    position: int
    expected_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All slots, their marks and the queue, as of `at`; `problem` is why no GPU is handed out at all."""

    at: datetime
    slots: tuple[SlotStatus, ...]
    queue: tuple[Waiting, ...]
    problem: InventoryUnavailable | None
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All that is counted, as of `at`; `inventory_age` is None where nobody has ever looked at the GPUs."""

    at: datetime
    slots: tuple[SlotStatus, ...]
    leases: tuple[Lease, ...]
    marks: tuple[Mark, ...]
    queue: tuple[QueueEntry, ...]
    inventory_age: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What one user has, may have, waits for, and is to have; `queue_length` counts everybody's places."""

    at: datetime
    user: str
    limits: Limits
    holdings: Holdings
    leases: tuple[Lease, ...]
    queue: tuple[Waiting, ...]
    queue_length: int
    reservations: tuple[Reservation, ...]


class Inspector:
    """Reads the ledger for an admin."""

    def __init__(self, *, ledger: Ledger, offers: Offers, leases: Leases) -> None:
        self._ledger = ledger
        self._offers = offers
        self._leases = leases

    def overview(self) -> Overview:
        """Return every slot with its state, and who waits; what was known stays so without NVML."""
        now, view = self._leases.now(), self._ledger.view("")
        states = self._states(view, self._ledger.live_leases(), now)
        problem = None
        try:
            self._offers.inventory()
        except InventoryUnavailable as exc:
            problem = exc
        queue = _forecast(view, now)
        return Overview(at=now, slots=states, queue=queue, problem=problem, marks=view.marks)

    def census(self) -> Census:
        """Return what there is now, for who counts it often: it asks nothing but the ledger."""
        now, view, live = self._leases.now(), self._ledger.view(""), self._ledger.live_leases()
        return Census(
            at=now,
            slots=self._states(view, live, now),
            leases=live,
            marks=view.marks,
            queue=view.queue,
            inventory_age=self._ledger.inventory_age(now),
        )

    def _states(self, view: PoolView, live: tuple[Lease, ...], now: datetime) -> tuple[SlotStatus, ...]:
        known = self._ledger.known_slots()
        return allocator.slot_states(view.slots, live, view.marks, view.reservations, now, known=known)

    def person(self, user: str, hub_groups: Iterable[str] = ()) -> Person:
        """Return where a user stands; without `hub_groups` those count that her leases were made under."""
        now, view = self._leases.now(), self._ledger.view(user)
        held = self._ledger.live_leases(user)
        waiting = _forecast(view, now, user)
        return Person(
            at=now,
            user=user,
            limits=self._offers.limits_for(user, tuple(hub_groups) or {lease.group for lease in held}),
            holdings=view.holdings,
            leases=held,
            queue=waiting,
            queue_length=len(view.queue),
            reservations=tuple(one for one in view.reservations if one.user == user and one.end > now),
        )

    def history(
        self, *, user: str = "", since: datetime | None = None, limit: int = 1000
    ) -> tuple[Event, ...]:
        """Return the newest `limit` events, the oldest of them first."""
        return self._ledger.history(user=user, since=since, limit=limit)

    def known_slots(self) -> dict[str, Slot]:
        """Return every slot that there ever was, by UUID, as it was last."""
        return {slot.uuid: slot for slot in self._ledger.known_slots()}

    def lease(self, lease_id: int) -> Lease | None:
        """Return a lease, ended or not."""
        return self._ledger.lease(lease_id)

    def queue(self) -> tuple[QueueEntry, ...]:
        """Return who waits, the first to be served first."""
        return self._ledger.queue()


def is_allocated(lease: Lease) -> bool:
    """Whether an admin gave the slots to somebody without a server."""
    # No server of the Hub can have such a name.
    return lease.server.startswith("#")


def _forecast(view: PoolView, now: datetime, user: str = "") -> tuple[Waiting, ...]:
    """Return the places of one user, or all, each with its position among all."""
    found = []
    for position, entry in enumerate(view.queue, start=1):
        if user and entry.wish.user != user:
            continue
        until = entry.wish.runs_until
        # As if it started now: the one that was written down is from when it began to wait.
        wish = replace(entry.wish, runs_until=until and until + (now - entry.entered_at))
        expected = allocator.expect(view, wish, now, entry.container_name)
        found.append(Waiting(entry=entry, position=position, expected_at=expected))
    return tuple(found)
