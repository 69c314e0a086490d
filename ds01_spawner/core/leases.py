"""How a lease begins, waits, and ends; `settle` is the only way a slot comes free."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from .. import allocator, limits, mlc, reconcile
from ..allocator import LeaseDraft, PoolView
from ..errors import LimitExceeded, LimitsBroken, NothingFree
from ..metrics import REPAIRS
from ..model import FULL_GPU, Container, GpuWish, Lease, LeaseState, Limits, ServerRequest, Slot
from ..reconcile import Action, Repair, Rules
from .offers import STOPPED, Offers

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)

# Whoever begins an end has so long; then others finish it, though it still lives.
_END_TIME = timedelta(minutes=2)
# For a stopped container while nobody can read how long it is to be held.
_UNKNOWN_HOLD = timedelta(hours=1)

STOPPED_WORDS = (
    "This container was stopped: its time was over, and its GPU may be somebody else's by now. Your files in "
    "/workspace and in your home are kept. Start a new server on the Hub to go on."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A lease, and the container that is there for it already (resumed or still running), if any."""

    lease: Lease
    container: Container | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the queue: `position` counts from 1 to `length`; `why` nothing can be had now.

    `expected_at` is when it should be her turn, None where nobody can know.
    """

    position: int
    length: int
    why: str
    expected_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is started, and for whom; the same for each try of one start.

    `requested_at` is when she asked for it, `fingerprint` says what the container would be made of.
    """

    user: str
    server: str
    container_name: str
    request: ServerRequest
    effective: Limits
    fingerprint: str
    requested_at: datetime


