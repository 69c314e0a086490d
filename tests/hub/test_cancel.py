"""A start that is given up at any step leaves nothing, and the server can be started again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from .docker_link import DockerLink
from .hub import Hub
from .obstacles import (
    base_that_builds_slowly,
    gate_at,
    hanging_file,
    jupyter_that_starts_slowly,
    locked_ledger,
)
from .student import Student
from .waiting import wait_for


@dataclass(kw_only=True)
class Obstacle:
    """What a start waits for: when it is `reached`, how it goes on, and what to ask for to meet it."""

    wait_until_reached: Callable[[], None]
    go_on: Callable[[], None]
    options: dict[str, object] = field(default_factory=lambda: {"profile": "small"})


def hold_call(
    pattern: str, *, answer: bool = False
) -> Callable[..., contextlib.AbstractContextManager[Obstacle]]:
    """A call to Docker that does not come through, or whose answer does not come back."""

    @contextlib.contextmanager
    def meet(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
        filled = pattern.format(base=hub.lab.base.image, uid=student.person.uid)
        with link.hold(filled, answer=answer) as hold:
            yield Obstacle(wait_until_reached=hold.wait_until_reached, go_on=hold.release)

    return meet


@contextlib.contextmanager
def slow_catalog(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with hanging_file(hub.lab.catalog) as file:
        yield Obstacle(wait_until_reached=file.wait_until_reached, go_on=file.let_go)


@contextlib.contextmanager
def slow_build(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with gate_at(hub.gateway) as gate, base_that_builds_slowly(hub.docker, hub.lab.base.image, gate) as base:
        yield Obstacle(
            wait_until_reached=gate.wait_until_reached,
            go_on=lambda: gate.decide(open=False),
            options={"profile": "base", "base_image": base},
        )


@contextlib.contextmanager
def slow_ledger(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with locked_ledger(hub.ledger_file) as let_go:
        yield Obstacle(wait_until_reached=lambda: student.wait_for_step("Reserving"), go_on=let_go)


@contextlib.contextmanager
def slow_jupyter(hub: Hub, link: DockerLink, student: Student) -> Iterator[Obstacle]:
    with gate_at(hub.gateway) as gate, jupyter_that_starts_slowly(student.person, gate):
        yield Obstacle(wait_until_reached=gate.wait_until_reached, go_on=lambda: gate.decide(open=True))


STEPS = {
    "checking": slow_catalog,
    "resolving": hold_call(r"GET \S+/images/{base}/json"),
    "building": slow_build,
    "leasing": slow_ledger,
    "naming the image": hold_call(r"POST \S+/images/\S+/tag"),
    "creating, not begun": hold_call(r"POST \S+/containers/create\S+{uid}"),
    "creating, done unheard": hold_call(r"POST \S+/containers/create\S+{uid}", answer=True),
    "giving her identity": hold_call(r"PUT \S+/containers/\S+/archive"),
    "starting, not begun": hold_call(r"POST \S+/containers/\w+/start"),
    "starting, done unheard": hold_call(r"POST \S+/containers/\w+/start", answer=True),
    "waiting for Jupyter": slow_jupyter,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_is_cancelled_leaves_nothing_and_can_be_begun_again(
    linked_hub: Hub, link: DockerLink, linked_student: Student, step: str
) -> None:
    student = linked_student
    with STEPS[step](linked_hub, link, student) as obstacle:
        assert student.ask_start(obstacle.options).status_code in (201, 202)
        obstacle.wait_until_reached()
        cancelled = student.ask_stop()
        assert cancelled.status_code in (202, 204), cancelled.text
        obstacle.go_on()
        student.wait_gone()
        wait_for(lambda: not linked_hub.traces(student.person), "nothing is left")
    student.start({"profile": "small"})
    assert len(linked_hub.containers(student.person)) == 1
    student.stop()
    assert linked_hub.traces(student.person) == {}
