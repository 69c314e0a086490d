"""No interleaving of what people, processes and hardware do breaks what leases promise."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import Interleavings

STEADY = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=300,
    stateful_step_count=30,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_leases_survive_every_interleaving() -> None:
    run_state_machine_as_test(Interleavings, settings=STEADY)
