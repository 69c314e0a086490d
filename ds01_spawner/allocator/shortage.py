"""Say why somebody gets no slot now: how many there are, where the others went, and what she can do.

The sentences name nobody: whose reservation or turn it is, is not the reader's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from ..errors import NotAllowed, NothingFree
from ..model import FULL_GPU, GpuWish, MarkKind, Reservation, Slot, name_gpu
from .pool import PoolView

_OUT_OF_ORDER = (MarkKind.UNHEALTHY, MarkKind.DRAINED)


def refuse_full_gpu(slots: Sequence[Slot], profile: str, *, allowed: bool) -> None:
    """Return if it is no full GPU, or she may have one.

    Raises:
        NotAllowed: says what she may choose instead.
    """
    if profile != FULL_GPU or allowed:
        return
    others = sorted({slot.profile for slot in slots} - {FULL_GPU})
    advice = f"Choose a part of one: {', '.join(others)}." if others else "Start without a GPU."
    raise NotAllowed(f"Your group may not use a full GPU. {advice}")


def explain_shortage(
    slots: Sequence[Slot],
    profile: str,
    count: int,
    free: Counter[str],
    facts: Sequence[str],
    *,
    allow_full_gpu: bool,
) -> NothingFree:
    """Return the refusal; `free` is what she could have of each profile, `facts` where the rest went."""
    total = sum(slot.profile == profile for slot in slots)
    others = Counter({name: number for name, number in free.items() if number and name != profile})
    if not allow_full_gpu:
        others.pop(FULL_GPU, None)
    # A slot that is out of order may come back, so it is worth waiting for.
    can_wait = total >= count
    advice = []
    if free[profile]:
        advice.append("ask for fewer")
    if others:
        listed = ", ".join(f"{number} × {name_gpu(name)}" for name, number in sorted(others.items()))
        advice.append(f"choose what else is free now ({listed})")
    if can_wait:
        advice.append("wait until one is free")
    advice.append("start without a GPU")
    asked = f"You asked for {count} × {name_gpu(profile)}: this machine has {total}, {free[profile]} free now"
    return NothingFree(
        f"{', '.join((asked, *facts))}. What you can do: {', or '.join(advice)}.", can_wait=can_wait
    )


def list_facts(
    view: PoolView,
    wish: GpuWish,
    now: datetime,
    *,
    reserved: Mapping[str, Reservation],
    set_aside: Collection[str],
) -> list[str]:
    """Return where the slots of her profile are that are neither free for her nor leased.

    `reserved` gives the reservation that bars a slot for her, `set_aside` are the free slots that those
    ahead of her in the queue get. Each slot is counted once.
    """
    out_of_order = {mark.slot for mark in view.marks if mark.kind in _OUT_OF_ORDER}
    foreign = {mark.slot for mark in view.marks if mark.kind not in _OUT_OF_ORDER}
    held: list[Reservation] = []
    waiting = used = broken = 0
    for slot in view.slots:
        if slot.profile != wish.profile:
            continue
        if slot.fault or slot.uuid in out_of_order:
            broken += 1
        elif slot.uuid in foreign:
            used += 1
        elif slot.uuid in reserved:
            held.append(reserved[slot.uuid])
        elif slot.uuid in set_aside:
            waiting += 1
    counts = (
        (waiting, "set aside for people ahead of you in the queue"),
        (used, "used by containers that this hub did not start"),
        (broken, "out of order"),
    )
    return [*_list_reserved(held, now), *(f"{number} {where}" for number, where in counts if number)]


def _list_reserved(held: Sequence[Reservation], now: datetime) -> list[str]:
    """Say until when the slots are reserved, or, of a window to come, from when."""
    phrases = Counter(
        f"reserved for others until {show_time(one.end, now)}"
        if one.start <= now
        else f"reserved for others from {show_time(one.start, now)}, which your server could run into"
        for one in sorted(held, key=lambda one: (one.start, one.end))
    )
    return [f"{number} {phrase}" for phrase, number in phrases.items()]


def show_time(moment: datetime, now: datetime) -> str:
    """Return a moment in the machine's local time, with its day where that is not today."""
    local = moment.astimezone()
    same_day = local.date() == now.astimezone().date()
    return f"{local:%H:%M}" if same_day else f"{local:%Y-%m-%d %H:%M}"
