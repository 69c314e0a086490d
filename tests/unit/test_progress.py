"""The events of a waiting page: told from threads, in order, and never more log than is shown."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from ds01_spawner.metrics import SpawnStep
from ds01_spawner.spawner.progress import BUILD, LOG, LOG_LINES, Progress

Event = dict[str, object]


async def read_until(progress: Progress, message: str) -> list[Event]:
    """Return the events from the beginning to the first that says `message`."""
    heard = []
    async for event in progress.listen():
        heard.append(event)
        if event["message"] == message:
            return heard
    raise AssertionError("a listener is never through")


def test_events_say_which_step_they_belong_to_and_no_two_have_one_moment() -> None:
    async def tell() -> list[Event]:
        progress = Progress()
        progress.tell("Resolving.", step=SpawnStep.IMAGE)
        progress.tell("[1/2] Installing your packages", kind=BUILD)
        progress.tell("Reserving.", step=SpawnStep.QUEUE)
        return await read_until(progress, "Reserving.")

    events = asyncio.run(tell())
    assert [(event["step"], event["kind"]) for event in events] == [
        ("image", "step"),
        ("image", "build"),
        ("queue", "step"),
    ]
    assert all(str(before["at"]) < str(after["at"]) for before, after in pairwise(events))


def test_what_a_build_prints_stands_before_the_step_that_follows_it() -> None:
    async def tell() -> list[Event]:
        progress = Progress()
        progress.tell("Building.")
        for line in ("Collecting six", "Installing six"):
            progress.tell_log(line)
        progress.tell("Built.")
        return await read_until(progress, "Built.")

    assert [event["message"] for event in asyncio.run(tell())] == [
        "Building.",
        "Collecting six\nInstalling six",
        "Built.",
    ]


def test_who_connects_late_gets_the_newest_lines_of_the_log_only() -> None:
    async def tell() -> list[Event]:
        progress = Progress()
        for batch in range(10):
            for line in range(60):
                progress.tell_log(f"{batch}.{line}")
            progress.tell(f"Step {batch}")
        await read_until(progress, "Step 9")
        return await read_until(progress, "Step 9")

    events = asyncio.run(tell())
    logs = [str(event["message"]).splitlines() for event in events if event["kind"] == LOG]
    assert logs[-1][-1] == "9.59"
    assert LOG_LINES <= sum(map(len, logs)) < LOG_LINES + 60
    assert [event["message"] for event in events if event["kind"] != LOG] == [f"Step {n}" for n in range(10)]


def test_the_last_message_is_what_a_page_without_scripts_shows_and_no_line_of_the_log() -> None:
    async def tell() -> str:
        progress = Progress()
        assert progress.last_message == ""
        progress.tell("Building.")
        await read_until(progress, "Building.")
        progress.tell_log("Collecting six")
        await read_until(progress, "Collecting six")
        return progress.last_message

    assert asyncio.run(tell()) == "Building."
