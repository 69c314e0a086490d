"""Builds under way: one per content, so many at once, and what those who wait are told."""

from __future__ import annotations

from threading import Event

from ds01_spawner.core.builds import LOG_LINES, Build, BuildQueue
from ds01_spawner.model import BuiltImage

SECONDS = 30
IMAGE = BuiltImage(tag="ds01/image:some", id="sha256:0")
NEXT = "Other images are being built now; yours is the next."
THIRD = "Other images are being built now; yours is number 2 of those that wait."


class Work:
    """A build that goes on until it is let through."""

    def __init__(self) -> None:
        self.runs = 0
        self.has_begun = Event()
        self.may_end = Event()

    def __call__(self, build: Build) -> BuiltImage:
        self.runs += 1
        self.has_begun.set()
        assert self.may_end.wait(SECONDS)
        return IMAGE


def test_thirty_who_ask_for_one_content_wait_for_one_build() -> None:
    queue, work, heard = BuildQueue(2), Work(), list[str]()
    builds = [queue.join("content", work, heard.append) for _ in range(30)]
    work.may_end.set()
    assert {build.future.result(SECONDS).tag for build in builds} == {IMAGE.tag}
    assert work.runs == 1


def test_who_waits_for_others_is_told_her_place_and_when_it_changes() -> None:
    queue, first, second, third = BuildQueue(1), Work(), Work(), Work()
    heard = {"first": list[str](), "second": list[str](), "third": list[str]()}
    queue.join("first", first, heard["first"].append)
    assert first.has_begun.wait(SECONDS)
    queue.join("second", second, heard["second"].append)
    queue.join("third", third, heard["third"].append)
    assert heard == {"first": [], "second": [NEXT], "third": [THIRD]}
    first.may_end.set()
    assert second.has_begun.wait(SECONDS)
    assert heard["third"] == [THIRD, NEXT]
    second.may_end.set()
    third.may_end.set()


def test_who_gives_up_a_place_lets_the_others_move_up_and_is_never_built() -> None:
    queue, first, second, third = BuildQueue(1), Work(), Work(), Work()
    heard = list[str]()
    tell = list[str]().append
    queue.join("first", first, tell)
    assert first.has_begun.wait(SECONDS)
    given_up = queue.join("second", second, tell)
    last = queue.join("third", third, heard.append)
    queue.leave(given_up, tell)
    assert heard == [THIRD, NEXT]
    first.may_end.set()
    third.may_end.set()
    assert last.future.result(SECONDS) == IMAGE
    assert second.runs == 0


def test_one_who_gives_up_does_not_end_a_build_that_others_wait_for() -> None:
    queue, work = BuildQueue(1), Work()
    ada, bob = list[str]().append, list[str]().append
    build = queue.join("content", work, ada)
    assert queue.join("content", work, bob) is build
    queue.leave(build, ada)
    assert not build.given_up.is_set()
    queue.leave(build, bob)
    assert build.given_up.is_set()
    work.may_end.set()


def test_after_a_build_was_given_up_the_next_who_asks_gets_one_of_her_own() -> None:
    queue, given_up, wanted = BuildQueue(2), Work(), Work()
    tell = list[str]().append
    queue.leave(queue.join("content", given_up, tell), tell)
    wanted.may_end.set()
    assert queue.join("content", wanted, tell).future.result(SECONDS) == IMAGE
    given_up.may_end.set()


def test_the_log_of_a_build_is_told_to_all_who_wait_and_its_newest_lines_to_who_comes_late() -> None:
    queue, work = BuildQueue(1), Work()
    ada, bob = list[str](), list[str]()
    steps = list[str]().append
    build = queue.join("content", work, steps, ada.append)
    for number in range(LOG_LINES + 10):
        build.tell_log(f"line {number}")
    queue.join("content", work, steps, bob.append)
    build.tell_log("the last")
    assert ada == [*(f"line {number}" for number in range(LOG_LINES + 10)), "the last"]
    assert bob == [*(f"line {number}" for number in range(10, LOG_LINES + 10)), "the last"]
    work.may_end.set()


def test_who_left_hears_no_more_of_the_log() -> None:
    queue, work = BuildQueue(1), Work()
    ada, bob = list[str](), list[str]()
    tell, tell_bob = list[str]().append, list[str]().append
    build = queue.join("content", work, tell, ada.append)
    queue.join("content", work, tell_bob, bob.append)
    queue.leave(build, tell)
    build.tell_log("a line")
    assert (ada, bob) == ([], ["a line"])
    work.may_end.set()
