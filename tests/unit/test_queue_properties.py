"""What holds of every decision, whatever the pool, the queue and the reservations are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_spawner.allocator import PoolView, barred_for, choose, decide, expect, place
from ds01_spawner.errors import NothingFree
from ds01_spawner.model import (
    FULL_GPU,
    GpuWish,
    Holdings,
    Mark,
    MarkKind,
    QueueEntry,
    Reservation,
    Slot,
)
from tests.unit.pools import HOUR, MINUTE, NOW, gpu, mig

USERS = st.sampled_from(["ada", "eve", "kim", "zoe"])
PROFILES = st.sampled_from(["1g.10gb", "1g.10gb", "2g.20gb", FULL_GPU])
STRATEGIES = st.sampled_from(["pack", "least_allocated"])
PATIENCE = st.sampled_from([timedelta(0), 10 * MINUTE, 1000 * HOUR])
HOURS = st.none() | st.sampled_from([0.5, 1, 2, 3, 10])

UNTIMED = settings(deadline=None)  # the machine may be busy

MACHINE = (
    *(mig(f"0:{number}") for number in range(4)),
    *(mig(f"1:{number}") for number in range(2)),
    *(mig(f"1:{number}", "2g.20gb", 2) for number in range(2, 4)),
    gpu("2"),
    gpu("3"),
)
DEVICES = sorted({slot.uuid for slot in MACHINE} | {slot.gpu_uuid for slot in MACHINE})


def run_until(start: datetime, hours: float | None) -> datetime | None:
    return None if hours is None else start + hours * HOUR


@st.composite
def wishes(draw: st.DrawFn, asked: datetime = NOW) -> GpuWish:
    return GpuWish(
        user=draw(USERS),
        profile=draw(PROFILES),
        count=draw(st.integers(1, 3)),
        requested_at=asked - draw(st.integers(0, 3)) * MINUTE,
        allow_full_gpu=draw(st.integers(0, 9)) > 0,
        priority=draw(st.sampled_from([0, 0, 0, 10])),
        runs_until=run_until(NOW, draw(HOURS)),
    )


@st.composite
def entries(draw: st.DrawFn) -> tuple[QueueEntry, ...]:
    queue = []
    for number in range(draw(st.integers(0, 5))):
        entered = NOW - draw(st.integers(0, 20)) * MINUTE
        wanted = replace(draw(wishes(entered)), runs_until=run_until(entered, draw(HOURS)))
        queue.append(
            QueueEntry(
                id=number,
                wish=wanted,
                server=str(number),
                container_name=f"{number}._.{wanted.user}",
                entered_at=entered,
            )
        )
    return tuple(queue)


@st.composite
def windows(draw: st.DrawFn) -> Reservation:
    start = draw(st.integers(-3, 5))
    devices = tuple(draw(st.lists(st.sampled_from(DEVICES), max_size=3)))
    return Reservation(
        user=draw(USERS),
        start=NOW + start * HOUR,
        end=NOW + (start + draw(st.integers(1, 4))) * HOUR,
        gpus=devices,
        devices=devices,
    )


ONE_EACH = st.lists(windows(), max_size=4, unique_by=lambda one: one.user)
"""As the limits file has them: one window for each person."""


def make_mark(slot: Slot, kind: MarkKind) -> Mark:
    return Mark(slot=slot.uuid, kind=kind, why="", since=NOW)


@st.composite
def pools(draw: st.DrawFn, reservations: st.SearchStrategy[list[Reservation]] | None = None) -> PoolView:
    slots = tuple(
        replace(slot, fault="lost" if draw(st.integers(0, 9)) == 0 else "")
        for slot in draw(st.lists(st.sampled_from(MACHINE), min_size=1, unique=True))
    )
    some = st.lists(st.sampled_from(slots), unique=True)
    taken = draw(some)
    ends = {slot.uuid: run_until(NOW, draw(st.none() | st.integers(1, 9))) for slot in taken}
    return PoolView(
        slots=slots,
        taken=frozenset(ends),
        holdings=Holdings(),
        ends=ends,
        marks=tuple(
            make_mark(slot, draw(st.sampled_from(MarkKind)))
            for slot in draw(st.lists(st.sampled_from(slots), unique=True, max_size=2))
        ),
        queue=draw(entries()),
        reservations=tuple(draw(ONE_EACH if reservations is None else reservations)),
    )


def serve(
    view: PoolView,
    wanted: GpuWish,
    *,
    strategy: str = "pack",
    patience: timedelta = timedelta(0),
    container_name: str = "me",
) -> tuple[Slot, ...]:
    """What she gets now; nothing where nothing is free for her, or she may not have it."""
    if wanted.profile == FULL_GPU and not wanted.allow_full_gpu:
        return ()
    try:
        return decide(view, wanted, NOW, strategy=strategy, patience=patience, container_name=container_name)
    except NothingFree:
        return ()


def uuids(slots: Iterable[Slot]) -> set[str]:
    return {slot.uuid for slot in slots}


def find_head(view: PoolView) -> QueueEntry | None:
    """The first in the queue of those whom the machine could serve if it were empty."""
    possible = [
        entry
        for entry in view.queue
        if sum(slot.profile == entry.wish.profile for slot in view.slots) >= entry.wish.count
        and (entry.wish.allow_full_gpu or entry.wish.profile != FULL_GPU)
    ]
    return min(possible, key=lambda entry: (entry.wish.rank, entry.container_name), default=None)


def suiting(view: PoolView, entry: QueueEntry) -> set[str]:
    """The slots that `entry` could take at this moment, were it alone."""
    until = entry.wish.runs_until
    runs_until = None if until is None else NOW + (until - entry.entered_at)
    barred = barred_for(view, entry.wish.user, NOW, runs_until)
    return {slot.uuid for slot in view.slots if slot.profile == entry.wish.profile} - barred


@UNTIMED
@given(pools(), wishes(), STRATEGIES, PATIENCE)
def test_what_is_given_is_what_was_asked_for_and_never_barred(
    view: PoolView, wanted: GpuWish, strategy: str, patience: timedelta
) -> None:
    chosen = serve(view, wanted, strategy=strategy, patience=patience)
    assert len(uuids(chosen)) == len(chosen) in (0, wanted.count)
    assert {slot.profile for slot in chosen} <= {wanted.profile}
    assert not uuids(chosen) & barred_for(view, wanted.user, NOW, wanted.runs_until)


@UNTIMED
@given(pools(), USERS, HOURS)
def test_barred_is_what_is_taken_marked_faulty_or_in_a_window_of_others(
    view: PoolView, user: str, hours: float | None
) -> None:
    until = run_until(NOW, hours)
    marked = {one.slot for one in view.marks}
    # Windows and run times begin and end at full and half hours, so one moment of each half hour will do.
    moments = [NOW + number * HOUR / 2 + MINUTE for number in range(20)]

    def is_barred(slot: Slot) -> bool:
        owners = [
            {one.user for one in view.reservations if one.covers(slot) and one.start <= moment < one.end}
            for moment in moments
            if until is None or moment < until
        ]
        out = slot.uuid in view.taken or slot.uuid in marked or bool(slot.fault)
        return out or any(users and user not in users for users in owners)

    barred = barred_for(view, user, NOW, until)
    assert {slot.uuid for slot in view.slots if slot.uuid in barred} == uuids(filter(is_barred, view.slots))


@UNTIMED
@given(pools(), wishes(), STRATEGIES)
def test_without_patience_nobody_passes_the_head(view: PoolView, wanted: GpuWish, strategy: str) -> None:
    head = find_head(view)
    if head is None or (wanted.rank, "me") < (head.wish.rank, head.container_name):
        return
    hers = suiting(view, head)
    got = uuids(serve(view, wanted, strategy=strategy, patience=timedelta(0)))
    if len(hers) >= head.wish.count:
        assert len(hers - got) >= head.wish.count
    else:
        assert not hers & got


@UNTIMED
@given(pools(), wishes(), STRATEGIES, PATIENCE)
def test_head_that_could_be_served_still_can_after_others_were(
    view: PoolView, wanted: GpuWish, strategy: str, patience: timedelta
) -> None:
    head = find_head(view)
    if head is None or (wanted.rank, "me") < (head.wish.rank, head.container_name):
        return
    hers = suiting(view, head)
    if len(hers) >= head.wish.count:
        got = uuids(serve(view, wanted, strategy=strategy, patience=patience))
        assert len(hers - got) >= head.wish.count


@UNTIMED
@given(pools(), wishes(), wishes(), STRATEGIES, PATIENCE)
def test_two_who_ask_one_after_the_other_never_get_one_slot(
    view: PoolView, first: GpuWish, second: GpuWish, strategy: str, patience: timedelta
) -> None:
    got = uuids(serve(view, first, strategy=strategy, patience=patience, container_name="first"))
    later = replace(view, taken=view.taken | got)
    assert not got & uuids(
        serve(later, second, strategy=strategy, patience=patience, container_name="second")
    )


@UNTIMED
@given(st.data(), pools(), wishes(), STRATEGIES, PATIENCE)
def test_order_in_which_things_are_listed_does_not_matter(
    data: st.DataObject, view: PoolView, wanted: GpuWish, strategy: str, patience: timedelta
) -> None:
    shuffled = replace(
        view,
        slots=tuple(data.draw(st.permutations(view.slots))),
        queue=tuple(data.draw(st.permutations(view.queue))),
        marks=view.marks[::-1],
        reservations=view.reservations[::-1],
    )
    chosen = serve(view, wanted, strategy=strategy, patience=patience)
    assert serve(shuffled, wanted, strategy=strategy, patience=patience) == chosen
    assert expect(shuffled, wanted, NOW, "me") == expect(view, wanted, NOW, "me")
    assert place(shuffled, wanted, "me") == place(view, wanted, "me")


@UNTIMED
@given(pools(), wishes(), STRATEGIES)
def test_where_nobody_waits_and_nothing_is_reserved_it_is_choose(
    view: PoolView, wanted: GpuWish, strategy: str
) -> None:
    marked = [one.slot for one in view.marks if one.kind in (MarkKind.EXTERNAL, MarkKind.CONTESTED)]
    view = replace(
        view,
        queue=(),
        reservations=(),
        marks=tuple(one for one in view.marks if one.slot in marked),
    )
    wanted = replace(wanted, allow_full_gpu=True)
    try:
        alone = choose(
            view.slots,
            view.taken.union(marked),
            profile=wanted.profile,
            count=wanted.count,
            allow_full_gpu=True,
            strategy=strategy,
        )
    except NothingFree:
        alone = ()
    assert serve(view, wanted, strategy=strategy) == alone


@UNTIMED
@given(pools(reservations=st.just([])), wishes())
def test_who_is_expected_now_is_served_now_and_nobody_else(view: PoolView, wanted: GpuWish) -> None:
    moment = expect(view, wanted, NOW, "me")
    assert (moment == NOW) == bool(serve(view, wanted, patience=timedelta(0)))


@UNTIMED
@given(pools(), wishes())
def test_expected_time_lies_in_no_window_of_others(view: PoolView, wanted: GpuWish) -> None:
    moment = expect(view, wanted, NOW, "me")
    if moment is None:
        return
    assert moment >= NOW
    length = None if wanted.runs_until is None else wanted.runs_until - NOW
    then = replace(
        view,
        taken=frozenset(uuid for uuid, end in view.ends.items() if end is None or end > moment),
        queue=(),
    )
    barred = barred_for(then, wanted.user, moment, None if length is None else moment + length)
    usable = {slot.uuid for slot in view.slots if slot.profile == wanted.profile} - barred
    assert len(usable) >= wanted.count


@UNTIMED
@given(st.lists(wishes(), min_size=1, max_size=6), STRATEGIES)
def test_everybody_in_a_queue_is_served_as_slots_come_free(wanted: list[GpuWish], strategy: str) -> None:
    queue = {
        f"{number}": QueueEntry(
            id=number,
            wish=replace(one, allow_full_gpu=True, count=min(one.count, 2)),
            server="",
            container_name=f"{number}",
            entered_at=NOW,
        )
        for number, one in enumerate(wanted)
    }
    running: list[frozenset[str]] = []
    for _ in range(2 * len(wanted)):
        for name, entry in tuple(queue.items()):
            taken = frozenset().union(*running)
            view = PoolView(slots=MACHINE, taken=taken, holdings=Holdings(), queue=tuple(queue.values()))
            chosen = serve(view, entry.wish, strategy=strategy, container_name=name)
            if chosen:
                running.append(frozenset(uuids(chosen)))
                del queue[name]
        if running:
            running.pop(0)
    assert not queue
