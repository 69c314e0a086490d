"""Who is served when slots are short, what is left for those behind, and when they can expect theirs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ds01_spawner.allocator import PoolView, availability, barred_for, decide, expect, place
from ds01_spawner.errors import ConfigBroken, NotAllowed, NothingFree
from ds01_spawner.model import FULL_GPU, NO_GPU, GpuWish, MarkKind
from tests.unit.pools import HOUR, MINUTE, NOW, gpu, mark, mig, pool, reserve, waits, wish

A, B, C, D = mig("0:0"), mig("0:1"), mig("1:0"), mig("1:1")
PATIENCE = 10 * MINUTE


def served(
    view: PoolView,
    wanted: GpuWish,
    *,
    patience: timedelta = PATIENCE,
    strategy: str = "pack",
    container_name: str = "",
) -> list[str]:
    """What she gets now, as indexes; none where nothing is free for her."""
    try:
        chosen = decide(
            view, wanted, NOW, strategy=strategy, patience=patience, container_name=container_name
        )
    except NothingFree:
        return []
    return [slot.index for slot in chosen]


def refusal(view: PoolView, wanted: GpuWish, *, patience: timedelta = PATIENCE) -> NothingFree:
    with pytest.raises(NothingFree) as refused:
        decide(view, wanted, NOW, strategy="pack", patience=patience)
    return refused.value


# what bars a slot --------------------------------------------------------------------------------


def test_a_free_slot_is_given_when_nobody_waits() -> None:
    assert served(pool([A, B, C], "0:0"), wish()) == ["0:1"]


def test_strategy_decides_between_free_slots() -> None:
    assert served(pool([A, B, C], "0:0"), wish(), strategy="least_allocated") == ["1:0"]


def test_request_without_a_gpu_gets_no_slot_however_many_wait() -> None:
    view = pool([A], "0:0", queue=[waits("eve", 60)])
    assert served(view, wish(profile=NO_GPU, count=0)) == []
    assert decide(view, wish(count=0), NOW, strategy="pack", patience=PATIENCE) == ()


def test_full_gpu_is_refused_to_whom_it_is_not_allowed() -> None:
    with pytest.raises(NotAllowed, match=r"may not use a full GPU. Choose a part of one: 1g\.10gb"):
        served(pool([A, gpu("2")]), wish(profile=FULL_GPU, allow_full_gpu=False))


def test_unknown_strategy_is_a_broken_setting() -> None:
    with pytest.raises(ConfigBroken):
        served(pool([A]), wish(), strategy="packed")


@pytest.mark.parametrize("kind", list(MarkKind))
def test_marked_slot_is_given_to_nobody(kind: MarkKind) -> None:
    view = pool([A, B], marks=[mark(A, kind)])
    assert served(view, wish()) == ["0:1"]
    assert served(view, wish(count=2)) == []


def test_slot_with_a_fault_is_given_to_nobody() -> None:
    assert served(pool([replace(A, fault="XID 79"), B]), wish(count=2)) == []


def test_external_slot_makes_its_gpu_fuller_and_a_drained_one_does_not() -> None:
    external, drained = mark(C, MarkKind.EXTERNAL), mark(C, MarkKind.DRAINED)
    assert served(pool([A, B, C, D], marks=[external]), wish()) == ["1:1"]
    assert served(pool([A, B, C, D], marks=[drained]), wish()) == ["0:0"]


# the order of the queue --------------------------------------------------------------------------


def test_who_asked_before_gets_the_last_slot_even_if_she_looks_later() -> None:
    view = pool([A, B], "0:0", queue=[waits("eve", 1)])
    assert served(view, wish("ada")) == []
    assert served(view, view.queue[0].wish, container_name="jupyter._.eve") == ["0:1"]


def test_what_those_ahead_leave_over_is_for_who_comes_next() -> None:
    view = pool([A, B, C], queue=[waits("eve", 2), waits("kim", 1)])
    assert served(view, wish("ada")) == ["1:0"]


def test_higher_priority_comes_before_an_earlier_request() -> None:
    view = pool([A], queue=[waits("eve", 60, priority=10)])
    assert served(view, wish("ada", priority=50)) == ["0:0"]
    assert served(view, wish("ada", priority=9)) == []


def test_of_one_priority_the_earlier_request_comes_first_whenever_it_entered() -> None:
    built_for_long = replace(waits("eve", 60), entered_at=NOW)
    assert served(pool([A], queue=[built_for_long]), wish("ada", asked=NOW - 59 * MINUTE)) == []
    assert served(pool([A], queue=[built_for_long]), wish("ada", asked=NOW - 61 * MINUTE)) == ["0:0"]


def test_of_equal_requests_the_lower_container_name_comes_first() -> None:
    eve = waits("eve", 0)
    assert served(pool([A], queue=[eve]), wish("ada"), container_name="jupyter._.ada") == ["0:0"]
    assert served(pool([A], queue=[eve]), wish("zoe"), container_name="jupyter._.zoe") == []


def test_own_entry_is_not_ahead_of_oneself() -> None:
    ada = waits("ada", 5)
    assert served(pool([A], queue=[ada]), wish("ada"), container_name=ada.container_name) == ["0:0"]


def test_another_server_of_ones_own_is_ahead_like_anybodys() -> None:
    other = replace(waits("ada", 5), container_name="second._.ada")
    assert served(pool([A], queue=[other]), wish("ada"), container_name="jupyter._.ada") == []


def test_who_waits_for_another_profile_holds_up_nobody() -> None:
    large = mig("1:2", "2g.20gb", 2)
    view = pool([A, large], "1:2", queue=[waits("eve", 60, profile="2g.20gb")])
    assert served(view, wish("ada"), patience=timedelta(0)) == ["0:0"]


# patience ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "expected"), [(9.99, ["0:1"]), (10, []), (11, [])])
def test_head_that_cannot_be_served_is_passed_until_it_has_waited_for_its_patience(
    minutes: float, expected: list[str]
) -> None:
    view = pool([A, B], "0:0", queue=[waits("eve", minutes, count=2)])
    assert served(view, wish("ada")) == expected


def test_patience_counts_from_the_entry_and_not_from_the_request() -> None:
    built_for_long = replace(waits("eve", 60, count=2), entered_at=NOW - MINUTE)
    assert served(pool([A, B], "0:0", queue=[built_for_long]), wish("ada")) == ["0:1"]


def test_without_patience_nobody_passes_the_head() -> None:
    view = pool([A, B, C], "0:0", "0:1", queue=[waits("eve", 0, count=2)])
    assert served(view, wish("zoe"), patience=timedelta(0), container_name="jupyter._.zoe") == []


def test_slots_are_gathered_for_the_head_as_they_come_free() -> None:
    head = waits("eve", 60, count=3)
    for taken in (["0:0", "0:1"], ["0:0"], []):
        view = pool([A, B, C], *taken, queue=[head])
        assert served(view, wish("ada")) == []
    assert len(served(view, head.wish, container_name=head.container_name)) == 3


def test_second_in_the_queue_gets_what_the_first_does_not_need() -> None:
    first, second = waits("eve", 60, count=2), waits("kim", 50)
    view = pool([A, B, C], queue=[second, first])
    assert served(view, second.wish, container_name=second.container_name) == ["1:0"]
    assert served(view, wish("ada")) == []


def test_second_whose_patience_is_over_gets_nothing_of_what_the_first_gathers() -> None:
    first, second = waits("eve", 60, count=3), waits("kim", 50)
    view = pool([A, B, C], "0:0", queue=[first, second])
    assert served(view, second.wish, container_name=second.container_name) == []


def test_who_waits_for_more_than_there_is_holds_up_nobody() -> None:
    view = pool([A, B], "0:0", queue=[waits("eve", 60, count=3)])
    assert served(view, wish("ada")) == ["0:1"]


def test_who_waits_for_a_full_gpu_that_is_not_allowed_any_more_holds_up_nobody() -> None:
    view = pool([gpu("0")], queue=[waits("eve", 60, profile=FULL_GPU, allow_full_gpu=False)])
    assert served(view, wish("ada", profile=FULL_GPU)) == ["0"]


def test_slot_that_is_reserved_from_the_head_is_not_gathered_for_it() -> None:
    view = pool(
        [A, B, C],
        "0:0",
        queue=[waits("eve", 60, count=2)],
        reservations=[reserve("ada", 0, 2, B.uuid)],
    )
    assert served(view, wish("ada", hours=1)) == ["0:1"]
    assert served(view, wish("kim", hours=1)) == []


def test_run_time_of_who_waits_begins_when_she_is_served() -> None:
    # Two hours from now on she would run into the window; from her entry on she would not.
    eve = waits("eve", 60, hours=2)
    view = pool([A], queue=[eve], reservations=[reserve("kim", 1.5, 3, A.uuid)])
    assert served(view, wish("ada", hours=1)) == ["0:0"]


def test_run_time_of_who_waits_does_not_count_the_build_before_her_entry() -> None:
    eve = replace(waits("eve", 60), entered_at=NOW, wish=waits("eve", 60, hours=2).wish)
    view = pool([A], queue=[eve], reservations=[reserve("kim", 1.5, 3, A.uuid)])
    assert served(view, wish("ada", hours=1)) == []


# reservations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "hours", "expected"),
    [
        (-1, 1, 1, []),
        (0, 1, 1, []),
        (-1, 0, 1, ["0:0"]),
        (1, 2, 1, ["0:0"]),
        (0.99, 2, 1, []),
        (48, 72, None, []),
        (-2, -1, None, ["0:0"]),
    ],
    ids=["runs", "starts now", "ends now", "starts at her end", "starts before her end", "some day", "over"],
)
def test_window_of_somebody_else_bars_its_slot(
    start: float, end: float, hours: float | None, expected: list[str]
) -> None:
    view = pool([A], reservations=[reserve("kim", start, end, A.uuid)])
    assert served(view, wish("ada", hours=hours)) == expected
    assert served(view, wish("kim", hours=hours)) == ["0:0"]


def test_reserved_gpu_means_all_its_slices() -> None:
    view = pool([A, B, C], reservations=[reserve("kim", 0, 1, "GPU-0")])
    assert served(view, wish("ada")) == ["1:0"]
    assert served(view, wish("kim", count=2), strategy="least_allocated") == ["0:0", "0:1"]


def test_window_whose_gpus_are_not_known_yet_bars_nothing() -> None:
    nothing = replace(reserve("kim", 0, 1), gpus=("7",))
    assert served(pool([A], reservations=[nothing]), wish("ada")) == ["0:0"]


def test_own_reserved_slots_come_first_and_others_after_them() -> None:
    view = pool([A, B, C, D], "0:0", reservations=[reserve("ada", 0, 1, D.uuid)])
    assert served(view, wish("ada")) == ["1:1"]
    assert served(view, wish("ada", count=2)) == ["1:1", "0:1"]
    assert served(view, wish("eve")) == ["0:1"]


@pytest.mark.parametrize(("start", "end"), [(0.01, 1), (-1, 0)])
def test_own_window_that_does_not_run_now_changes_nothing(start: float, end: float) -> None:
    view = pool([A, B, C, D], "0:0", reservations=[reserve("ada", start, end, D.uuid)])
    assert served(view, wish("ada")) == ["0:1"]


def test_who_is_ahead_gets_her_reserved_slot_and_leaves_the_common_one() -> None:
    view = pool([A, B], queue=[waits("kim", 5)], reservations=[reserve("kim", -1, 1, B.uuid)])
    assert served(view, wish("ada", hours=1)) == ["0:0"]


def test_slot_that_two_have_reserved_at_once_is_theirs_together() -> None:
    both = [reserve("ada", 0, 4, A.uuid), reserve("kim", 1, 3, A.uuid)]
    view = pool([A], reservations=both)
    assert served(view, wish("ada", hours=4)) == ["0:0"]
    assert served(view, wish("ada")) == ["0:0"]
    assert served(view, wish("kim", hours=2)) == []
    assert served(view, wish("eve", hours=1)) == []


def test_own_window_that_ends_before_the_other_does_not_open_it() -> None:
    both = [reserve("ada", 0, 2, A.uuid), reserve("kim", 1, 3, A.uuid)]
    view = pool([A], reservations=both)
    assert served(view, wish("ada", hours=2)) == ["0:0"]
    assert served(view, wish("ada", hours=2.01)) == []


def test_own_window_that_began_after_the_other_opens_it_from_then_on() -> None:
    view = pool([A], reservations=[reserve("kim", -2, 1, A.uuid), reserve("ada", -1, 2, A.uuid)])
    assert served(view, wish("ada", hours=1)) == ["0:0"]


def test_own_window_on_another_slot_opens_nothing() -> None:
    both = [reserve("ada", 0, 4, B.uuid), reserve("kim", 0, 2, A.uuid)]
    assert served(pool([A, B], reservations=both), wish("ada", count=2)) == []


# what the form shows as free ---------------------------------------------------------------------


def test_free_on_the_form_is_what_she_could_have() -> None:
    view = pool(
        [A, B, C, D, replace(mig("2:0"), fault="lost")],
        "0:0",
        marks=[mark(B, MarkKind.DRAINED)],
        reservations=[reserve("kim", 2, 3, C.uuid)],
    )
    assert barred_for(view, "ada", NOW, NOW + 2 * HOUR) == {A.uuid, B.uuid, "MIG-2:0"}
    assert barred_for(view, "ada", NOW, None) == {A.uuid, B.uuid, C.uuid, "MIG-2:0"}
    assert barred_for(view, "kim", NOW, None) == {A.uuid, B.uuid, "MIG-2:0"}
    (row,) = availability(view.slots, barred_for(view, "ada", NOW, None))
    assert (row.total, row.free) == (5, 1)


# what is said ------------------------------------------------------------------------------------


def test_refusal_says_where_all_the_slots_are() -> None:
    slots = [mig(f"{number // 7}:{number % 7}") for number in range(9)]
    view = pool(
        slots,
        "0:0",
        marks=[
            mark(slots[1], MarkKind.DRAINED),
            mark(slots[2], MarkKind.UNHEALTHY),
            mark(slots[3], MarkKind.EXTERNAL),
            mark(slots[4], MarkKind.CONTESTED),
        ],
        queue=[waits("eve", 60, count=2)],
        reservations=[reserve("kim", -1, 1, slots[5].uuid), reserve("kim", 2, 3, slots[6].uuid)],
    )
    until, start = ((NOW + hours * HOUR).astimezone().strftime("%H:%M") for hours in (1, 2))
    assert str(refusal(view, wish("ada", hours=4))) == (
        "You asked for 1 × 1g.10gb: this machine has 9, 0 free now, "
        f"1 reserved for others until {until}, "
        f"1 reserved for others from {start}, which your server could run into, "
        "2 set aside for people ahead of you in the queue, "
        "2 used by containers that this hub did not start, 2 out of order. "
        "What you can do: wait until one is free, or start without a GPU."
    )


def test_refusal_names_nobody() -> None:
    view = pool(
        [A, B],
        queue=[waits("eve", 60)],
        reservations=[reserve("kim", 0, 1, A.uuid, reason="paper")],
        marks=[mark(B, MarkKind.DRAINED, why="fan", who="root")],
    )
    message = str(refusal(view, wish("ada")))
    assert not any(word in message for word in ("eve", "kim", "paper", "root", "fan"))


def test_end_of_a_window_on_another_day_comes_with_its_date() -> None:
    view = pool([A], reservations=[reserve("kim", 0, 72, A.uuid)])
    end = (NOW + 72 * HOUR).astimezone()
    assert f"1 reserved for others until {end:%Y-%m-%d %H:%M}" in str(refusal(view, wish("ada")))


def test_of_two_windows_the_first_is_told() -> None:
    windows = [reserve("eve", 2, 3, A.uuid), reserve("kim", 0, 1, A.uuid)]
    message = str(refusal(pool([A], reservations=windows), wish("ada")))
    assert f"until {(NOW + HOUR).astimezone():%H:%M}" in message
    assert "run into" not in message


def test_advice_names_only_what_is_free_for_her() -> None:
    large, larger = mig("1:2", "2g.20gb", 2), mig("1:3", "3g.40gb", 3)
    view = pool(
        [A, large, larger, gpu("2")],
        "0:0",
        queue=[waits("eve", 5, profile="2g.20gb")],
        reservations=[reserve("kim", 0, 1, larger.uuid)],
    )
    assert "choose what else is free now (1 × full GPU)" in str(refusal(view, wish("ada")))
    assert "choose" not in str(refusal(view, wish("ada", allow_full_gpu=False)))


@pytest.mark.parametrize(("count", "can_wait"), [(2, True), (3, False)])
def test_waiting_makes_sense_where_the_empty_machine_would_do(count: int, can_wait: bool) -> None:
    view = pool([A, replace(B, fault="lost")], marks=[mark(A, MarkKind.DRAINED)])
    refused = refusal(view, wish("ada", count=count))
    assert refused.can_wait is can_wait
    assert ("wait until" in str(refused)) is can_wait


# the place in the queue --------------------------------------------------------------------------


def test_place_counts_those_ahead_and_all_who_wait() -> None:
    queue = [waits("eve", 20), waits("kim", 10), waits("zoe", 1, priority=9)]
    view = pool([A], "0:0", queue=queue)
    assert place(view, wish("ada"), "jupyter._.ada") == (4, 4)
    assert place(view, queue[0].wish, "jupyter._.eve") == (2, 3)
    assert place(view, queue[2].wish, "jupyter._.zoe") == (1, 3)


def test_who_is_alone_is_the_first_of_one() -> None:
    assert place(pool([A]), wish("ada"), "jupyter._.ada") == (1, 1)


# the time to expect ------------------------------------------------------------------------------


def expected(view: PoolView, wanted: GpuWish) -> float | None:
    """In hours from NOW."""
    moment = expect(view, wanted, NOW, "jupyter._.ada")
    return None if moment is None else (moment - NOW) / HOUR


def test_who_could_be_served_is_expected_now() -> None:
    assert expected(pool([A]), wish()) == 0
    assert expected(pool([]), wish(profile=NO_GPU, count=0)) == 0


def test_first_lease_to_end_gives_the_time() -> None:
    assert expected(pool([A, B, C], ends={"0:0": 5, "0:1": 2, "1:0": 9}), wish()) == 2


def test_several_slots_are_there_when_the_last_of_them_is() -> None:
    view = pool([A, B, C], ends={"0:0": 5, "0:1": 2, "1:0": 9})
    assert [expected(view, wish(count=count)) for count in (1, 2, 3)] == [2, 5, 9]


def test_lease_that_is_overdue_is_expected_to_end_now() -> None:
    assert expected(pool([A], ends={"0:0": -1}), wish()) == 0


def test_slots_of_another_profile_do_not_help() -> None:
    assert expected(pool([A, mig("1:2", "2g.20gb", 2)], ends={"0:0": 3}), wish()) == 3


def test_those_ahead_keep_what_they_get() -> None:
    view = pool(
        [A, B, C],
        ends={"0:0": 1, "0:1": 2, "1:0": 3},
        queue=[waits("eve", 5), waits("kim", 4), waits("late", -5)],
    )
    assert expected(view, wish()) == 3
    assert expected(view, wish(count=2)) is None


def test_those_ahead_who_want_something_else_or_the_impossible_do_not_count() -> None:
    others = [waits("eve", 5, profile="2g.20gb"), waits("kim", 4, count=2)]
    view = pool([A, mig("1:2", "2g.20gb", 2)], ends={"0:0": 1, "1:2": 2}, queue=others)
    assert expected(view, wish()) == 1


def test_nobody_knows_when_a_lease_without_an_end_makes_room() -> None:
    assert expected(pool([A], "0:0"), wish()) is None
    assert expected(pool([A, B], "0:0", ends={"0:1": 1}), wish()) == 1
    assert expected(pool([A, B], "0:0", ends={"0:1": 1}, queue=[waits("eve", 5, count=2)]), wish()) is None


def test_nobody_knows_when_a_slot_out_of_order_comes_back() -> None:
    assert expected(pool([replace(A, fault="lost")]), wish()) is None
    for kind in MarkKind:
        assert expected(pool([A], ends={"0:0": 1}, marks=[mark(A, kind)]), wish()) is None


def test_nobody_expects_what_the_machine_does_not_have() -> None:
    assert expected(pool([A]), wish(count=2)) is None
    assert expected(pool([gpu("0")]), wish(profile=FULL_GPU, allow_full_gpu=False)) is None


@pytest.mark.parametrize(("hours", "moment"), [(1, 1), (2, 1), (2.01, 5), (None, 5)])
def test_window_of_somebody_else_is_waited_for_if_she_could_run_into_it(
    hours: float | None, moment: float
) -> None:
    view = pool([A], ends={"0:0": 1}, reservations=[reserve("kim", 3, 5, A.uuid)])
    assert expected(view, wish(hours=hours)) == moment


def test_several_windows_are_waited_for_one_after_the_other() -> None:
    windows = [reserve("kim", 3, 5, A.uuid), reserve("eve", 6, 8, A.uuid), reserve("zoe", 20, 21, A.uuid)]
    view = pool([A], ends={"0:0": 2}, reservations=windows)
    assert [expected(view, wish(hours=hours)) for hours in (1, 2, 12, 13)] == [2, 8, 8, 21]


def test_slots_have_to_be_free_together() -> None:
    # The first is free at once, but reserved by the time that the second is.
    view = pool([A, B], ends={"0:1": 4}, reservations=[reserve("kim", 2, 6, A.uuid)])
    assert expected(view, wish(count=2, hours=1)) == 6


def test_own_window_gives_the_slot_to_her_before_others_who_asked_earlier() -> None:
    view = pool(
        [A, B],
        ends={"0:0": 1, "0:1": 4},
        queue=[waits("eve", 5)],
        reservations=[reserve("ada", 0, 9, A.uuid)],
    )
    assert expected(view, wish()) == 1


def test_who_is_ahead_is_expected_to_take_her_reserved_slot() -> None:
    view = pool([A, B], queue=[waits("kim", 5)], reservations=[reserve("kim", -1, 9, B.uuid)])
    assert expected(view, wish(hours=1)) == 0
