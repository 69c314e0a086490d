"""What must hold in a world: always, and once it has been reconciled.

It goes by what the world knows to be so, not by what the code under test makes of labels: a container is
ours if one of our processes created it, and its lease is the one it was created for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from fractions import Fraction

from ds01_spawner.limits import limits_for
from ds01_spawner.model import ALL_DEVICES, NO_RESOURCES, Container, Lease, LeaseState, MarkKind, Slot

from .world import LIMITS, LONGEST_WAIT, UIDS, Process, World


def find_faults(world: World) -> list[str]:
    """Return what is wrong at any moment at all; best is nothing."""
    leases = world.ledger.live_leases()
    return [*_find_doubles(leases), *_find_excess(world, leases)]


def find_disagreements(world: World, process: Process) -> list[str]:
    """Return what is wrong right after `process` has reconciled undisturbed; best is nothing."""
    leases = world.ledger.live_leases()
    by_nonce = {lease.nonce: lease for lease in leases}
    own = {
        lease.id: container
        for container in world.daemon.list_all()
        if (lease := by_nonce.get(world.daemon.made.get(container.id, "")))
    }
    faults = find_faults(world)
    for lease in leases:
        wrong = _judge(world, process, lease, own.get(lease.id))
        faults += [f"{lease.container_name} ({lease.state.value}): {wrong}"] if wrong else []
    for container in world.daemon.list_all():
        if container.id in world.daemon.made and world.daemon.made[container.id] not in by_nonce:
            faults.append(f"{container.name}, {container.state}, outlived its lease")
    faults += _find_wrong_marks(world, leases, own)
    faults += _find_lost_places(world)
    left = process.upkeep.plan()
    return faults + [f"still to be done: {repair}" for repair in left]


def _find_doubles(leases: Collection[Lease]) -> Iterator[str]:
    for what, names in (
        ("slot", [uuid for lease in leases for uuid in lease.slots]),
        ("container", [lease.container_name for lease in leases]),
    ):
        yield from (
            f"{what} {name} is leased {count} times" for name, count in Counter(names).items() if count > 1
        )


def _find_excess(world: World, leases: Collection[Lease]) -> Iterator[str]:
    shares = {slot.uuid: slot.share for slot in world.ledger.known_slots()}
    for user in UIDS:
        own = [lease for lease in leases if lease.user == user]
        uuids = [uuid for lease in own for uuid in lease.slots]
        limits = limits_for(LIMITS, user)
        found = {
            "servers": (len(own), limits.containers),
            "slots": (len(uuids), limits.slots),
            "CPUs": (sum((lease.takes for lease in own), NO_RESOURCES).cpus, limits.aggregate.cpus),
            "share": (sum((shares[uuid] for uuid in uuids), Fraction(0)), limits.gpu_share),
        }
        for what, (held, most) in found.items():
            if most is not None and held > most:
                yield f"{user} holds {what} of {held}, and may have {most}"


def _judge(world: World, process: Process, lease: Lease, container: Container | None) -> str:
    """Return what is wrong with a live lease, given the container that was made for it."""
    is_over = lease.deadline is not None and lease.deadline <= world.now
    if lease.ending:
        return "" if _is_being_ended(world, process, lease) else f"nobody ends it, since {lease.ending}"
    if container is not None and container.devices != lease.slots:
        return f"it has {lease.slots}, its container {container.devices}"
    if lease.state is LeaseState.PENDING:
        return "its start is over" if is_over or lease.owner in world.dead else ""
    if lease.state is LeaseState.HELD and lease.container_id is None:
        return "its time is over" if is_over else ""
    if container is None or container.id != lease.container_id:
        return "its container is gone"
    if lease.state is LeaseState.ACTIVE:
        return "" if container.is_running else "its container does not run"
    if container.is_running:
        return "its container runs"
    present = {slot.uuid for slot in world.ledger.slots()}
    return "its hold is over" if is_over or not set(lease.slots) <= present else ""


def _is_being_ended(world: World, process: Process, lease: Lease) -> bool:
    """Whether another process, which lives, has begun to end the lease and still has time for it."""
    if lease.owner in ("", process.name) or lease.owner in world.dead:
        return False
    return lease.deadline is not None and world.now < lease.deadline


def _find_wrong_marks(world: World, leases: Collection[Lease], own: dict[int, Container]) -> Iterator[str]:
    """Compare the marks with which slots really are used by whom their lease does not stand for."""
    holders = {uuid: lease for lease in leases for uuid in lease.slots}
    wanted = set()
    for slot in world.ledger.slots():
        holder = holders.get(slot.uuid)
        its_own = own.get(holder.id) if holder else None
        guests = [one for one in world.daemon.list_all() if _uses(world, one, slot) and one != its_own]
        if not guests:
            continue
        if holder is None:
            wanted.add((slot.uuid, MarkKind.EXTERNAL))
        elif holder.state is not LeaseState.HELD or holder.container_id:
            wanted.add((slot.uuid, MarkKind.CONTESTED))
    kinds = (MarkKind.EXTERNAL, MarkKind.CONTESTED)
    found = {(mark.slot, mark.kind) for mark in world.ledger.marks() if mark.kind in kinds}
    yield from (f"{slot} should be {kind.value}" for slot, kind in sorted(wanted - found))
    yield from (f"{slot} should not be {kind.value}" for slot, kind in sorted(found - wanted))


def _uses(world: World, container: Container, slot: Slot) -> bool:
    """Whether a running container was given the slot, as far as that is to count."""
    card = slot.index.split(":")[0]
    if not container.is_running:
        return False
    if ALL_DEVICES in container.devices:
        return world.shared_containers_block
    return any(device in (slot.uuid, slot.index, slot.gpu_uuid, card) for device in container.devices)


def _find_lost_places(world: World) -> Iterator[str]:
    hub = world.hub
    waiting = {one.container_name for one in (*hub.spawns, *hub.unended)}
    for entry in world.ledger.queue():
        if entry.owner in world.dead:
            yield f"the place of {entry.container_name} is a dead process's"
        # One that could not be given up may stay for as long as anybody waits.
        is_over = not hub.process.line.has_failed or world.now - entry.entered_at > LONGEST_WAIT
        if is_over and entry.container_name not in waiting:
            yield f"nobody waits at the place of {entry.container_name}"