class Leases:
    """Ledger and Docker together.

    `start_deadline_seconds` is how long a pending lease lives, `queue_patience` how long others may pass
    a spawn that cannot be served yet, `queue_limit` how many spawns may wait (0: none) and `longest_wait` for
    how long any of them does. `owner` names this process, `is_alive` says whether the one of a name runs.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        engine: DockerEngine,
        offers: Offers,
        owner: str,
        is_alive: Callable[[str], bool],
        start_deadline_seconds: float = 300,
        queue_patience: timedelta = timedelta(minutes=10),
        queue_limit: int = 0,
        longest_wait: timedelta | None = timedelta(hours=3),
        shared_containers_block: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._offers = offers
        self._owner = owner
        self._start_deadline = timedelta(seconds=start_deadline_seconds)
        self._patience = queue_patience
        self._queue_limit = queue_limit
        self.rules = Rules(
            hold_of=self._hold,
            is_alive=is_alive,
            owner=owner,
            longest_wait=longest_wait,
            shared_containers_block=shared_containers_block,
        )
        self.now = clock
        self._locks = tuple(threading.Lock() for _ in range(64))

    # begin -----------------------------------------------------------------------------------------

    def claim(self, start: Start, *, queue_limit: int | None = None) -> Claim | Place:
        """Return the lease to start a server with, or her place in the queue; ask again then.

        A held or still running container is taken up: a running one as it is, a stopped one only if its
        fingerprint is the same and its run time not over, otherwise it is removed and its lease ends before a
        new one is made.
        `queue_limit` lowers how many may wait.

        Raises:
            NothingFree: and it makes no sense to wait, or the queue is full, or there is none.
            LimitExceeded, NotAllowed, InventoryUnavailable, LedgerUnavailable: as said.
        """
        live = self._ledger.find_live(start.user, start.server)
        if live is not None:
            container = self._own_container(live)
            may_resume = live.fingerprint == start.fingerprint and not self._is_over(live)
            if container is not None and (container.is_running or may_resume):
                return Claim(lease=self._resume(live, container), container=container)
            left = self.settle(live.id, ended="it was started anew")
            if left is not None and left.state.is_live:
                raise NothingFree(
                    "Your last container is just being removed. Please start again in a moment.",
                    detail=f"lease {live.id} is still being ended by another process",
                    can_wait=False,
                )
        limit = self._queue_limit if queue_limit is None else min(queue_limit, self._queue_limit)
        return self._reserve_or_wait(start, limit)

    def _is_over(self, lease: Lease) -> bool:
        return lease.runs_until is not None and lease.runs_until <= self.now()

    def _resume(self, lease: Lease, container: Container) -> Lease:
        if container.is_running or lease.state is not LeaseState.HELD:
            return lease
        # Its hold must not end while it starts.
        until = self.now() + self._start_deadline
        if lease.deadline is None or lease.deadline > until:
            return lease
        return self._ledger.resume(lease.id, self._owner, until, self.now())

    def _reserve_or_wait(self, start: Start, limit: int) -> Claim | Place:
        now = self.now()
        wish = make_wish(
            start.user,
            start.request.gpu_profile,
            start.request.gpu_count,
            start.effective,
            requested_at=start.requested_at,
            now=now,
        )
        draft = LeaseDraft(
            user=start.user,
            server=start.server,
            container_name=start.container_name,
            group=start.effective.group,
            nonce=secrets.token_hex(16),
            created_at=now,
            deadline=now + self._start_deadline,
            fingerprint=start.fingerprint,
            owner=self._owner,
            runs_until=wish.runs_until,
            takes=wish.takes,
        )
        if wish.count:
            # Who cannot be given a slot asks for none: no GPUs, no lease of one.
            self._offers.inventory()
        decide = self.decider(wish, start.effective, start.container_name)
        view = self._ledger.view(start.user)
        if any(entry.container_name == start.container_name for entry in view.queue):
            # Most tries while one waits are in vain, and a write would make all others wait.
            try:
                decide(view)
            except NothingFree as exc:
                return self._tell_place(start, wish, view, exc)
        try:
            waits = wish if wish.count and limit else None
            return Claim(lease=self._ledger.reserve(draft, decide, wish=waits, queue_limit=limit))
        except NothingFree as exc:
            view = self._ledger.view(start.user)
            if not limit:
                raise self._with_hope(start, wish, view, exc) from exc
            return self._tell_place(start, wish, view, exc)

    def decider(
        self, wish: GpuWish, allowed: Limits, container_name: str
    ) -> Callable[[PoolView], tuple[Slot, ...]]:
        """Return what chooses the slots of `wish` for the ledger, within what her limits allow."""
        strategy, now = self._offers.strategy(), self.now()

        def decide(view: PoolView) -> tuple[Slot, ...]:
            check = partial(limits.check, allowed, view.holdings, takes=wish.takes)
            check(slots=wish.count, gpu_share=Fraction(0), full_gpu=False)
            _check_waiting(allowed, view, wish, container_name)
            chosen = allocator.decide(
                view,
                wish,
                now,
                strategy=strategy,
                patience=self._patience,
                container_name=container_name,
            )
            share = sum((slot.share for slot in chosen), start=Fraction(0))
            full = wish.profile == FULL_GPU
            check(slots=len(chosen), gpu_share=share, full_gpu=full)
            return chosen

        return decide

    def _tell_place(self, start: Start, wish: GpuWish, view: PoolView, refusal: NothingFree) -> Place:
        if not refusal.can_wait:
            raise refusal
        position, length = allocator.place(view, wish, start.container_name)
        expected = allocator.expect(view, wish, self.now(), start.container_name)
        return Place(position=position, length=length, expected_at=expected, why=str(refusal))

    def _with_hope(self, start: Start, wish: GpuWish, view: PoolView, refusal: NothingFree) -> NothingFree:
        """Return the refusal of who cannot wait, with the time at which it makes sense to ask again."""
        expected = (
            allocator.expect(view, wish, self.now(), start.container_name) if refusal.can_wait else None
        )
        hope = f" One should come free by {expected.astimezone():%H:%M on %d %B}." if expected else ""
        return NothingFree(f"{refusal}{hope}", detail=refusal.detail, can_wait=False)

    def leave_queue(self, container_name: str, why: str) -> None:
        """Give up a place in the queue, if there is one."""
        self._ledger.leave_queue(container_name, self.now(), why)

    def epoch(self) -> int:
        """Return a number that is another one after each change of the ledger."""
        return self._ledger.epoch()

    def note_container(self, lease: Lease, container_id: str) -> None:
        """Record the container that was created for a pending lease, before it starts."""
        self._ledger.note_container(lease.id, container_id, self.now())

    def activate(self, lease: Lease, container_id: str) -> Lease:
        """Record that the server runs: the lease is active until its container is gone."""
        return self._ledger.activate(lease.id, container_id, self.now())

    def clear_name(self, name: str) -> Container | None:
        """Return the container that has `name` and is not ours, if there is one.

        What Docker made for a start that was given up before it heard of it is removed.
        """
        container = self._engine.container(name)
        if container is None:
            return None
        lease = self._ledger.by_container(name)
        if lease is not None and reconcile.is_ours(container, lease):
            return None
        named = self._ledger.leases_of([container.id], [container.nonce] if container.nonce else [])
        # One of a live lease is another server's, which somebody gave this name.
        ended = next(
            (one for one in named if not one.state.is_live and reconcile.is_ours(container, one)), None
        )
        if ended is None:
            return container
        self._remove_left_over(ended, container.id)
        return None

    # end -------------------------------------------------------------------------------------------

    def settle(self, lease_id: int, *, ended: str = "", grace_seconds: int = 10) -> Lease | None:
        """Make one lease agree with Docker and return it as it is then; one at a time for each lease.

        `ended` says why the server is given up: container removed, slots free. That it is wanted is
        recorded first, so that whoever is killed here leaves it to the next. A lease whose container
        cannot be asked for keeps its slots: `EngineUnavailable` comes through.
        """
        with self._lock_of(lease_id):
            if ended:
                now = self.now()
                until = now + _END_TIME + timedelta(seconds=grace_seconds)
                self._ledger.end(lease_id, now, ended, owner=self._owner, until=until)
            return self._settle(lease_id, grace_seconds=grace_seconds, is_repair=not ended)

    def settle_unless_busy(self, lease_id: int) -> None:
        """Settle a lease that is found to be wrong, unless somebody settles it at this moment."""
        lock = self._lock_of(lease_id)
        if lock.acquire(blocking=False):
            try:
                self._settle(lease_id)
            finally:
                lock.release()

    def _settle(self, lease_id: int, *, grace_seconds: int = 10, is_repair: bool = True) -> Lease | None:
        lease = self._ledger.lease(lease_id)
        if lease is None or not lease.state.is_live:
            return lease
        containers = self._containers_of(lease)
        present = (
            frozenset(slot.uuid for slot in self._ledger.slots(node=lease.node)) if lease.slots else None
        )
        for repair in reconcile.plan_lease(lease, containers, self.now(), rules=self.rules, present=present):
            if not self._apply(repair, lease, grace_seconds):
                break
            if is_repair:
                REPAIRS.labels(repair.action.value).inc()
        return self._ledger.lease(lease_id)

    def settle_server(
        self, user: str, server: str, *, ended: str = "", grace_seconds: int = 10
    ) -> Lease | None:
        """Settle the live lease of a server, if it has one; one that is `ended` waits no more, either."""
        # A start may fail after it was given a place, and before it was told so.
        for entry in self._ledger.queue() if ended else ():
            if (entry.wish.user, entry.server) == (user, server):
                self._ledger.leave_queue_by_id(entry.id, self.now(), ended)
        lease = self._ledger.find_live(user, server)
        return None if lease is None else self.settle(lease.id, ended=ended, grace_seconds=grace_seconds)

    def remove_left_overs(self, lease: Lease) -> None:
        """Remove the containers that outlived their lease; who works there reads why, also on the form."""
        for container in self._containers_of(lease):
            if reconcile.is_ours(container, lease):
                self._remove_left_over(lease, container.id)

    def _remove_left_over(self, lease: Lease, container_id: str) -> None:
        name, container = lease.container_name, self._engine.container(container_id)
        log.warning("removing %s, which outlived its lease %s", name, lease.id)
        if container is not None and container.is_running:
            self._engine.stop_with_words(container_id, STOPPED_WORDS)
            why = f"Your container {name} was stopped: its time was over before it was started again."
            self._ledger.note(lease, STOPPED, why, self.now())
        self._engine.remove(container_id)
        REPAIRS.labels(Action.REMOVE.value).inc()
        self._ledger.note(lease, "repaired", f"{name} was removed, which had outlived its lease", self.now())

    def _lock_of(self, lease_id: int) -> threading.Lock:
        return self._locks[lease_id % len(self._locks)]

    def _containers_of(self, lease: Lease) -> tuple[Container, ...]:
        found = self._engine.containers(label=f"{mlc.LEASE_LABEL}={lease.nonce}")
        if not lease.container_id or any(container.id == lease.container_id for container in found):
            return found
        known = self._engine.container(lease.container_id)
        return found if known is None else (*found, known)

    def _own_container(self, lease: Lease) -> Container | None:
        if lease.state is LeaseState.PENDING or lease.ending:
            return None
        return next((one for one in self._containers_of(lease) if reconcile.is_ours(one, lease)), None)

    def _hold(self, lease: Lease) -> timedelta | None:
        """Return how long a stopped container is held: never into somebody else's reservation."""
        try:
            hold = reconcile.hold_for(lease, self._offers.limits_for(lease.user, (lease.group,)))
        except LimitsBroken as exc:
            # Nothing is removed because of a slip in a file.
            log.warning("lease %s is held for %s: %s", lease.id, _UNKNOWN_HOLD, exc.detail or exc)
            hold = _UNKNOWN_HOLD
        if not lease.slots or hold == timedelta(0):
            return hold
        now = self.now()
        hers = [slot for slot in self._ledger.known_slots(node=lease.node) if slot.uuid in lease.slots]
        start = allocator.next_reservation(self._ledger.reservations(node=lease.node), hers, lease.user, now)
        if start is None:
            return hold
        left = max(start - now, timedelta(0))
        return left if hold is None else min(hold, left)

    def _apply(self, repair: Repair, lease: Lease, grace_seconds: int) -> bool:
        """Take one step; False if the lease changed meanwhile, so that the rest must not follow."""
        log.info("lease %s: %s, since %s", lease.id, repair.action.value, repair.why)
        now = self.now()
        if repair.action is Action.END:
            until = now + _END_TIME + timedelta(seconds=grace_seconds)
            return self._ledger.end(
                lease.id, now, repair.why, owner=self._owner, until=until, seen=lease, kind="repaired"
            )
        if repair.action is Action.REMOVE:
            self._engine.remove(repair.container_id, grace_seconds=grace_seconds)
        elif repair.action is Action.RELEASE:
            self._engine.untag(mlc.image_name(lease.container_name, lease.user))
            return self._ledger.release(lease.id, now, repair.why)
        elif repair.action is Action.HOLD:
            self._ledger.hold(lease.id, repair.until, now, repair.why)
        elif repair.action is Action.ADOPT:
            self._ledger.activate(lease.id, repair.container_id, now)
        return True


