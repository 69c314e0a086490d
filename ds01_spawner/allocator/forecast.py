"""When somebody who waits should get her slots, from what is known of everybody else."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..model import NO_GPU, GpuWish
from .choice import slot_order
from .pool import PoolView
from .queue import count_slots, find_ahead, is_servable, run_time_of
from .reservations import Calendar


def expect(view: PoolView, wish: GpuWish, now: datetime, container_name: str) -> datetime | None:
    """Return the earliest moment at which she should have her slots, None where nobody can know.

    Every lease is taken to last as long as it may, and those ahead of her in the queue to keep for ever
    what they get. So she often has them earlier; later only if a slot breaks or is reserved meanwhile,
    or somebody of a higher priority comes.
    """
    if wish.profile == NO_GPU or wish.count < 1:
        return now
    totals = count_slots(view.slots)
    if not is_servable(wish, totals):
        return None
    coming = _list_coming(view, wish.profile, now)
    calendar = Calendar((slot for slot in view.slots if slot.uuid in coming), view.reservations, now)
    for entry in find_ahead(view, wish, container_name):
        if entry.wish.profile == wish.profile and is_servable(entry.wish, totals):
            _, theirs = _find(coming, entry.wish, now, run_time_of(entry), calendar)
            for uuid in theirs:
                del coming[uuid]
    length = None if wish.runs_until is None else max(timedelta(0), wish.runs_until - now)
    moment, _ = _find(coming, wish, now, length, calendar)
    return moment


def _list_coming(view: PoolView, profile: str, now: datetime) -> dict[str, datetime]:
    """Return since or from when each slot of `profile` is free, the first to be so first.

    A slot that is out of order, or whose lease has no known end, is left out.
    """
    lost = {mark.slot for mark in view.marks}
    coming: dict[str, datetime] = {}
    for slot in sorted((slot for slot in view.slots if slot.profile == profile), key=slot_order):
        end = view.ends.get(slot.uuid) if slot.uuid in view.taken else now
        if end is not None and slot.uuid not in lost and not slot.fault:
            coming[slot.uuid] = end
    return dict(sorted(coming.items(), key=lambda item: item[1]))


def _find(
    coming: dict[str, datetime], wish: GpuWish, now: datetime, length: timedelta | None, calendar: Calendar
) -> tuple[datetime | None, list[str]]:
    """Return when enough slots are free together for `length`, and which; None with all that there are."""
    own = calendar.own(wish.user, now)
    useful = _list_useful(coming, wish, own, calendar)
    moment = now
    while True:
        times = sorted(
            (
                calendar.earliest(uuid, wish.user, max(coming[uuid], moment), length),
                uuid not in own,
                place,
                uuid,
            )
            for place, uuid in enumerate(useful)
        )[: wish.count]
        found = [uuid for *_, uuid in times]
        if len(times) < wish.count:
            return None, found
        if times[-1][0] <= moment:
            return moment, found
        # One that was free before may be reserved by the time that the last one is.
        moment = times[-1][0]


def _list_useful(
    coming: dict[str, datetime], wish: GpuWish, own: frozenset[str], calendar: Calendar
) -> list[str]:
    """Return the slots that may be hers: no others than her own come after enough sure ones."""
    useful: dict[str, None] = {}
    sure = 0
    for uuid in coming:
        useful[uuid] = None
        sure += not calendar.concerns(uuid, wish.user)
        if sure == wish.count:
            break
    hers = [uuid for uuid in coming if uuid in own and uuid not in useful] if own else []
    return [*useful, *hers]
