"""What has to be mended where ledger, Docker and NVML disagree; pure, and the only way a slot becomes free.

Docker is the truth: a lease ends when its container is gone, or has to go. Ours is what the ledger
knows: a container whose id a lease row carries, or which has a pending lease's exact name and nonce.
Labels alone authorise nothing, since `docker commit` copies them.

`plan` guarantees that what it gives, applied, leaves nothing to be mended: the same call then gives
nothing. A container is removed only after the ledger was told why (`END`), so that whoever is killed
in between leaves a lease that everybody can see is ending.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from .model import (
    ALL_DEVICES,
    RUNNING_STATES,
    Container,
    Lease,
    LeaseState,
    Limits,
    Mark,
    MarkKind,
    QueueEntry,
    Slot,
)


class Action(str, Enum):
    """The steps of a repair."""

    END = "end"
    ADOPT = "adopt"
    HOLD = "hold"
    STOP = "stop"
    REMOVE = "remove"
    RELEASE = "release"
    LEAVE = "leave"
    MARK = "mark"
    UNMARK = "unmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One step: what to do to which lease, container, place in the queue or slot, and why.

    `lease_id` is also that of an ended lease whose container is still there. `entry_id` goes with
    `LEAVE`, `mark` with `MARK` and `UNMARK`, `until` with `HOLD` (None: without an end).
    """

    action: Action
    why: str
    lease_id: int | None = None
    container_id: str = ""
    until: datetime | None = None
    entry_id: int | None = None
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a plan asks for besides what it sees.

    `hold_of` gives how long a lease outlives its container's stop (None: without end). `is_alive` says
    whether the process that owns a start or an end still runs; `owner` is the one that plans, and an end
    that another one has begun is left to it. Nobody waits in the queue for longer than `longest_wait`
    (None: without end), so an older place is one that could not be given up.
    `shared_containers_block` is about containers that somebody gave all GPUs: whether they keep every
    slot from being leased.
    """

    hold_of: Callable[[Lease], timedelta | None] = lambda _lease: timedelta(0)
    is_alive: Callable[[str], bool] = lambda _owner: True
    owner: str = ""
    longest_wait: timedelta | None = None
    shared_containers_block: bool = False


def is_ours(container: Container, lease: Lease) -> bool:
    """Whether `container` is the one that `lease` stands for."""
    if lease.container_id:
        return container.id == lease.container_id
    return container.name == lease.container_name and container.nonce == lease.nonce


def hold_for(lease: Lease, limits: Limits) -> timedelta | None:
    """Return how long a stopped container keeps its lease; None is without end.

    Slots and container go together, since a container whose slots are gone may not run again: with
    slots that is the shorter of the two times that the limits know, without the container's alone.
    """
    times = [limits.container_hold_after_stop]
    if lease.slots:
        times.append(limits.gpu_hold_after_stop)
    return min((time for time in times if time is not None), default=None)


def pinned_slots(devices: Sequence[str], slots: Iterable[Slot]) -> frozenset[str]:
    """Return the UUIDs of the slots that device ids mean, in whatever words a tool gave them.

    A whole GPU, by index or UUID, means every slice on it; `all` means every slot.
    """
    wanted = set(devices)
    return frozenset(
        slot.uuid
        for slot in slots
        if wanted & {slot.uuid, slot.index, slot.gpu_uuid, slot.index.partition(":")[0], ALL_DEVICES}
    )


def plan(
    leases: Sequence[Lease],
    containers: Sequence[Container],
    slots: Sequence[Slot],
    now: datetime,
    *,
    rules: Rules = Rules(),
    marks: Sequence[Mark] = (),
    queue: Sequence[QueueEntry] = (),
) -> tuple[Repair, ...]:
    """Return every step that makes ledger, Docker and NVML agree.

    `leases` are all live ones, and those ended ones that a container names by its id or nonce; they
    must have been read before `containers`, or a container may look gone that was just made. `slots`
    are the present ones.
    """
    by_id, by_nonce = _index(containers)
    present = frozenset(slot.uuid for slot in slots)
    repairs: list[Repair] = []
    for lease in leases:
        known = by_id.get(lease.container_id or "")
        named = by_nonce.get(lease.nonce, ()) if known is None else ()
        own = [item for item in (known, *named) if item is not None and is_ours(item, lease)]
        repairs += plan_lease(lease, own, now, rules=rules, present=present)
    released = {repair.lease_id for repair in repairs if repair.action is Action.RELEASE}
    removed = {repair.container_id for repair in repairs if repair.action is Action.REMOVE}
    # Slots are marked for what is there when all that is done.
    left = [lease for lease in leases if lease.id not in released]
    staying = [container for container in containers if container.id not in removed]
    repairs += _plan_lookers(containers, rules)
    repairs += _plan_queue(queue, now, rules)
    repairs += plan_marks(left, staying, slots, now, rules=rules, marks=marks)
    return tuple(repairs)


def plan_lease(
    lease: Lease,
    containers: Sequence[Container],
    now: datetime,
    *,
    rules: Rules = Rules(),
    present: Collection[str] | None = None,
) -> tuple[Repair, ...]:
    """Return what to do so that `lease` agrees with the `containers` that Docker has.

    `present` are the UUIDs of the slots that NVML has; None is for not knowing.
    """
    own = [container for container in containers if is_ours(container, lease)]
    if not lease.state.is_live:
        return tuple(_remove_left_overs(lease, own))
    if lease.ending and _is_anothers(lease, now, rules):
        return ()
    why = _find_end(lease, own, now, rules, present)
    if why:
        return _end(lease, own, why)
    if not any(container.is_running for container in own):
        return _rest(lease, own, now, rules)
    if lease.state is LeaseState.HELD:
        running = next(container for container in own if container.is_running)
        why = "its held container runs again"
        return (Repair(action=Action.ADOPT, lease_id=lease.id, container_id=running.id, why=why),)
    return ()


def _is_anothers(lease: Lease, now: datetime, rules: Rules) -> bool:
    """Whether another process, which lives, ends the lease, and still has time for it."""
    if lease.owner in ("", rules.owner) or not rules.is_alive(lease.owner):
        return False
    return lease.deadline is not None and now < lease.deadline


def _index(
    containers: Iterable[Container],
) -> tuple[dict[str, Container], dict[str, list[Container]]]:
    by_id: dict[str, Container] = {}
    by_nonce: dict[str, list[Container]] = {}
    for container in containers:
        by_id[container.id] = container
        if container.nonce:
            by_nonce.setdefault(container.nonce, []).append(container)
    return by_id, by_nonce


def _find_end(
    lease: Lease,
    own: Sequence[Container],
    now: datetime,
    rules: Rules,
    present: Collection[str] | None,
) -> str:
    """Return why a live lease must end, "" if it may stay."""
    is_over = lease.deadline is not None and lease.deadline <= now
    if lease.ending:
        return lease.ending
    if lease.state is LeaseState.PENDING:
        if is_over:
            return "the start took longer than its deadline"
        return "" if rules.is_alive(lease.owner) else "the Hub went while it started the server"
    if lease.state is LeaseState.HELD and lease.container_id is None:
        return "its time is over" if is_over else ""
    if not own:
        return "its container is gone"
    if any(container.is_running for container in own):
        return ""
    if present is not None and not set(lease.slots) <= set(present):
        return "its container stopped, and its slot is no longer there"
    if lease.state is LeaseState.HELD:
        return "its hold is over" if is_over else ""
    return "its container exited" if rules.hold_of(lease) == timedelta(0) else ""


def _rest(lease: Lease, own: Sequence[Container], now: datetime, rules: Rules) -> tuple[Repair, ...]:
    if lease.state is not LeaseState.ACTIVE or not own:
        return ()
    hold = rules.hold_of(lease)
    until = None if hold is None else now + hold
    return (Repair(action=Action.HOLD, lease_id=lease.id, until=until, why="its container exited"),)


def _end(lease: Lease, own: Sequence[Container], why: str) -> tuple[Repair, ...]:
    steps = [] if lease.ending else [Repair(action=Action.END, lease_id=lease.id, why=why)]
    steps += [
        Repair(action=Action.REMOVE, lease_id=lease.id, container_id=container.id, why=why)
        for container in own
    ]
    return (*steps, Repair(action=Action.RELEASE, lease_id=lease.id, why=why))


def _remove_left_overs(lease: Lease, own: Sequence[Container]) -> Iterator[Repair]:
    """Yield the end of containers that outlived their lease: one made after its start was given up, or
    one that was started again when its slots were not hers any more."""
    for container in own:
        why = "its lease has ended"
        step = Repair(action=Action.REMOVE, lease_id=lease.id, container_id=container.id, why=why)
        if container.is_running:
            why = "it ran on after its lease had ended"
            yield Repair(action=Action.STOP, lease_id=lease.id, container_id=container.id, why=why)
        yield step


def _plan_lookers(containers: Iterable[Container], rules: Rules) -> Iterator[Repair]:
    """Yield the end of containers that never ran and are nobody's any more: there is nothing in them."""
    for container in containers:
        if container.looker and container.state == "created" and not rules.is_alive(container.looker):
            why = "the Hub went while it looked into an image"
            yield Repair(action=Action.REMOVE, container_id=container.id, why=why)


