"""No interleaving of what people, processes and hardware do breaks what leases promise.

`make soak` runs the same for a hundred thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ds01_spawner import reconcile
from ds01_spawner.core import Leases
from ds01_spawner.model import Container, Lease
from ds01_spawner.reconcile import Action, Repair, Rules

from .machine import Interleavings

STEADY = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    stateful_step_count=25,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
# The first failure will do, however long it is.
UNTIL_IT_FAILS = settings(STEADY, phases=(Phase.generate,), max_examples=1000)


def test_leases_survive_every_interleaving() -> None:
    run_state_machine_as_test(Interleavings, settings=STEADY)


def find_failure() -> str:
    with pytest.raises(AssertionError) as failure:
        run_state_machine_as_test(Interleavings, settings=UNTIL_IT_FAILS)
    return str(failure.value)


class TestLeaseOfARemovedContainerStays:
    def test_it_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find_end = reconcile._find_end

        def overlook(*args: object) -> str:
            why = find_end(*args)
            return "" if why == "its container is gone" else why

        monkeypatch.setattr(reconcile, "_find_end", overlook)
        assert "its container is gone" in find_failure()


class TestLabelsAloneMakeAContainerOurs:
    def test_it_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def is_ours(container: Container, lease: Lease) -> bool:
            return container.nonce == lease.nonce

        monkeypatch.setattr(reconcile, "is_ours", is_ours)
        assert "not ours" in find_failure()


class TestSlotIsFreeBeforeItsContainerIsGone:
    def test_it_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        end = reconcile._end

        def release_first(*args: object) -> tuple[Repair, ...]:
            return tuple(sorted(end(*args), key=lambda step: step.action is Action.REMOVE))

        monkeypatch.setattr(reconcile, "_end", release_first)
        assert "release of" in find_failure()
