"""What somebody reads who waits, and how many may."""

from __future__ import annotations

from datetime import datetime

import pytest

from ds01_spawner.core.leases import Place
from ds01_spawner.spawner.waiting import describe, most_waiting

WHY = "You asked for 1 × 1g.10gb: this machine has 7, 0 free now."


def test_place_is_told_with_the_reason() -> None:
    told = describe(Place(position=3, length=5, why=WHY))
    assert told == (f"You wait at place 3 of 5 in the queue. Nobody can say yet when your turn comes. {WHY}")


def test_expected_time_is_told_in_the_time_of_the_machine() -> None:
    at = datetime(2026, 3, 1, 14, 30).astimezone()
    told = describe(Place(position=1, length=2, why=WHY, expected_at=at))
    assert told == (f"You are next in the queue of 2. Your turn should come by 14:30 on 01 March. {WHY}")


@pytest.mark.parametrize(
    ("queue_limit", "concurrent_spawn_limit", "most"),
    [(50, 100, 50), (80, 100, 50), (20, 100, 20), (50, 0, 50), (0, 100, 0), (50, 1, 0)],
)
def test_at_most_half_of_the_spawns_that_the_hub_allows_at_once_may_wait(
    queue_limit: int, concurrent_spawn_limit: int, most: int
) -> None:
    assert most_waiting(queue_limit, concurrent_spawn_limit) == most
