"""No interleaving of what people, processes and hardware do breaks what leases promise.

`make soak` runs the same for a hundred thousand steps.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ds01_spawner import reconcile
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.model import Container, Lease
from ds01_spawner.reconcile import Action, Repair

from . import deeds, ours, soak
from .hardware import SMALL
from .hub import Order
from .machine import Interleavings
from .world import SERVERS

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
UNTIL_IT_FAILS = settings(STEADY, phases=(Phase.generate,), max_examples=200)


def test_leases_survive_every_interleaving() -> None:
    run_state_machine_as_test(Interleavings, settings=STEADY)


# That the checks are able to fail ------------------------------------------------------------------


RECONCILE = ours.Reconcile(in_hub=False)


def play(*played: deeds.Deed) -> Interleavings:
    """Start a server and then do what is given, undisturbed."""
    machine = Interleavings()
    machine.begin(shared_containers_block=False)
    for deed in (ours.StartServer(SERVERS[0], Order(profile=SMALL, count=1)), *played):
        machine.take(step=(deed, ()))
    return machine


class TestLeaseOfARemovedContainerStays:
    def test_it_is_found_by_reconciling(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find_end = reconcile._find_end

        def overlook(*args: Any) -> str:
            why = find_end(*args)
            return "" if why == "its container is gone" else why

        monkeypatch.setattr(reconcile, "_find_end", overlook)
        machine = play(deeds.Remove(0))
        with pytest.raises(AssertionError, match=re.escape("(active): its container is gone")):
            machine.take(step=(RECONCILE, ()))
        machine.world.close()


class TestLabelsAloneMakeAContainerOurs:
    def test_it_is_found_when_a_copy_is_touched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def is_ours(container: Container, lease: Lease) -> bool:
            return container.nonce == lease.nonce

        monkeypatch.setattr(reconcile, "is_ours", is_ours)
        machine = play(deeds.Run(None, None, 0))
        with pytest.raises(AssertionError, match="which is not ours"):
            machine.take(step=(ours.StopServer(SERVERS[0]), ()))
        machine.world.close()


class TestEndIsNotRecordedFirst:
    def test_it_is_found_when_the_container_is_touched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Ledger, "end", lambda *_args, **_values: True)
        machine = play(deeds.Stop(0), RECONCILE, deeds.MoveClock(60))
        with pytest.raises(AssertionError, match="which nobody ended"):
            machine.take(step=(RECONCILE, ()))
        machine.world.close()


class TestSlotIsFreeBeforeItsContainerIsGone:
    def test_it_is_found_by_chance(self, monkeypatch: pytest.MonkeyPatch) -> None:
        end = reconcile._end

        def release_first(*args: Any) -> tuple[Repair, ...]:
            return tuple(sorted(end(*args), key=lambda step: step.action is Action.REMOVE))

        monkeypatch.setattr(reconcile, "_end", release_first)
        with pytest.raises(AssertionError, match="release of"):
            run_state_machine_as_test(Interleavings, settings=UNTIL_IT_FAILS)


def test_soak_counts_its_steps_and_writes_its_section_alone(tmp_path: Path) -> None:
    result = soak.run(steps=40, seed=1, examples=2, length=20)
    assert sum(result.ran.values()) >= 40
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{soak.BEGIN}\nold\n{soak.END}\nafter\n")
    soak.write(result, document)
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert f"{sum(result.ran.values()):,} steps" in text
