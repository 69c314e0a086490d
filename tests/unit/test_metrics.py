"""What is counted and timed of what happens, and what is not."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from ds01_spawner.errors import LimitExceeded, NothingFree
from ds01_spawner.metrics import FAMILIES, SpawnStep, timed, timing_wait
from ds01_spawner.spawner.refusal import SpawnRefused


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def steps(step: str) -> float:
    return value("ds01_spawn_step_seconds_count", step=step)


def waits(outcome: str) -> float:
    return value("ds01_queue_wait_seconds_count", profile="1g.10gb", outcome=outcome)


@timed(SpawnStep.CREATE)
async def create(answer: object) -> object:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def test_a_step_that_went_well_is_timed_and_gives_what_it_gave() -> None:
    before = steps("create")
    assert asyncio.run(create("made")) == "made"
    assert steps("create") == before + 1


@pytest.mark.parametrize("end", [NothingFree("Nothing is free."), asyncio.CancelledError()])
def test_a_step_that_failed_or_was_cancelled_is_not_timed(end: BaseException) -> None:
    before = steps("create")
    with pytest.raises(type(end)):
        asyncio.run(create(end))
    assert steps("create") == before


def test_every_step_is_there_before_the_first_start() -> None:
    for step in SpawnStep:
        assert REGISTRY.get_sample_value("ds01_spawn_step_seconds_count", {"step": step.value}) is not None


def test_a_wait_that_is_served_and_one_that_is_given_up_are_told_apart() -> None:
    served, given_up = waits("served"), waits("given up")
    with timing_wait("1g.10gb"):
        pass
    assert (waits("served"), waits("given up")) == (served + 1, given_up)
    with pytest.raises(asyncio.CancelledError), timing_wait("1g.10gb"):
        raise asyncio.CancelledError
    assert (waits("served"), waits("given up")) == (served + 1, given_up + 1)


def test_a_refusal_is_counted_by_its_reason() -> None:
    before = value("ds01_refusals_total", asked="start", reason="limit")
    SpawnRefused(LimitExceeded("You hold 1 GPU slot; your limit is 1."))
    assert value("ds01_refusals_total", asked="start", reason="limit") == before + 1


def test_docs_service_md_has_each_metric_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "service.md").read_text()
    suffix = {"counter": "_total"}
    counted = {
        f"{family.name}{suffix.get(family.type, '')}"
        for family in REGISTRY.collect()
        if family.name.startswith("ds01_") and not family.name.endswith("_created")
    }
    listed = re.findall(r"^\| `(ds01_\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted({*counted, *(family.name for family in FAMILIES)})
    assert {name.removesuffix("_bucket") for name in re.findall(r"\bds01_\w+", page)} == set(listed)
