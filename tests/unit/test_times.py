"""An admin's times that do not fit together are told in the Hub's log."""

from __future__ import annotations

from ds01_spawner.site import DS01
from ds01_spawner.spawner.server import check_times, sum_of_times

SITE = DS01(build_timeout_seconds=60, queue_timeout_seconds=30, start_deadline_seconds=20)


def test_times_that_fit_are_passed_over() -> None:
    assert sum_of_times(SITE) == 110
    assert list(check_times(111, 19, SITE)) == []


def test_a_start_timeout_below_the_times_of_its_parts_is_told() -> None:
    (warning,) = check_times(110, 19, SITE)
    assert "start_timeout is 110" in warning
    assert "are 110 together" in warning


def test_a_lease_that_expires_before_jupyter_must_answer_is_told() -> None:
    (warning,) = check_times(111, 20, SITE)
    assert "start_deadline_seconds is 20" in warning
