"""Whatever is killed at whatever step: soon after nothing is leaked or doubled, and she can go on."""

from __future__ import annotations

import pytest

from ..conftest import signed_in
from ..docker_link import DockerLink
from ..hub import Hub
from ..student import Student
from .aftermath import ENDED, READY, wait_until_clean
from .bench import Bench
from .cells import CELLS, Cell
from .steps import SMALL, container_id
from .table import Result, Results
from .victims import VICTIMS

# The whole matrix takes half an hour; each kind of victim at a step or two is part of every run.
SAMPLE = (
    "hub-leasing",
    "hub-created",
    "hub-removing",
    "service-creating",
    "service-serving",
    "container-serving",
    "dockerd-starting",
    "dockerd-stopping",
)


def mark(cell: Cell) -> pytest.MarkDecorator:
    return pytest.mark.slow if cell.name in SAMPLE else pytest.mark.long


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name, marks=mark(cell)) for cell in CELLS])
def test_after_a_kill_nothing_is_left_or_doubled_and_she_can_start(
    cell: Cell, bench: Bench, hub: Hub, link: DockerLink, results: Results
) -> None:
    results[cell.name] = None
    with signed_in(hub) as student:
        if cell.step.begins_served:
            student.start(dict(SMALL))
        with cell.step.meet(hub, link, student) as obstacle:
            obstacle.reach()
            before = find_container(hub, student)
            victim = VICTIMS[cell.victim](bench, student)
            victim.kill()
            try:
                if obstacle.blocks_all:
                    obstacle.go_on()
            finally:
                victim.bring_back()
            obstacle.go_on()
            seconds, outcome = wait_until_clean(bench, student)
        if cell.is_harmless:
            assert (outcome, find_container(hub, student)) == (READY, before)
        check_she_can_go_on(bench, student, outcome)
    results[cell.name] = Result(seconds=seconds, outcome=outcome)


def check_she_can_go_on(bench: Bench, student: Student, outcome: str) -> None:
    """Fail unless she gets a slice, can stop, and nothing is left then."""
    hub = bench.hub
    if outcome == ENDED:
        student.start(dict(SMALL))
        bench.is_warm = True
    (lease,) = hub.leases(student.person)
    assert len(lease.slots) == 1
    assert student.page(f"/user/{student.name}/api").status_code == 200
    student.stop()
    _, outcome = wait_until_clean(bench, student)
    assert outcome == ENDED
    assert hub.traces(student.person) == {}


def find_container(hub: Hub, student: Student) -> str:
    return container_id(hub, student) if hub.containers(student.person) else ""
