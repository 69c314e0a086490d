"""What an admin does to the GPUs: give them for a time, take them back, take them out of use.

It guarantees that a lease ends by `Leases.settle` alone, and that each change is in the history with the
name of who made it. With `dry_run` nothing is changed: the answer says what would be.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .. import reconcile
from ..allocator import LeaseDraft, slot_order
from ..errors import RequestRefused
from ..model import (
    NO_RESOURCES,
    Container,
    GpuWish,
    Lease,
    LeaseState,
    Limits,
    Mark,
    MarkKind,
    Slot,
)
from .leases import Leases
from .offers import STOPPED, Offers
from .overview import Inspector

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

# Between the reservation and its hold, should this process be killed there.
_PENDING = timedelta(minutes=1)
# More digits are no lease's, and no database's integer.
_NUMBER = re.compile(r"[0-9]{1,9}")
_TAKEN_BACK = (MarkKind.DRAINED, MarkKind.UNHEALTHY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The slots that a user has from `at` until a time; `lease` is None where it would only be so."""

    at: datetime
    user: str
    slots: tuple[Slot, ...]
    until: datetime
    lease: Lease | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A lease as it was, the container that goes with it, and whether the lease has ended by now."""

    lease: Lease
    container: Container | None
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkChange:
    """What is done to the marks of one slot: `marks` are put on it, or taken away; none for nothing to do.

    `lease` still has the slot. `fault` is why it stays out of use all the same.
    """

    slot: Slot
    marks: tuple[Mark, ...]
    lease: Lease | None = None
    fault: str = ""


class Admin(Inspector):
    """The admin's verbs, with those that only look."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        engine: DockerEngine,
        offers: Offers,
        leases: Leases,
    ) -> None:
        super().__init__(ledger=ledger, offers=offers, leases=leases)
        self._engine = engine

    # give ------------------------------------------------------------------------------------------

    def allocate(
        self,
        user: str,
        profile: str,
        count: int,
        *,
        until: datetime,
        who: str,
        reason: str = "",
        hub_groups: Iterable[str] = (),
        force: bool = False,
        dry_run: bool = False,
    ) -> Allocation:
        """Give a user slots until a time without a server; reconciling leaves her them till then.

        Her limits hold, but for the run time of servers; with `force` they do not. Queue and
        reservations hold always.

        Raises:
            RequestRefused: `until` has passed.
            AccountRefused: no such user.
            LimitExceeded, NotAllowed, NothingFree, InventoryUnavailable: as for a server.
        """
        now = self._leases.now()
        if until <= now:
            raise RequestRefused(f"{until.astimezone():%Y-%m-%d %H:%M} is over. Name a time to come.")
        self._offers.account(user)
        self._offers.inventory()
        allowed = self._offers.limits_for(user, hub_groups)
        if force:
            allowed = Limits(group=allowed.group, priority=allowed.priority)
        name = f"allocated-{secrets.token_hex(4)}"
        draft = LeaseDraft(
            user=user,
            # The Hub takes slugs only, and a UID is a number: no server can have either name.
            server=f"#{name}",
            container_name=f"{name}._.none",
            group=allowed.group,
            nonce=secrets.token_hex(16),
            created_at=now,
            deadline=now + _PENDING,
            runs_until=until,
            takes=NO_RESOURCES,
        )
        wish = GpuWish(
            user=user,
            profile=profile,
            count=count,
            requested_at=now,
            allow_full_gpu=allowed.allow_full_gpu,
            priority=allowed.priority,
            runs_until=until,
            takes=NO_RESOURCES,
        )
        decide = self._leases.decider(wish, allowed, name)
        if dry_run:
            slots = decide(self._ledger.view(user))
            return Allocation(at=now, user=user, slots=slots, until=until, lease=None)
        by = f"allocated by {who}{', past the limits' if force else ''}"
        made = self._ledger.reserve(draft, decide)
        lease = self._ledger.hold(made.id, until, now, _explain(by, reason))
        known = self.known_slots()
        slots = tuple(known[uuid] for uuid in lease.slots)
        return Allocation(at=now, user=user, slots=slots, until=until, lease=lease)

    # take back -------------------------------------------------------------------------------------

    def release(
        self, name: str, *, who: str, reason: str = "", force: bool = False, dry_run: bool = False
    ) -> Release:
        """End a lease, which is named by its number or by its container's whole name.

        Its container goes with it. One that runs, or is being started, is ended with `force` only.

        Raises:
            RequestRefused: no live lease of that name, or one that is in use.
            EngineUnavailable: nobody can say whether it is in use, or the container cannot be removed:
                then the lease keeps its slots until it can.
        """
        lease = self._find_lease(name)
        container = self._engine.container(lease.container_id or lease.container_name)
        if container is not None and not reconcile.is_ours(container, lease):
            container = None
        if not force:
            self._refuse_in_use(lease, container)
        if dry_run:
            return Release(lease=lease, container=container, is_over=False)
        after = self._leases.settle(lease.id, ended=_explain(f"released by {who}", reason))
        is_over = after is None or not after.state.is_live
        if is_over and container is not None:
            words = _explain(f"Your container {lease.container_name} was ended by an admin", reason)
            self._ledger.note(lease, STOPPED, words, self._leases.now())
        return Release(lease=lease, container=container, is_over=is_over)

    def _find_lease(self, name: str) -> Lease:
        is_number = _NUMBER.fullmatch(name) is not None
        found = self._ledger.lease(int(name)) if is_number else self._ledger.by_container(name)
        if found is None:
            raise RequestRefused(f"There is no lease {name!r}. Name its number, or its container.")
        if not found.state.is_live:
            raise RequestRefused(f"Lease {name} of {found.user} ({found.container_name}) has ended already.")
        return found

    def _refuse_in_use(self, lease: Lease, container: Container | None) -> None:
        whose = f"Lease {lease.id} of {lease.user} ({lease.container_name})"
        if container is not None and container.is_running:
            raise RequestRefused(
                f"{whose} is in use: its container runs. Stop the server in the Hub, or force its end."
            )
        if lease.state is LeaseState.PENDING and not self._is_stale(lease):
            raise RequestRefused(f"{whose} is just being started. Wait for the start, or force its end.")

    def _is_stale(self, lease: Lease) -> bool:
        is_over = lease.deadline is not None and lease.deadline <= self._leases.now()
        return is_over or not self._leases.rules.is_alive(lease.owner)

    # take out of use -------------------------------------------------------------------------------

    def drain(
        self, name: str, *, who: str, reason: str = "", dry_run: bool = False
    ) -> tuple[MarkChange, ...]:
        """Hand out a slot no more, or all of a GPU; whoever has it keeps it until she is done.

        `name` is an index or a UUID.

        Raises:
            RequestRefused: no such slot.
        """
        now, marks = self._leases.now(), self._ledger.marks()
        before = {mark.slot: mark.why for mark in marks if mark.kind is MarkKind.DRAINED}
        holders = {uuid: lease for lease in self._ledger.live_leases() for uuid in lease.slots}
        done = []
        for slot in self._find_slots(name):
            mark = Mark(slot=slot.uuid, kind=MarkKind.DRAINED, why=reason, since=now, who=who, node=slot.node)
            # Once more without a reason must not take the first one away.
            is_new = slot.uuid not in before or bool(reason and reason != before[slot.uuid])
            if is_new and not dry_run:
                self._ledger.mark(mark, kind="drained")
            marked = (mark,) if is_new else ()
            done.append(MarkChange(slot=slot, marks=marked, lease=holders.get(slot.uuid), fault=slot.fault))
        return tuple(done)

    def undrain(
        self, name: str, *, who: str, reason: str = "", dry_run: bool = False
    ) -> tuple[MarkChange, ...]:
        """Hand out a slot again, or all of a GPU, be it that it was drained or reported an error.

        Raises:
            RequestRefused: no such slot.
        """
        now, marks = self._leases.now(), self._ledger.marks()
        done = []
        for slot in self._find_slots(name):
            off = tuple(mark for mark in marks if mark.slot == slot.uuid and mark.kind in _TAKEN_BACK)
            if not dry_run:
                for mark in off:
                    why = _explain("in use again", reason)
                    self._ledger.unmark(mark, now, who=who, why=why, kind="undrained")
            done.append(MarkChange(slot=slot, marks=off, fault=slot.fault))
        return tuple(done)

    def _find_slots(self, name: str) -> tuple[Slot, ...]:
        """Return the present slots that an index or a UUID means, else what the machine had by that UUID."""
        present = self._ledger.slots()
        found = [
            slot
            for slot in present
            if name in (slot.index, slot.index.partition(":")[0], slot.uuid, slot.gpu_uuid)
        ] or [slot for slot in self._ledger.known_slots() if name in (slot.uuid, slot.gpu_uuid)]
        if not found:
            raise RequestRefused(
                f"There is no slot {name!r} on this machine. Name one by its index (0, or 0:1) or its UUID."
            )
        return tuple(sorted(found, key=slot_order))


def _explain(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what
