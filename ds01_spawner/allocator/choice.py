"""Choose among the free slots, and count them.

It guarantees that a slot with a fault, a barred one, or a full GPU for somebody who may not have one is
never chosen, and that equal values give equal choices, in whatever order the slots come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import lcm

from ..errors import ConfigBroken
from ..model import NO_GPU, Availability, Slot
from .shortage import explain_shortage, refuse_full_gpu

PACK = "pack"
LEAST_ALLOCATED = "least_allocated"
_SAME_AS_LEAST_ALLOCATED = ("round_robin", "priority_aware")


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


class FreeSlots:
    """The free slots by profile, and how full each GPU is: what one decision works on and uses up.

    `barred` slots are not free, nor are those with a fault; those `in_use` make their GPU fuller.
    `pack` takes from the fullest GPU, so that whole GPUs stay whole; `least_allocated` spreads.
    """

    def __init__(
        self, slots: Sequence[Slot], barred: Collection[str], *, in_use: Collection[str], strategy: str
    ) -> None:
        # Of equals both take the first, which is the one with the lowest index.
        self._extreme = max if normalise_strategy(strategy)[0] == PACK else min
        self._slots = slots
        self._in_use = in_use
        self._load: dict[str, int] = {}
        self._scale = 0
        self._by_profile: dict[str, dict[str, Slot]] = {}
        free = [slot for slot in slots if slot.uuid not in barred and not slot.fault]
        for slot in sorted(free, key=slot_order):
            self._by_profile.setdefault(slot.profile, {})[slot.uuid] = slot

    def has(self, profile: str) -> bool:
        """Whether any slot of `profile` is free still."""
        return bool(self._by_profile.get(profile))

    def suiting(self, profile: str, barred: Collection[str] = ()) -> list[Slot]:
        """Return the free slots of `profile` that are not `barred` besides, in slot order."""
        slots = self._by_profile.get(profile, {})
        return [slot for uuid, slot in slots.items() if uuid not in barred] if barred else [*slots.values()]

    def count(self, barred: Collection[str] = ()) -> Counter[str]:
        """Return how many are free of each profile that are not `barred` besides."""
        return Counter({profile: len(self.suiting(profile, barred)) for profile in self._by_profile})

    def pick(self, suiting: Sequence[Slot], count: int, *, prefer: Collection[str] = ()) -> tuple[Slot, ...]:
        """Take `count` of the `suiting` slots, or all where there are fewer; they are free no more.

        Those to `prefer` come first.
        """
        if not prefer:
            return tuple(self._pick(suiting, count))
        chosen = self._pick([slot for slot in suiting if slot.uuid in prefer], count)
        others = [slot for slot in suiting if slot.uuid not in prefer]
        return (*chosen, *self._pick(others, count - len(chosen)))

    def _pick(self, suiting: Sequence[Slot], count: int) -> list[Slot]:
        """Take one after the other, since each changes which GPU is the fullest."""
        left = {slot.uuid: slot for slot in suiting}
        chosen: list[Slot] = []
        while left and len(chosen) < count:
            load = self._measure_load()
            first_of_gpu: dict[str, Slot] = {}
            for slot in left.values():
                first_of_gpu.setdefault(slot.gpu_uuid, slot)
            slot = first_of_gpu[self._extreme(first_of_gpu, key=load.__getitem__)]
            del left[slot.uuid], self._by_profile[slot.profile][slot.uuid]
            load[slot.gpu_uuid] += self._weigh(slot)
            chosen.append(slot)
        return chosen

    def _measure_load(self) -> dict[str, int]:
        """Return the used share of each physical GPU by its UUID, as whole numbers of one small part."""
        if not self._scale:
            self._scale = lcm(*{slot.share.denominator for slot in self._slots})
            for slot in self._slots:
                used = self._weigh(slot) if slot.uuid in self._in_use else 0
                self._load[slot.gpu_uuid] = self._load.get(slot.gpu_uuid, 0) + used
        return self._load

    def _weigh(self, slot: Slot) -> int:
        return slot.share.numerator * self._scale // slot.share.denominator


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

    `taken` are the UUIDs that must not be handed out. `pack` fills the GPU that has the most taken
    already, so that whole GPUs stay whole; `least_allocated` spreads. Ties go to the lowest index.

    Raises:
        NotAllowed: a full GPU for somebody who may not have one.
        NothingFree: fewer than `count` are free; the message says what else is.
        ConfigBroken: an unknown `strategy`.
    """
    if profile == NO_GPU or count < 1:
        return ()
    refuse_full_gpu(slots, profile, allowed=allow_full_gpu)
    unavailable = frozenset(taken)
    free = FreeSlots(slots, unavailable, in_use=unavailable, strategy=strategy)
    suiting = free.suiting(profile)
    if len(suiting) < count:
        faulty = sum(slot.profile == profile and bool(slot.fault) for slot in slots)
        facts = [f"{faulty} out of order"] if faulty else []
        raise explain_shortage(slots, profile, count, free.count(), facts, allow_full_gpu=allow_full_gpu)
    return free.pick(suiting, count)


def availability(slots: Sequence[Slot], barred: Collection[str]) -> tuple[Availability, ...]:
    """Return one `Availability` per profile, the smallest share first.

    `barred` are the UUIDs that do not count as free: what is taken, or for one person `barred_for`.
    `total` counts the faulty and barred slots too. Where GPUs differ, `memory_mib` is what every slot
    of the profile has at least, `share` what it is at most.
    """
    unavailable = frozenset(barred)
    by_profile: dict[str, list[Slot]] = {}
    for slot in slots:
        by_profile.setdefault(slot.profile, []).append(slot)
    rows = (
        Availability(
            profile=profile,
            total=len(members),
            free=sum(not slot.fault and slot.uuid not in unavailable for slot in members),
            memory_mib=min(slot.memory_mib for slot in members),
            share=max(slot.share for slot in members),
        )
        for profile, members in by_profile.items()
    )
    return tuple(sorted(rows, key=lambda row: (row.share, row.memory_mib, row.profile)))