def _plan_queue(queue: Iterable[QueueEntry], now: datetime, rules: Rules) -> Iterator[Repair]:
    for entry in queue:
        if not rules.is_alive(entry.owner):
            yield Repair(action=Action.LEAVE, entry_id=entry.id, why="the Hub went while it waited")
        elif rules.longest_wait is not None and now - entry.entered_at > rules.longest_wait:
            yield Repair(action=Action.LEAVE, entry_id=entry.id, why="nobody waits for so long")


# what containers that are not ours do to slots ------------------------------------------------------


@dataclass(slots=True)
class _Guests:
    """The names of containers on one slot that its lease does not stand for."""

    names: list[str] = field(default_factory=list)
    holder: Lease | None = None

    def describe(self, slot: Slot, now: datetime) -> Mark | None:
        """Return the mark of the slot, None if there is nothing to say."""
        if not self.names:
            return None
        names = ", ".join(sorted(self.names))
        if self.holder is None:
            kind, why = MarkKind.EXTERNAL, f"used by {names} without a lease"
        elif self.holder.container_id is None and self.holder.state is LeaseState.HELD:
            # Somebody was given the slot without a server: what runs on it is hers.
            return None
        else:
            kind = MarkKind.CONTESTED
            why = f"leased to {self.holder.user} for {self.holder.container_name}, and used by {names}"
        return Mark(slot=slot.uuid, kind=kind, why=why, since=now, node=slot.node)


