"""Waiting for a slot: the queue as students see it, on the real Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .conftest import OpenHub, signed_in
from .hub import Hub
from .student import Student
from .waiting import wait_for

LARGE = {"profile": "large"}  # there is one slot of its kind


@pytest.fixture(scope="module")
def queueing_hub(open_hub: OpenHub) -> Hub:
    """A Hub on which two may wait, and the third is refused."""
    return open_hub(settings={"DS01": {"queue_limit": 2}})


@pytest.fixture
def newcomers(queueing_hub: Hub) -> Iterator[Callable[[], Student]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(signed_in(queueing_hub))


def queue_of(hub: Hub) -> list[str]:
    with hub.ledger() as ledger:
        return [entry.wish.user for entry in ledger.queue()]


def ask_and_wait(hub: Hub, student: Student, options: dict[str, object] = LARGE) -> None:
    """Ask for a slot that is taken, until it is in the queue."""
    assert student.ask_start(options).status_code in (201, 202)
    wait_for(lambda: student.name in queue_of(hub), f"{student.name} waits")


def test_who_finds_nothing_free_waits_and_is_served_when_it_comes_free(
    queueing_hub: Hub, newcomers: Callable[[], Student]
) -> None:
    first, second = newcomers(), newcomers()
    first.start(LARGE)
    ask_and_wait(queueing_hub, second)
    second.wait_for_step("You are next in the queue.")
    first.stop()
    second.wait_ready()
    assert queue_of(queueing_hub) == []
    (lease,) = queueing_hub.leases(second.person)
    assert lease.slots == queueing_hub.lab.slots("2g.20gb")


def test_the_waiting_page_tells_the_place_and_the_expected_time(
    queueing_hub: Hub, newcomers: Callable[[], Student]
) -> None:
    first, second, third = newcomers(), newcomers(), newcomers()
    queueing_hub.lab.set_limits(first.person, max_runtime="2h")
    first.start(LARGE)
    ask_and_wait(queueing_hub, second)
    ask_and_wait(queueing_hub, third)
    second.wait_for_step("Your turn should come by")
    third.wait_for_step("You wait at place 2 of 2")
    # Whoever is served next has no end herself, so that nobody can tell third when.
    third.wait_for_step("Nobody can say yet when your turn comes.")
    second.stop()
    third.wait_for_step("You are next in the queue.")


def test_who_has_the_higher_priority_is_served_first(
    queueing_hub: Hub, newcomers: Callable[[], Student]
) -> None:
    first, early, important = newcomers(), newcomers(), newcomers()
    queueing_hub.lab.set_limits(important.person, priority=90, max_gpu_slots=1)
    first.start(LARGE)
    ask_and_wait(queueing_hub, early)
    ask_and_wait(queueing_hub, important)
    assert queue_of(queueing_hub) == [important.name, early.name]
    first.stop()
    important.wait_ready()
    assert queue_of(queueing_hub) == [early.name]


def test_a_spawn_that_is_cancelled_leaves_the_queue_at_once(
    queueing_hub: Hub, newcomers: Callable[[], Student]
) -> None:
    first, second = newcomers(), newcomers()
    first.start(LARGE)
    ask_and_wait(queueing_hub, second)
    assert second.ask_stop().status_code in (202, 204)
    wait_for(lambda: queue_of(queueing_hub) == [], "the queue is empty")
    second.wait_gone()
    assert queueing_hub.traces(second.person) == {}
    first.stop()


def test_a_full_queue_refuses_with_the_facts_and_others_start_as_ever(
    queueing_hub: Hub, newcomers: Callable[[], Student]
) -> None:
    first, second, third, fourth, without_gpu = (newcomers() for _ in range(5))
    first.start(LARGE)
    ask_and_wait(queueing_hub, second)
    ask_and_wait(queueing_hub, third)
    refused = fourth.read_refusal(fourth.ask_start(LARGE))
    assert "The queue is full" in refused
    assert "2g.20gb" in refused
    without_gpu.start({"profile": "cpu"})
    assert len(queue_of(queueing_hub)) == 2


def test_a_hub_that_was_killed_leaves_nobody_in_the_queue(
    queueing_hub: Hub, newcomers: Callable[[], Student]
) -> None:
    first, second = newcomers(), newcomers()
    first.start(LARGE)
    ask_and_wait(queueing_hub, second)
    queueing_hub.kill()
    assert queue_of(queueing_hub) == [second.name]
    queueing_hub.start()
    wait_for(lambda: queue_of(queueing_hub) == [], "the queue is empty")
    assert first.server()["ready"]


def test_a_wait_has_an_end(open_hub: OpenHub) -> None:
    hub = open_hub(settings={"DS01": {"queue_limit": 2, "queue_timeout_seconds": 2}})
    with signed_in(hub) as first, signed_in(hub) as second:
        first.start(LARGE)
        refused = second.read_refusal(second.ask_start(LARGE))
        assert "your start was given up" in refused
        second.wait_gone()
        assert hub.traces(second.person) == {}
        assert queue_of(hub) == []
