"""The queue: who is served when, and what is left for those behind.

It guarantees that nobody gets a slot that is taken, marked, faulty or reserved for somebody else; and
that a spawn which has waited for its patience is passed by nobody behind it, as far as slots go that
would do for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from ..model import FULL_GPU, NO_GPU, GpuWish, MarkKind, QueueEntry, Slot
from .choice import FreeSlots
from .pool import PoolView
from .reservations import Calendar
from .shortage import explain_shortage, list_facts, refuse_full_gpu

_IN_USE = (MarkKind.EXTERNAL, MarkKind.CONTESTED)


def decide(
    view: PoolView,
    wish: GpuWish,
    now: datetime,
    *,
    strategy: str,
    patience: timedelta,
    container_name: str = "",
) -> tuple[Slot, ...]:
    """Return the slots that a server gets now; none for a CPU-only one.

    `container_name` is hers: her own entry in the queue is not ahead of her, and of two with the same
    rank the lower name is. An entry ahead that could be served now gets its slots set aside. One that
    cannot be is passed, until it has waited for `patience`: from then on whatever comes free and
    would do for it is set aside too. While a reservation of hers runs, her slots come first.

    `wish.runs_until` is as if she started at `now`, an entry's as if it had started when it entered.

    Raises:
        NotAllowed: a full GPU for somebody who may not have one.
        NothingFree: says where the slots are; `can_wait` is whether an empty machine would do.
        ConfigBroken: an unknown `strategy`.
    """
    if wish.profile == NO_GPU or wish.count < 1:
        return ()
    refuse_full_gpu(view.slots, wish.profile, allowed=wish.allow_full_gpu)
    barred = _barred_for_all(view)
    in_use = view.taken.union(mark.slot for mark in view.marks if mark.kind in _IN_USE)
    free = FreeSlots(view.slots, barred, in_use=in_use, strategy=strategy)
    calendar = Calendar((slot for slot in view.slots if slot.uuid not in barred), view.reservations, now)
    ahead = find_ahead(view, wish, container_name)
    totals = count_slots(view.slots)
    set_aside = _set_aside(free, calendar, totals, ahead, now, patience)
    reserved = calendar.barring(wish.user, now, wish.runs_until)
    suiting = free.suiting(wish.profile, reserved)
    if len(suiting) < wish.count:
        raise explain_shortage(
            view.slots,
            wish.profile,
            wish.count,
            free.count(reserved),
            list_facts(view, wish, now, reserved=reserved, set_aside=set_aside),
            allow_full_gpu=wish.allow_full_gpu,
        )
    return free.pick(suiting, wish.count, prefer=calendar.own(wish.user, now))


def barred_for(view: PoolView, user: str, now: datetime, runs_until: datetime | None) -> frozenset[str]:
    """Return the UUIDs of the slots that `user` cannot have now, whoever waits.

    What is taken, marked or faulty, and what is reserved for somebody else before `runs_until` (None:
    at any time to come).
    """
    barred = _barred_for_all(view)
    free = (slot for slot in view.slots if slot.uuid not in barred)
    return barred.union(Calendar(free, view.reservations, now).barring(user, now, runs_until))


def place(view: PoolView, wish: GpuWish, container_name: str) -> tuple[int, int]:
    """Return her position in the queue, from 1, and its length; she counts whether she is in it or not."""
    others = sum(entry.container_name != container_name for entry in view.queue)
    return len(find_ahead(view, wish, container_name)) + 1, others + 1


def find_ahead(view: PoolView, wish: GpuWish, container_name: str) -> list[QueueEntry]:
    """Return the entries that are served before her, in their order."""
    hers = (wish.rank, container_name)
    entries = [
        ((entry.wish.rank, entry.container_name), entry)
        for entry in view.queue
        if entry.container_name != container_name
    ]
    return [entry for key, entry in sorted(entries, key=lambda pair: pair[0]) if key < hers]


def run_time_of(entry: QueueEntry) -> timedelta | None:
    """Return for how long a waiting server may run once it has its slots; None is without end."""
    until = entry.wish.runs_until
    return None if until is None else max(timedelta(0), until - entry.entered_at)


def is_servable(wish: GpuWish, totals: Mapping[str, int]) -> bool:
    """Whether she may have what she waits for, and an empty machine would have it; others hold up nobody."""
    may_have = wish.allow_full_gpu or wish.profile != FULL_GPU
    return may_have and 0 < wish.count <= totals.get(wish.profile, 0)


def count_slots(slots: Iterable[Slot]) -> Counter[str]:
    """Return how many slots there are of each profile, in order or not."""
    return Counter(slot.profile for slot in slots)


def _set_aside(
    free: FreeSlots,
    calendar: Calendar,
    totals: Mapping[str, int],
    ahead: Sequence[QueueEntry],
    now: datetime,
    patience: timedelta,
) -> frozenset[str]:
    """Take out of `free` what those `ahead` get, one after the other, and return it as UUIDs."""
    aside: set[str] = set()
    for entry in ahead:
        wish, length = entry.wish, run_time_of(entry)
        if not free.has(wish.profile) or not is_servable(wish, totals):
            continue
        reserved = calendar.barring(wish.user, now, None if length is None else now + length)
        suiting = free.suiting(wish.profile, reserved)
        if len(suiting) >= wish.count or now - entry.entered_at >= patience:
            own = calendar.own(wish.user, now)
            aside |= {slot.uuid for slot in free.pick(suiting, wish.count, prefer=own)}
    return frozenset(aside)


def _barred_for_all(view: PoolView) -> frozenset[str]:
    marked = (mark.slot for mark in view.marks)
    return view.taken.union(marked, (slot.uuid for slot in view.slots if slot.fault))
