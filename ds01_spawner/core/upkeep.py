"""What keeps ledger, Docker and NVML in agreement: the service does it all the time, others as they go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from .. import allocator, mlc, reconcile
from ..errors import DS01Error, InventoryUnavailable
from ..inventory import explain_xid, keep_unreadable
from ..metrics import REPAIRS
from ..model import ALL_DEVICES, LOCAL_NODE, Container, Inventory, Lease, LeaseState, Mark, MarkKind
from ..reconcile import Action, Repair
from .leases import Leases
from .offers import Offers
from .sharing import SharedReading

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)

# A call that was on its way when its caller was killed has reached Docker by then.
_LATE = timedelta(minutes=10)

_CONTESTED_WORDS = (
    "Two containers use one GPU slice: {why}. Neither is stopped; expect out-of-memory errors, and tell your "
    "admin."
)


class Upkeep:
    """Reconciles, and keeps slots, reservations and history current.

    `read_inventory` asks NVML; `history` is how long ended leases and events are kept.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        engine: DockerEngine,
        offers: Offers,
        leases: Leases,
        read_inventory: Callable[[], Inventory],
        history: timedelta = timedelta(days=90),
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._offers = offers
        self._leases = leases
        self._read_inventory = read_inventory
        self._history = history
        self._warned: frozenset[str] = frozenset()
        self._told: dict[str, str] = {}
        self._read_plan = SharedReading(self.plan)

    def plan(self) -> tuple[Repair, ...]:
        """Return what `reconcile` would do now."""
        # In this order: a container that was made after the leases were read is then found by its nonce,
        # and none that a lease has can be missing because it was made too late.
        live = self._ledger.live_leases()
        containers = self._engine.snapshot()
        named = self._ledger.leases_of(*_find_strangers(live, containers))
        self._warn_of_shared(containers)
        return reconcile.plan(
            (*live, *named),
            containers,
            self._ledger.slots(node=LOCAL_NODE),
            self._leases.now(),
            rules=self._leases.rules,
            marks=self._ledger.marks(),
            queue=self._ledger.queue(),
        )

    def reconcile(self) -> tuple[Repair, ...]:
        """Make ledger, Docker and the queue agree, and return what was to be done.

        What cannot be mended now stays as it is, and is tried again the next time. All is looked at after
        the call; many who call at once share the look, and each mends.

        Raises:
            EngineUnavailable, LedgerUnavailable: nothing could be compared, so nothing was changed.
        """
        repairs = self._read_plan()
        # First, since a removal takes its time: what somebody else uses must not be handed out meanwhile.
        self._mark_all(repairs, Action.MARK)
        lease_ids = dict.fromkeys(repair.lease_id for repair in repairs if repair.lease_id is not None)
        for lease_id in lease_ids:
            self._try(f"lease {lease_id}", partial(self._mend, lease_id))
        for repair in repairs:
            if repair.action is Action.REMOVE and repair.lease_id is None:
                self._try(f"container {repair.container_id}", partial(self._remove_stray, repair))
            elif repair.entry_id is not None and self._ledger.leave_queue_by_id(
                repair.entry_id, self._leases.now(), repair.why
            ):
                REPAIRS.labels(repair.action.value).inc()
        # Not as it was planned: a container that could not be removed still uses its slots.
        late = self._plan_marks() if lease_ids else repairs
        self._mark_all(late, Action.MARK)
        self._mark_all(late, Action.UNMARK)
        return repairs

    def _plan_marks(self) -> tuple[Repair, ...]:
        live = self._ledger.live_leases()
        return tuple(
            reconcile.plan_marks(
                live,
                self._engine.snapshot(),
                self._ledger.slots(node=LOCAL_NODE),
                self._leases.now(),
                rules=self._leases.rules,
                marks=self._ledger.marks(),
            )
        )

    def _mark_all(self, repairs: Collection[Repair], action: Action) -> None:
        for repair in repairs:
            if repair.mark is not None and repair.action is action:
                self._try(f"slot {repair.mark.slot}", partial(self._mark, repair, repair.mark))

    def _try(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except DS01Error as exc:
            self._warn(what, f"the repair of {what} has to wait: {exc.detail or exc}")
        else:
            self._told.pop(what, None)

    def _warn(self, what: str, words: str) -> None:
        """Say something about one thing, once for as long as it stays the same."""
        if self._told.get(what) != words:
            self._told[what] = words
            log.warning("%s", words)

    def _mend(self, lease_id: int) -> None:
        lease = self._ledger.lease(lease_id)
        if lease is None:
            return
        if lease.state.is_live:
            self._leases.settle_unless_busy(lease_id)
            return
        self._leases.remove_left_overs(lease)

    def _remove_stray(self, repair: Repair) -> None:
        self._engine.remove(repair.container_id)
        REPAIRS.labels(repair.action.value).inc()

    def _mark(self, repair: Repair, mark: Mark) -> None:
        if repair.action is Action.UNMARK:
            if self._ledger.unmark(mark, self._leases.now(), why=repair.why):
                REPAIRS.labels(repair.action.value).inc()
        elif self._ledger.mark(mark):
            REPAIRS.labels(repair.action.value).inc()
            log.warning("slot %s is %s: %s", mark.slot, mark.kind.value, repair.why)
            if mark.kind is MarkKind.CONTESTED:
                self._tell_contestants(mark)

    def _tell_contestants(self, mark: Mark) -> None:
        """Tell the owners in the terminals of both containers."""
        words = _CONTESTED_WORDS.format(why=mark.why)
        slots = self._ledger.slots(node=LOCAL_NODE)
        for container in self._engine.snapshot():
            if container.is_running and mark.slot in reconcile.pinned_slots(container.devices, slots):
                self._engine.tell(container.id, words)

    def _warn_of_shared(self, containers: Collection[Container]) -> None:
        shared = frozenset(one.id for one in containers if one.is_running and ALL_DEVICES in one.devices)
        for container in containers:
            if container.id in shared - self._warned and not self._leases.rules.shared_containers_block:
                log.warning("%s was given all GPUs and shares them with their lease holders", container.name)
        self._warned = shared

    def remove_left_tags(self) -> None:
        """Take away the image names of leases that ended of late: one may have come after the end.

        Raises:
            EngineUnavailable, LedgerUnavailable: the others have to wait.
        """
        ended = self._ledger.released_since(self._leases.now() - _LATE)
        if not ended:
            return
        there = self._engine.image_names()
        # Read after the names: a lease that begins now has none yet.
        live = {name_image(lease) for lease in self._ledger.live_leases()}
        for name in {name_image(lease) for lease in ended} & there - live:
            log.info("taking the name %s away, whose lease has ended", name)
            self._engine.untag(name)

    # slots -----------------------------------------------------------------------------------------

    def refresh_slots(self) -> None:
        """Read the GPUs, and record what they are now.

        Raises:
            InventoryUnavailable: they cannot be read; that is recorded, what was known of them stays.
        """
        now = self._leases.now()
        try:
            found = self._read_inventory()
        except InventoryUnavailable as exc:
            self._ledger.write_problem(exc, now)
            raise
        whole = replace(found, slots=keep_unreadable(self._ledger.slots(node=LOCAL_NODE), found))
        self._ledger.write_inventory(whole, now)

    def note_xid(self, gpu_uuid: str, xid: int) -> None:
        """Record an error that a GPU reported; where it must not be used any more, mark its slots."""
        why = explain_xid(xid)
        if not why:
            log.info("GPU %s reported XID %d", gpu_uuid, xid)
            return
        log.error("GPU %s reported XID %d and is taken out: %s", gpu_uuid, xid, why)
        for slot in self._ledger.slots(node=LOCAL_NODE):
            if slot.gpu_uuid == gpu_uuid:
                self._ledger.mark(
                    Mark(slot=slot.uuid, kind=MarkKind.UNHEALTHY, why=why, since=self._leases.now())
                )

    def refresh_reservations(self) -> None:
        """Record the reservations of the limits file, each with the GPUs that its numbers mean now."""
        file, now = self._offers.limits_file(), self._leases.now()
        wanted = [one for one in file.reservations if one.end > now] if file else []
        slots = self._ledger.slots(node=LOCAL_NODE)
        found, unknown = allocator.resolve_reservations(wanted, slots)
        for gpu in unknown:
            self._warn(f"GPU {gpu}", f"a reservation names GPU {gpu}, which this machine does not have")
        self._ledger.write_reservations(found, now)
        there = {uuid for slot in slots for uuid in (slot.uuid, slot.gpu_uuid)}
        for one in self._ledger.reservations():
            for uuid in set(one.devices) - there:
                self._warn(uuid, f"{one.user}'s reservation is for {uuid}, which is not there any more")

    def prune(self) -> None:
        """Forget what is older than the history is kept."""
        gone = self._ledger.prune(self._leases.now() - self._history)
        if gone:
            log.info("%d leases that ended more than %d days ago are forgotten", gone, self._history.days)

    # time and the Hub ------------------------------------------------------------------------------

    def next_look(self, longest: timedelta, while_starting: timedelta) -> timedelta:
        """Return how long nothing will be due: `longest`, or less where a lease has a deadline.

        While a server starts or ends, at most `while_starting`: its Hub may be killed unseen.
        """
        now, pause = self._leases.now(), longest
        for lease in self._ledger.live_leases():
            if lease.state is LeaseState.PENDING or lease.ending:
                pause = min(pause, while_starting)
            if lease.deadline is not None:
                # One that is overdue could not be ended yet.
                is_due = lease.deadline <= now
                pause = min(pause, while_starting if is_due else lease.deadline - now)
        return min(pause, while_starting) if self._ledger.queue() else pause

    def find_forgotten(self, list_servers: Callable[[], Collection[tuple[str, str]]]) -> tuple[Lease, ...]:
        """Return the leases of running containers whose servers a Hub does not know as running.

        `list_servers` asks it for (user, server) of each that runs, starts or stops.

        Raises:
            EngineUnavailable: what runs cannot be known.
        """
        before = [lease for lease in self._ledger.live_leases() if _is_active(lease)]
        known = set(list_servers()) if before else set()
        strange = [lease for lease in before if (lease.user, lease.server) not in known]
        if not strange:
            return ()
        running = {container.id for container in self._engine.snapshot() if container.is_running}
        # A server that was stopped meanwhile is not forgotten: its lease is ending, or has ended.
        now = {lease.id for lease in self._ledger.live_leases() if _is_active(lease)}
        return tuple(lease for lease in strange if lease.id in now and lease.container_id in running)


def name_image(lease: Lease) -> str:
    """Return the name of the image that a lease's container is made of."""
    return mlc.image_name(lease.container_name, lease.user)


def _is_active(lease: Lease) -> bool:
    return lease.state is LeaseState.ACTIVE and not lease.ending


def _find_strangers(
    live: Collection[Lease], containers: Collection[Container]
) -> tuple[list[str], list[str]]:
    """Return ids and nonces of containers that no live lease names: an ended one may, or a newer one."""
    ids = {lease.container_id for lease in live}
    nonces = {lease.nonce for lease in live}
    strangers = [one for one in containers if one.nonce and one.id not in ids and one.nonce not in nonces]
    return [one.id for one in strangers], [one.nonce for one in strangers]
