"""Two simulated days of the lab that `docs/lifecycle.md` tells of, on a small machine: nobody is wronged."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree

import pytest

from bench.outcome import Outcome
from bench.simulated_lab import LONGEST_WAIT, VARIANTS, Lab, Variant
from bench.students import DAY, SLICES, write_diary
from bench.week import draw_outcomes, read_limits
from ds01_spawner.model import Cause, Step

NOTHING, _, POLICY, _ = VARIANTS
GPUS, DAYS, SEED = 3, 2, 7


def live(variant: Variant) -> Outcome:
    return Lab(GPUS, read_limits(), variant).run(write_diary(DAYS, SEED), DAYS)


@pytest.fixture(scope="module")
def outcomes() -> dict[Variant, Outcome]:
    return {variant: live(variant) for variant in (NOTHING, POLICY)}


def test_slots_are_given_and_used_within_the_machine(outcomes: dict[Variant, Outcome]) -> None:
    for one in outcomes.values():
        assert len(one.leased) == len(one.used) == DAYS * DAY
        assert all(
            0 <= used <= leased <= GPUS * SLICES for used, leased in zip(one.used, one.leased, strict=True)
        )
        assert max(one.leased) == GPUS * SLICES


def test_nobody_who_works_is_stopped_for_idleness(outcomes: dict[Variant, Outcome]) -> None:
    stops = [decision.cause for _, _, decision in outcomes[POLICY].decisions if decision.step is Step.STOP]
    assert Cause.IDLE in stops
    assert outcomes[POLICY].stopped_at_work == 0


def test_nobody_is_stopped_who_was_not_warned_in_time(outcomes: dict[Variant, Outcome]) -> None:
    lead = read_limits()["student"].policy.warning_lead / timedelta(minutes=1)
    warned: dict[tuple[str, Cause], int] = {}
    for minute, server, decision in outcomes[POLICY].decisions:
        if decision.step is Step.WARN:
            warned[server, decision.cause] = minute
        else:
            assert minute - warned[server, decision.cause] >= lead


def test_nothing_is_stopped_without_a_policy(outcomes: dict[Variant, Outcome]) -> None:
    assert outcomes[NOTHING].decisions == []


def test_nobody_waits_for_longer_than_one_may_and_none_is_starved(outcomes: dict[Variant, Outcome]) -> None:
    for one in outcomes.values():
        assert all(start.waited <= LONGEST_WAIT for start in one.starts)
        assert all(start.is_served or start.waited == LONGEST_WAIT for start in one.starts)
    assert outcomes[POLICY].never_served() == []


def test_policy_leaves_less_than_half_as_much_idle(outcomes: dict[Variant, Outcome]) -> None:
    assert outcomes[POLICY].idle_gpu_hours() < outcomes[NOTHING].idle_gpu_hours() / 2


def test_same_seed_gives_the_same_days(outcomes: dict[Variant, Outcome]) -> None:
    assert live(POLICY) == outcomes[POLICY]


def test_drawing_shows_a_row_for_each_variant(outcomes: dict[Variant, Outcome]) -> None:
    drawing = ElementTree.fromstring(draw_outcomes(outcomes))
    words = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word in {variant.name for variant in VARIANTS}] == [
        NOTHING.name,
        POLICY.name,
    ]
