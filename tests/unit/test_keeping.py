"""Which images go, in which order, and why the others stay."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_spawner.keeping import Bounds, Needs, StoredImage, Verdict, find_user, judge
from ds01_spawner.model import ImageUse

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MONTH = Bounds(max_age=30 * DAY)
GIGABYTE = 10**9


def image(
    name: str,
    *,
    built: timedelta = 100 * DAY,
    tagged: timedelta | None = None,
    used: dict[str, timedelta] | None = None,
    size: int = 0,
    shared: int = 0,
    other_names: tuple[str, ...] = (),
) -> StoredImage:
    """An image of which all times are so long ago."""
    uses = [
        ImageUse(tag=f"ds01/image:{name}", user=user, last_used_at=NOW - ago)
        for user, ago in (used or {}).items()
    ]
    return StoredImage(
        id=f"sha256:{name}",
        names=(f"ds01/image:{name}",),
        other_names=other_names,
        made_at=NOW - built,
        tagged_at=NOW - (built if tagged is None else tagged),
        size=size,
        shared_size=shared,
        uses=tuple(uses),
    )


def removed(verdicts: tuple[Verdict, ...]) -> list[str]:
    return [one.image.id.removeprefix("sha256:") for one in verdicts if not one.is_kept]


def why(verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    return {one.image.id.removeprefix("sha256:"): one.why for one in verdicts}


# what is needed


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (Needs(containers={"sha256:a": ("vision._.1001",)}), "needed by container vision._.1001"),
        (Needs(containers={"sha256:a": ("x", "y")}), "needed by containers x, y"),
        (Needs(profiles={"ds01/image:a": ("cpu",)}), "needed by profile cpu"),
        (Needs(profiles={"ds01/image:a": ("cpu", "slice")}), "needed by profiles cpu, slice"),
        (Needs(profiles={"ds01/image:a": ("",)}), "needed by starts without a profile"),
        (
            Needs(containers={"sha256:a": ("x",)}, profiles={"ds01/image:a": ("cpu",)}),
            "needed by container x",
        ),
    ],
)
def test_image_that_somebody_needs_stays_whatever_its_age_and_the_budget(needs: Needs, said: str) -> None:
    verdicts = judge([image("a", size=GIGABYTE)], needs, Bounds(max_age=DAY, budget=0), NOW)
    assert (removed(verdicts), why(verdicts)) == ([], {"a": said})


def test_image_of_somebody_elses_profile_or_container_is_not_needed() -> None:
    needs = Needs(containers={"sha256:b": ("x",)}, profiles={"ds01/image:b": ("cpu",)})
    assert removed(judge([image("a")], needs, MONTH, NOW)) == ["a"]


def test_image_that_a_start_will_use_stays_while_its_user_waits() -> None:
    bounds = Bounds(max_age=timedelta(0), grace=3 * HOUR)
    used = image("a", used={"ada": 2 * HOUR}, built=DAY)
    waits = Needs(starting=frozenset({"ada", "bob"}))
    assert find_user(used, waits, bounds, NOW) == "needed by a start of ada"
    assert find_user(used, Needs(starting=frozenset({"bob"})), bounds, NOW) == ""
    assert find_user(image("a", used={"ada": 4 * HOUR}), waits, bounds, NOW) == ""


@pytest.mark.parametrize(
    "fresh",
    [
        image("a", built=30 * HOUR, used={"ada": HOUR}),
        image("a", built=HOUR),
        # BuildKit gives an image whose steps were all there before the age of these.
        image("a", built=90 * DAY, tagged=HOUR),
        image("a", built=-HOUR),  # by a clock that is ahead
    ],
)
def test_image_that_was_touched_just_now_stays(fresh: StoredImage) -> None:
    bounds = Bounds(max_age=timedelta(0), budget=0, grace=HOUR)
    assert why(judge([fresh], Needs(), bounds, NOW)) == {"a": "used or built only just now"}
    assert removed(judge([fresh], Needs(), bounds, NOW + 3 * HOUR)) == ["a"]


def test_image_that_has_another_name_stays_since_nothing_would_come_free() -> None:
    verdicts = judge([image("a", other_names=("mine:1",))], Needs(), Bounds(max_age=DAY, budget=0), NOW)
    assert (removed(verdicts), why(verdicts)) == ([], {"a": "also called mine:1"})


# age


def test_nothing_goes_where_nothing_is_bound() -> None:
    verdicts = judge([image("a", size=GIGABYTE), image("b", used={"ada": 3 * DAY})], Needs(), Bounds(), NOW)
    assert removed(verdicts) == []
    assert why(verdicts) == {"a": "built 100 days ago and not used since", "b": "used 3 days ago"}


def test_what_nobody_used_for_too_long_goes_the_oldest_first() -> None:
    images = [
        image("young", used={"ada": 29 * DAY}),
        image("old", used={"ada": 31 * DAY, "bob": 60 * DAY}),
        image("older", used={"bob": 60 * DAY}),
        image("never", built=29 * DAY),
        image("edge", used={"ada": 30 * DAY}),
    ]
    verdicts = judge(images, Needs(), MONTH, NOW)
    assert removed(verdicts) == ["older", "old"]
    assert why(verdicts)["older"] == "used 60 days ago"
    assert why(verdicts)["never"] == "built 29 days ago and not used since"


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (2 * HOUR, "used 2 hours ago"),
        (47 * HOUR, "used 47 hours ago"),
        (48 * HOUR, "used 2 days ago"),
        (timedelta(minutes=59), "used less than an hour ago"),
        (timedelta(minutes=60), "used 1 hour ago"),
    ],
)
def test_last_use_is_said_as_a_person_says_it(ago: timedelta, said: str) -> None:
    bounds = Bounds(grace=timedelta(0))
    assert why(judge([image("a", used={"ada": ago})], Needs(), bounds, NOW)) == {"a": said}


# budget


def test_least_recently_used_goes_until_the_rest_fits() -> None:
    images = [
        image("c", used={"ada": 3 * DAY}, size=4 * GIGABYTE),
        image("a", used={"ada": 9 * DAY}, size=4 * GIGABYTE),
        image("b", used={"ada": 5 * DAY}, size=4 * GIGABYTE),
    ]
    verdicts = judge(images, Needs(), Bounds(budget=8 * GIGABYTE), NOW)
    assert removed(verdicts) == ["a"]
    assert why(verdicts)["a"] == "used 9 days ago, and all together are over the budget"
    assert removed(judge(images, Needs(), Bounds(budget=8 * GIGABYTE - 1), NOW)) == ["a", "b"]
    assert removed(judge(images, Needs(), Bounds(budget=12 * GIGABYTE), NOW)) == []


def test_shared_layers_do_not_count() -> None:
    images = [
        image("a", used={"ada": 9 * DAY}, size=20 * GIGABYTE, shared=18 * GIGABYTE),
        image("b", used={"ada": 5 * DAY}, size=20 * GIGABYTE, shared=17 * GIGABYTE),
    ]
    assert removed(judge(images, Needs(), Bounds(budget=5 * GIGABYTE), NOW)) == []
    assert removed(judge(images, Needs(), Bounds(budget=5 * GIGABYTE - 1), NOW)) == ["a"]


def test_what_must_stay_counts_and_what_goes_by_age_does_not() -> None:
    images = [
        image("needed", size=5 * GIGABYTE),
        image("aged", size=5 * GIGABYTE),
        image("spare", used={"ada": DAY}, size=GIGABYTE),
    ]
    needs = Needs(profiles={"ds01/image:needed": ("cpu",)})
    within = Bounds(max_age=30 * DAY, budget=6 * GIGABYTE)
    assert removed(judge(images, needs, within, NOW)) == ["aged"]
    over = Bounds(max_age=30 * DAY, budget=6 * GIGABYTE - 1)
    assert removed(judge(images, needs, over, NOW)) == ["aged", "spare"]


# always

AGES = st.timedeltas(min_value=timedelta(0), max_value=60 * DAY)


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[StoredImage], Needs, Bounds]:
    images = [
        image(
            str(place),
            built=draw(AGES),
            tagged=draw(AGES),
            used=draw(st.dictionaries(st.sampled_from(["ada", "bob"]), AGES)),
            size=draw(st.integers(5, 20)),
            shared=draw(st.integers(0, 5)),
            other_names=draw(st.sampled_from([(), (), (), ("mine:1",)])),
        )
        for place in range(draw(st.integers(0, 8)))
    ]
    some = st.sets(st.sampled_from(images)) if images else st.just(set[StoredImage]())
    needs = Needs(
        containers={one.id: ("x",) for one in draw(some)},
        profiles={one.names[0]: ("cpu",) for one in draw(some)},
        starting=frozenset(draw(st.sets(st.sampled_from(["ada", "bob"])))),
    )
    bounds = Bounds(
        max_age=draw(st.none() | AGES), budget=draw(st.none() | st.integers(0, 100)), grace=draw(AGES)
    )
    return images, needs, bounds


@given(stores())
def test_each_image_gets_one_verdict_and_none_that_is_needed_goes(
    store: tuple[list[StoredImage], Needs, Bounds],
) -> None:
    images, needs, bounds = store
    verdicts = judge(images, needs, bounds, NOW)
    assert sorted(one.image.id for one in verdicts) == sorted(one.id for one in images)
    for one in verdicts:
        seen = one.image
        if not one.is_kept:
            assert seen.id not in needs.containers
            assert not set(seen.names) & set(needs.profiles)
            assert NOW - seen.touched_at > bounds.grace


@given(stores())
def test_what_stays_is_within_the_bounds_or_could_not_go(
    store: tuple[list[StoredImage], Needs, Bounds],
) -> None:
    images, needs, bounds = store
    verdicts = judge(images, needs, bounds, NOW)
    stays = [one.image for one in verdicts if one.is_kept]
    # Whatever goes without any bound of space, could go.
    free = Bounds(max_age=timedelta(0), budget=0, grace=bounds.grace)
    could_go = set(removed(judge(stays, needs, free, NOW)))
    spare = [one for one in stays if one.id.removeprefix("sha256:") in could_go]
    if bounds.max_age is not None:
        assert all(NOW - one.touched_at <= bounds.max_age for one in spare)
    if bounds.budget is not None:
        assert not spare or sum(one.own_size for one in stays) <= bounds.budget


@given(stores())
def test_none_goes_for_the_budget_while_one_that_may_go_was_used_longer_ago(
    store: tuple[list[StoredImage], Needs, Bounds],
) -> None:
    images, needs, bounds = store
    verdicts = judge(images, needs, bounds, NOW)
    gone = [one.image for one in verdicts if not one.is_kept]
    spare = judge(
        [one.image for one in verdicts if one.is_kept], needs, Bounds(budget=0, grace=bounds.grace), NOW
    )
    last = max((one.touched_at for one in gone), default=None)
    assert all(last is None or one.image.touched_at >= last for one in spare if not one.is_kept)
