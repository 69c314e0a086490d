"""How much the slots of a server's kind are wanted by others."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..model import Demand, Lease, Policy, QueueEntry, Slot


def measure_demand(
    lease: Lease, slots: Iterable[Slot], taken: Collection[str], queue: Iterable[QueueEntry]
) -> Demand:
    """Return the demand for slots such as the lease has: nobody gains by the end of another kind.

    `slots` are the node's present ones, `taken` the UUIDs of those in a live lease. Slots that are out of
    order do not count. A lease without slots is in nobody's way.
    """
    members = tuple(slots)
    profiles = {slot.profile for slot in members if slot.uuid in lease.slots}
    usable = [slot.uuid for slot in members if slot.profile in profiles and not slot.fault]
    return Demand(
        total=len(usable),
        taken=sum(uuid in taken for uuid in usable),
        waiting=sum(entry.wish.profile in profiles for entry in queue),
    )


def is_high(demand: Demand, policy: Policy) -> bool:
    """Whether so many slots are taken, or somebody waits, that an idle server is stopped sooner."""
    if policy.high_demand_share is None or not demand.total:
        return False
    return demand.waiting > 0 or demand.taken / demand.total >= policy.high_demand_share
