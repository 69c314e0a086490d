"""The time of running servers: looked at, warned, extended and ended; what is due says `lifecycle`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .. import lifecycle
from ..allocator import PoolView
from ..errors import DS01Error, InventoryUnavailable, RequestRefused
from ..metrics import LIFETIME_STEPS
from ..model import (
    Decision,
    Extension,
    Lease,
    LeaseState,
    Limits,
    Observation,
    Review,
    SlotUse,
    Step,
    TimeLeft,
    Watch,
)
from .leases import Leases
from .offers import Offers

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)

# A stop waits for a program that saves its work; that of others must not wait for it.
_STOPS_AT_ONCE = 8

LastActivity = Mapping[tuple[str, str], datetime]
"""When the Hub saw activity last, by login and server."""


class Lifetimes:
    """Looks at running servers again and again, every `interval`, and carries out what is due.

    `read_uses` asks how each slot is used.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        engine: DockerEngine,
        offers: Offers,
        leases: Leases,
        read_uses: Callable[[], tuple[SlotUse, ...]],
        interval: timedelta = timedelta(minutes=1),
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._offers = offers
        self._leases = leases
        self._read_uses = read_uses
        self._interval = interval
        self._stops = ThreadPoolExecutor(_STOPS_AT_ONCE, thread_name_prefix="ds01-stop")
        self._stopping: set[int] = set()

    def look(self, last_activity: LastActivity | None) -> tuple[tuple[Lease, Review], ...]:
        """Look at all running servers once, and begin what is due; returns what was found.

        `last_activity` is None where the Hub does not answer: nobody is idle then. A server that cannot
        be looked at is passed over until the next time.

        Raises:
            LedgerUnavailable, LimitsBroken: nothing can be judged.
        """
        running = [lease for lease in self._ledger.live_leases() if _is_running(lease)]
        if not running:
            return ()
        uses = self._find_uses()
        pool = self._ledger.view(running[0].user)
        found = []
        for lease in running:
            try:
                review = self._review(lease, uses, pool, last_activity)
            except DS01Error as exc:
                log.warning("%s is not looked at: %s", lease.container_name, exc.detail or exc)
                continue
            if review is not None:
                found.append((lease, review))
                for decision in review.decisions:
                    self._carry_out(lease, decision)
        return tuple(found)

    def _find_uses(self) -> tuple[SlotUse, ...]:
        try:
            return self._read_uses()
        except InventoryUnavailable as exc:
            log.warning("how the GPUs are used is not seen: %s", exc.detail or exc)
            return ()

    def _review(
        self, lease: Lease, uses: Collection[SlotUse], pool: PoolView, last_activity: LastActivity | None
    ) -> Review | None:
        """Return what a look at one server comes to, None if it runs no more."""
        doing = self._engine.activity(lease.container_id or "")
        if doing is None:
            return None
        seen = Observation(
            at=self._leases.now(),
            started_at=doing.started_at,
            uses=tuple(use for use in uses if use.slot in lease.slots),
            cpu_seconds=doing.cpu_seconds,
            network_bytes=doing.network_bytes,
            shells=doing.shells,
            # The Hub knows no server that it is only about to take up: it saw its start, then.
            last_activity=None
            if last_activity is None
            else last_activity.get((lease.user, lease.server), doing.started_at),
            keep_alive=doing.keep_alive,
        )
        allowed = self._limits_of(lease)
        reviews: list[Review] = []

        def look(now: Lease, watch: Watch) -> tuple[Watch, TimeLeft]:
            demand = lifecycle.measure_demand(now, pool.slots, pool.taken, pool.queue)
            made = lifecycle.review(now, watch, seen, allowed, demand=demand, interval=self._interval)
            reviews.append(made)
            return made.watch, made.time_left

        return reviews[0] if self._ledger.watch(lease.id, look) is not None else None

    def _limits_of(self, lease: Lease) -> Limits:
        return self._offers.limits_for(lease.user, (lease.group,))

    # what is due -----------------------------------------------------------------------------------

    def _carry_out(self, lease: Lease, decision: Decision) -> None:
        now = self._leases.now()
        if decision.step is Step.WARN:
            log.info("%s: %s", lease.container_name, decision.sentence)
            self._ledger.note(lease, "warned", decision.sentence, now)
            LIFETIME_STEPS.labels(decision.step.value, decision.reason).inc()
            self._engine.tell(lease.container_id or "", decision.sentence)
        elif lease.id not in self._stopping:
            log.warning("stopping %s: %s", lease.container_name, decision.sentence)
            self._stopping.add(lease.id)
            self._ledger.note(lease, "stopped", decision.sentence, now)
            LIFETIME_STEPS.labels(decision.step.value, decision.reason).inc()
            self._stops.submit(self._stop, lease, decision).add_done_callback(
                lambda _done: self._stopping.discard(lease.id)
            )

    def _stop(self, lease: Lease, decision: Decision) -> None:
        """Stop a server; container and slots are held then, as the limits say."""
        container_id, grace = lease.container_id or "", self._limits_of(lease).policy.stop_grace
        try:
            self._engine.tell(container_id, decision.sentence)
            self._engine.end_programs(container_id, grace_seconds=round(grace.total_seconds()))
            self._engine.stop(container_id)
            self._leases.settle_unless_busy(lease.id)
        except DS01Error as exc:
            # It is decided again at the next look.
            log.warning("%s is not stopped yet: %s", lease.container_name, exc.detail or exc)

    # what people ask -------------------------------------------------------------------------------

    def time_left(self) -> Mapping[int, TimeLeft]:
        """Return when each live lease ends if nothing changes, by its id, as the last look found it."""
        left = {lease.id: TimeLeft(run_until=lease.runs_until) for lease in self._ledger.live_leases()}
        return left | {lease_id: found for lease_id, (_, found) in self._ledger.watches().items()}

    def extend(self, lease_id: int, asked: timedelta, who: str, reason: str = "") -> Extension:
        """Give a live lease more run time, within what her limits allow.

        Raises:
            RequestRefused: the lease has ended, or a reservation is in the way.
            LimitExceeded: longer, or oftener, than she may.
        """
        lease = self._ledger.lease(lease_id)
        if lease is None:
            raise RequestRefused("There is no such server.", detail=f"no lease {lease_id}")
        policy = self._limits_of(lease).policy
        slots = [slot for slot in self._ledger.known_slots(node=lease.node) if slot.uuid in lease.slots]
        reservations = self._ledger.reservations(node=lease.node)

        def grant(now: Lease, watch: Watch) -> Extension:
            at = self._leases.now()
            granted = lifecycle.extend(
                now, watch, asked, policy, slots=slots, reservations=reservations, now=at
            )
            return replace(granted, who=who, reason=reason)

        return self._ledger.extend(lease_id, grant)


def _is_running(lease: Lease) -> bool:
    return lease.state is LeaseState.ACTIVE and not lease.ending and lease.container_id is not None
