"""Readings that many share: fresh for each, and held up by none that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ds01_spawner.core.sharing import SharedReading

SECONDS = 30


class Source:
    """Is read one number after the other; `hold` lets a reading wait until it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self._lock = threading.Lock()
        self._held: dict[int, threading.Event] = {}
        self._reached: dict[int, threading.Event] = {}

    def hold(self, number: int) -> None:
        self._held[number], self._reached[number] = threading.Event(), threading.Event()

    def wait_until_reached(self, number: int) -> None:
        assert self._reached[number].wait(SECONDS)

    def let_go(self, number: int) -> None:
        self._held[number].set()

    def read(self) -> int:
        with self._lock:
            self.begun += 1
            number = self.begun
        if number in self._held:
            self._reached[number].set()
            assert self._held[number].wait(SECONDS)
        return number


@pytest.fixture
def source() -> Source:
    return Source()


def ask_at_once(pool: ThreadPoolExecutor, ask: Callable[[], int], number: int) -> list[Future[int]]:
    """Ask from that many threads, and return when each is about to."""
    ready = threading.Barrier(number + 1)

    def wait_and_ask() -> int:
        ready.wait(SECONDS)
        return ask()

    asked = [pool.submit(wait_and_ask) for _ in range(number)]
    ready.wait(SECONDS)
    return asked


def test_who_asks_alone_reads_each_time(source: Source) -> None:
    shared = SharedReading(source.read)
    assert [shared(), shared()] == [1, 2]


def test_nobody_gets_what_was_begun_before_she_asked(source: Source) -> None:
    shared = SharedReading(source.read)
    source.hold(1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared)
        source.wait_until_reached(1)
        second = pool.submit(shared)
        assert second.result(SECONDS) == 2
        source.let_go(1)
        assert first.result(SECONDS) == 1


def test_many_who_ask_at_once_share_few_readings(source: Source) -> None:
    shared = SharedReading(source.read)
    source.hold(1)
    with ThreadPoolExecutor(30) as pool:
        first = pool.submit(shared)
        source.wait_until_reached(1)
        asked = ask_at_once(pool, shared, 29)
        answers = {one.result(SECONDS) for one in asked}
        source.let_go(1)
        first.result(SECONDS)
    assert answers == set(range(2, source.begun + 1))
    assert len(answers) < 29


def test_a_reading_that_hangs_holds_up_nobody(source: Source) -> None:
    shared = SharedReading(source.read)
    for number in (1, 2):
        source.hold(number)
    with ThreadPoolExecutor(3) as pool:
        hanging = [pool.submit(shared)]
        source.wait_until_reached(1)
        hanging.append(pool.submit(shared))
        source.wait_until_reached(2)
        assert pool.submit(shared).result(SECONDS) == 3
        assert not any(one.done() for one in hanging)
        for number in (1, 2):
            source.let_go(number)


def test_an_error_reaches_all_who_share_it_and_nobody_after() -> None:
    answers = iter([RuntimeError("Docker is away"), "well"])

    def read() -> str:
        answer = next(answers)
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    shared = SharedReading(read)
    with pytest.raises(RuntimeError, match="away"):
        shared()
    assert shared() == "well"
