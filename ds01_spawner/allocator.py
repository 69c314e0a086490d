"""Choose which slots a server gets, and count what is free.

Pure: slots and what is taken come in as values, a choice goes out. It guarantees that a slot with a
fault, a taken one, or a full GPU for somebody who may not have one is never chosen, and that equal
values give equal choices. That two people never get one slot is the ledger's part: it calls this
inside the transaction that inserts the lease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from .errors import ConfigBroken, NotAllowed, NothingFree
from .model import (
    FULL_GPU,
    LOCAL_NODE,
    NO_GPU,
    Availability,
    Holdings,
    Mark,
    QueueEntry,
    Reservation,
    Slot,
    name_gpu,
)

PACK = "pack"
LEAST_ALLOCATED = "least_allocated"
_SAME_AS_LEAST_ALLOCATED = ("round_robin", "priority_aware")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseDraft:
    """A lease that is asked for: all of it but the slots, which are chosen under the ledger's lock.

    `container_name` is Docker's whole name. `deadline` is when the pending lease expires.
    `fingerprint` says what the container would be made of, so that a resume can compare it.
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


def normalise_strategy(name: str) -> tuple[str, str]:
    """Return the strategy that `name` means and a warning for the admin, empty when there is none.

    Raises:
        ConfigBroken: no strategy has that name.
    """
    wanted = name.strip().lower()
    if wanted in (PACK, LEAST_ALLOCATED):
        return wanted, ""
    if wanted in _SAME_AS_LEAST_ALLOCATED:
        return LEAST_ALLOCATED, f"The strategy {wanted} is not built; {LEAST_ALLOCATED} is used instead."
    raise ConfigBroken(
        "The GPU settings of this hub are wrong, so no GPU can be given. Tell its administrators.",
        detail=f"unknown strategy {name[:40]!r}: use {PACK} or {LEAST_ALLOCATED}",
    )


def slot_order(slot: Slot) -> tuple[str, tuple[int, ...], str]:
    """Return the key that sorts slots as a person counts them: `0:2` before `0:10` before `1`."""
    return slot.node, tuple(int(part) for part in slot.index.split(":")), slot.uuid


def choose(
    slots: Sequence[Slot],
    taken: Collection[str],
    *,
    profile: str,
    count: int,
    allow_full_gpu: bool,
    strategy: str,
) -> tuple[Slot, ...]:
    """Return `count` free slots of `profile`; none for a CPU-only request.

    `taken` are the UUIDs that must not be handed out, leased or external. `pack` fills the GPU that
    has the most taken already, so that whole GPUs stay whole; `least_allocated` spreads. Ties go
    to the lowest index.

    Raises:
        NotAllowed: a full GPU for somebody who may not have one.
        NothingFree: fewer than `count` are free; the message says what else is.
        ConfigBroken: an unknown `strategy`.
    """
    if profile == NO_GPU or count < 1:
        return ()
    if profile == FULL_GPU and not allow_full_gpu:
        raise NotAllowed(_refuse_full_gpu(slots))
    packs = normalise_strategy(strategy)[0] == PACK
    unavailable = frozenset(taken)
    free = sorted((s for s in slots if s.profile == profile and _is_free(s, unavailable)), key=slot_order)
    if len(free) < count:
        raise NothingFree(_explain_shortage(slots, unavailable, profile, count, allow_full_gpu))
    return _pick(free, _measure_load(slots, unavailable), count, packs=packs)


def availability(slots: Sequence[Slot], taken: Collection[str]) -> tuple[Availability, ...]:
    """Return one `Availability` per profile, the smallest share first.

    `total` counts the faulty slots too, `free` does not. Where GPUs differ, `memory_mib` is what
    every slot of the profile has at least, `share` what it is at most.
    """
    unavailable = frozenset(taken)
    by_profile: dict[str, list[Slot]] = {}
    for slot in slots:
        by_profile.setdefault(slot.profile, []).append(slot)
    rows = (
        Availability(
            profile=profile,
            total=len(members),
            free=sum(_is_free(slot, unavailable) for slot in members),
            memory_mib=min(slot.memory_mib for slot in members),
            share=max(slot.share for slot in members),
        )
        for profile, members in by_profile.items()
    )
    return tuple(sorted(rows, key=lambda row: (row.share, row.memory_mib, row.profile)))


def _is_free(slot: Slot, taken: frozenset[str]) -> bool:
    return not slot.fault and slot.uuid not in taken


def _measure_load(slots: Iterable[Slot], taken: frozenset[str]) -> dict[str, Fraction]:
    """Return the taken share of each physical GPU, by its UUID."""
    load: dict[str, Fraction] = {}
    for slot in slots:
        used = slot.share if slot.uuid in taken else Fraction(0)
        load[slot.gpu_uuid] = load.get(slot.gpu_uuid, Fraction(0)) + used
    return load


def _pick(free: Sequence[Slot], load: Mapping[str, Fraction], count: int, *, packs: bool) -> tuple[Slot, ...]:
    """Take one slot after the other, since each pick changes which GPU is the fullest.

    `free` is in slot order: `min` and `max` keep the first of equals, so that ties go by index.
    """
    left, now_load, chosen = list(free), dict(load), []
    extreme = max if packs else min
    for _ in range(count):
        slot = extreme(left, key=lambda candidate: now_load[candidate.gpu_uuid])
        left.remove(slot)
        now_load[slot.gpu_uuid] += slot.share
        chosen.append(slot)
    return tuple(chosen)


def _refuse_full_gpu(slots: Sequence[Slot]) -> str:
    others = sorted({slot.profile for slot in slots} - {FULL_GPU})
    advice = f"Choose a part of one: {', '.join(others)}." if others else "Start without a GPU."
    return f"Your group may not use a full GPU. {advice}"


def _explain_shortage(
    slots: Sequence[Slot], taken: frozenset[str], profile: str, count: int, allow_full_gpu: bool
) -> str:
    total = sum(slot.profile == profile for slot in slots)
    faulty = sum(slot.profile == profile and bool(slot.fault) for slot in slots)
    free = Counter(slot.profile for slot in slots if _is_free(slot, taken))
    suitable = free.pop(profile, 0)
    if not allow_full_gpu:
        free.pop(FULL_GPU, None)
    wanted = f"{count} × {name_gpu(profile)}"
    facts = [f"You asked for {wanted}: this machine has {total}, {suitable} free now"]
    if faulty:
        facts.append(f"{faulty} out of order")
    advice = []
    if suitable:
        advice.append("ask for fewer")
    if free:
        others = ", ".join(f"{number} × {name_gpu(name)}" for name, number in sorted(free.items()))
        advice.append(f"choose what else is free now ({others})")
    if total >= count:
        advice.append("try again later")
    advice.append("start without a GPU")
    return f"{', '.join(facts)}. What you can do: {', or '.join(advice)}."