def make_wish(
    user: str, profile: str, count: int, allowed: Limits, *, requested_at: datetime, now: datetime
) -> GpuWish:
    """Return what a start that begins now wishes for, within what the user may have."""
    runtime = allowed.max_runtime
    return GpuWish(
        user=user,
        profile=profile,
        count=count,
        requested_at=requested_at,
        allow_full_gpu=allowed.allow_full_gpu,
        priority=allowed.priority,
        runs_until=None if runtime is None else now + runtime,
        takes=allowed.per_container,
    )


def _check_waiting(allowed: Limits, view: PoolView, wish: GpuWish, container_name: str) -> None:
    """Refuse one more place in the queue to somebody whose places before it fill her limits already."""
    earlier = [
        entry.wish
        for entry in view.queue
        if entry.wish.user == wish.user
        and (entry.wish.rank, entry.container_name) < (wish.rank, container_name)
    ]
    if not earlier:
        return
    holdings = replace(
        view.holdings,
        containers=view.holdings.containers + len(earlier),
        slots=view.holdings.slots + sum(other.count for other in earlier),
        takes=sum((other.takes for other in earlier), start=view.holdings.takes),
    )
    try:
        limits.check(
            allowed,
            holdings,
            slots=wish.count,
            gpu_share=Fraction(0),
            full_gpu=False,
            takes=wish.takes,
        )
    except LimitExceeded as exc:
        raise LimitExceeded(f"{exc} Your starts that wait in the queue count too.") from exc
