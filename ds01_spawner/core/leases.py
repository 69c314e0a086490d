"""How a lease begins, is tied to its container, and ends; `settle` is the only way a slot comes free."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING

from .. import allocator, limits, mlc, reconcile
from ..allocator import LeaseDraft, PoolView
from ..errors import DS01Error
from ..model import FULL_GPU, Container, Lease, LeaseState, Limits, ServerRequest, Slot
from ..reconcile import Action, Repair
from .offers import Offers

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A lease, and the container that is there for it already (resumed or still running), if any."""

    lease: Lease
    container: Container | None = None


class Leases:
    """Ledger and Docker together. `start_deadline_seconds` is how long a pending lease lives."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        engine: DockerEngine,
        offers: Offers,
        start_deadline_seconds: float = 300,
        shared_containers_block: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._offers = offers
        self._start_deadline = timedelta(seconds=start_deadline_seconds)
        self._shared_blocks = shared_containers_block
        self._now = clock
        self._locks = tuple(threading.Lock() for _ in range(64))

    def claim(
        self,
        *,
        user: str,
        server: str,
        container_name: str,
        request: ServerRequest,
        effective: Limits,
        fingerprint: str,
    ) -> Claim:
        """Return the lease to start `server` with: a held or still running one, else a new one.

        A running container is taken as it is; a stopped one only if its fingerprint is the same,
        otherwise it is removed and its lease ends before a new one is made.

        Raises:
            NothingFree, LimitExceeded, NotAllowed, InventoryUnavailable, LedgerUnavailable: as said.
        """
        self.settle_stale()
        live = self._ledger.find_live(user, server)
        if live is not None:
            container = self._own_container(live)
            if container is not None and (container.is_running or live.fingerprint == fingerprint):
                return Claim(lease=live, container=container)
            self.settle(live.id, ended=True)
        draft = LeaseDraft(
            user=user,
            server=server,
            container_name=container_name,
            group=effective.group,
            nonce=secrets.token_hex(16),
            created_at=self._now(),
            deadline=self._now() + self._start_deadline,
            fingerprint=fingerprint,
        )
        return Claim(lease=self._reserve(draft, request, effective))

    def _reserve(self, draft: LeaseDraft, request: ServerRequest, effective: Limits) -> Lease:
        external: frozenset[str] = frozenset()
        if request.gpu_count:
            slots = self._offers.inventory().slots
            self._ledger.write_slots(slots, self._now())
            external = self.external(slots)
        strategy = self._offers.strategy()

        def decide(view: PoolView) -> tuple[Slot, ...]:
            limits.check(effective, view.holdings, slots=0, gpu_share=Fraction(0), full_gpu=False)
            chosen = allocator.choose(
                view.slots,
                view.taken | external,
                profile=request.gpu_profile,
                count=request.gpu_count,
                allow_full_gpu=effective.allow_full_gpu,
                strategy=strategy,
            )
            limits.check(
                effective,
                view.holdings,
                slots=len(chosen),
                gpu_share=sum((slot.share for slot in chosen), start=Fraction(0)),
                full_gpu=request.gpu_profile == FULL_GPU,
            )
            return chosen

        return self._ledger.reserve(draft, decide)

    def external(self, slots: tuple[Slot, ...]) -> frozenset[str]:
        """Return the slots that running containers hold which the ledger does not know."""
        live = self._ledger.live_leases()
        found: set[str] = set()
        for container in self._engine.running_containers(but={lease.container_id for lease in live}):
            if not container.devices or any(reconcile.is_ours(container, lease) for lease in live):
                continue
            if mlc.ALL_DEVICES in container.devices and not self._shared_blocks:
                log.warning("%s was given all GPUs and shares them with their lease holders", container.name)
                continue
            found |= reconcile.pinned_slots(container.devices, slots)
        return frozenset(found)

    def note_container(self, lease: Lease, container_id: str) -> None:
        """Record the container that was created for a pending lease, before it starts."""
        self._ledger.note_container(lease.id, container_id, self._now())

    def activate(self, lease: Lease, container_id: str) -> Lease:
        """Record that the server runs: the lease is active until its container is gone."""
        return self._ledger.activate(lease.id, container_id, self._now())

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
        ended = self._ledger.by_nonce(container.nonce) if container.nonce else None
        if ended is not None and reconcile.is_left_over(container, ended):
            log.info("removing %s, which was created after its start was given up", name)
            self._engine.remove(container.id, grace_seconds=1)
            return None
        return container

    def settle(self, lease_id: int, *, ended: bool = False, grace_seconds: int = 10) -> Lease | None:
        """Make one lease agree with Docker and return it as it is then; one at a time for each lease.

        `ended` gives the server up: container removed, slots free. A lease whose container cannot be
        asked for stays as it is: `EngineUnavailable` comes through and nothing is freed.
        """
        with self._lock_of(lease_id):
            return self._settle(lease_id, ended=ended, grace_seconds=grace_seconds)

    def _settle(self, lease_id: int, *, ended: bool = False, grace_seconds: int = 10) -> Lease | None:
        lease = self._ledger.lease(lease_id)
        if lease is None or not lease.state.is_live:
            return lease
        containers = self._containers_of(lease)
        hold = timedelta(0) if ended else self._hold(lease)
        for repair in reconcile.plan(lease, containers, self._now(), hold=hold, ended=ended):
            self._apply(repair, lease, grace_seconds)
        return self._ledger.lease(lease_id)

    def settle_server(
        self, user: str, server: str, *, ended: bool = False, grace_seconds: int = 10
    ) -> Lease | None:
        """Settle the live lease of a server, if it has one."""
        lease = self._ledger.find_live(user, server)
        return None if lease is None else self.settle(lease.id, ended=ended, grace_seconds=grace_seconds)

    def settle_stale(self) -> None:
        """Settle every lease that the clock or Docker contradicts: pending past its deadline, held past
        its hold, active without a running container, held without a stopped one.

        One that somebody settles at this moment is left to him; one that cannot be settled now stays,
        and is tried again the next time.
        """
        now, states = self._now(), self._engine.container_states()
        for lease in self._ledger.live_leases():
            lock = self._lock_of(lease.id)
            is_stale = reconcile.is_stale(lease, states.get(lease.container_id or ""), now)
            if is_stale and lock.acquire(blocking=False):
                try:
                    self._settle(lease.id)
                except DS01Error as exc:
                    log.warning("lease %s stays for now: %s", lease.id, exc.detail or exc)
                finally:
                    lock.release()

    def _lock_of(self, lease_id: int) -> threading.Lock:
        return self._locks[lease_id % len(self._locks)]

    def _containers_of(self, lease: Lease) -> tuple[Container, ...]:
        found = self._engine.containers(label=f"{mlc.LEASE_LABEL}={lease.nonce}")
        known = self._engine.container(lease.container_id) if lease.container_id else None
        by_id = {container.id: container for container in (*found, *((known,) if known else ()))}
        return tuple(by_id.values())

    def _own_container(self, lease: Lease) -> Container | None:
        own = [item for item in self._containers_of(lease) if reconcile.is_ours(item, lease)]
        return own[0] if own and lease.state is not LeaseState.PENDING else None

    def _hold(self, lease: Lease) -> timedelta | None:
        return self._offers.limits_for(lease.user, (lease.group,)).gpu_hold_after_stop

    def _apply(self, repair: Repair, lease: Lease, grace_seconds: int) -> None:
        log.info("lease %s: %s, since %s", lease.id, repair.action.value, repair.why)
        now = self._now()
        if repair.action is Action.REMOVE:
            self._engine.remove(repair.container_id, grace_seconds=grace_seconds)
        elif repair.action is Action.RELEASE:
            self._engine.untag(mlc.image_name(lease.container_name, lease.user))
            self._ledger.release(lease.id, now, repair.why)
        elif repair.action is Action.HOLD:
            self._ledger.hold(lease.id, repair.until, now, repair.why)
        elif repair.action is Action.ADOPT:
            self._ledger.activate(lease.id, repair.container_id, now)