def plan_marks(
    leases: Iterable[Lease],
    containers: Iterable[Container],
    slots: Sequence[Slot],
    now: datetime,
    *,
    rules: Rules = Rules(),
    marks: Iterable[Mark] = (),
) -> Iterator[Repair]:
    """Yield how the marks on slots follow from what runs on them; those of an admin and of NVML stay."""
    wanted = {
        (mark.slot, mark.kind): mark for mark in find_occupied(leases, containers, slots, now, rules=rules)
    }
    for mark in marks:
        if mark.kind not in (MarkKind.EXTERNAL, MarkKind.CONTESTED):
            continue
        found = wanted.get((mark.slot, mark.kind))
        if found is None:
            yield Repair(action=Action.UNMARK, mark=mark, why="nobody else uses it any more")
        elif found.why == mark.why:
            del wanted[mark.slot, mark.kind]
    for mark in wanted.values():
        yield Repair(action=Action.MARK, mark=mark, why=mark.why)


def find_occupied(
    leases: Iterable[Lease],
    containers: Iterable[Container],
    slots: Sequence[Slot],
    now: datetime,
    *,
    rules: Rules = Rules(),
) -> tuple[Mark, ...]:
    """Return a mark for each slot that a running container has which its lease does not stand for.

    `external` where nobody leases it, `contested` where somebody does.
    """
    live = [lease for lease in leases if lease.state.is_live]
    holders = {uuid: lease for lease in live for uuid in lease.slots}
    ours = _match_running(live, containers)
    guests: dict[str, _Guests] = {}
    for container in containers:
        if not container.is_running or not container.devices:
            continue
        lease = ours.get(container.id)
        if lease is None and ALL_DEVICES in container.devices and not rules.shared_containers_block:
            continue
        for uuid in pinned_slots(container.devices, slots):
            holder = holders.get(uuid)
            if holder is None or lease is None or holder.id != lease.id:
                guests.setdefault(uuid, _Guests(holder=holder)).names.append(container.name)
    found = (guests[slot.uuid].describe(slot, now) for slot in slots if slot.uuid in guests)
    return tuple(mark for mark in found if mark is not None)


def _match_running(live: Iterable[Lease], containers: Iterable[Container]) -> Mapping[str, Lease]:
    """Return the lease of each running container that is ours, by the container's id."""
    by_id = {lease.container_id: lease for lease in live if lease.container_id}
    by_nonce = {lease.nonce: lease for lease in live if not lease.container_id}
    found = {}
    for container in containers:
        if container.state not in RUNNING_STATES:
            continue
        lease = by_id.get(container.id) or by_nonce.get(container.nonce)
        if lease is not None and is_ours(container, lease):
            found[container.id] = lease
    return found
