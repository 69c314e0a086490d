"""What JupyterLab tells of its server: what is written into containers, and when it is written again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ds01_spawner.core.servers import ServerView
from ds01_spawner.errors import EngineUnavailable
from ds01_spawner.model import Cause, LeaseState, Notice, TimeLeft
from ds01_spawner.service.sessions import SessionFiles, describe_session
from ds01_spawner.templating import SESSION_FILE
from tests.hub.waiting import wait_for
from tests.unit.pools import HOUR, MINUTE, NOW, mig
from tests.unit.servers import SLICE, lease_of

LATER = NOW + 4 * HOUR


def view_of(left: TimeLeft, *warnings: str, container_id: str = "c", state: str = "active") -> ServerView:
    lease = replace(lease_of(SLICE), container_id=container_id, state=LeaseState(state))
    return ServerView(
        lease=lease, name="jupyter", slots=(mig("0:1"),), time_left=left, warnings=warnings, may_extend=True
    )


def idle(since: datetime, until: datetime, *warnings: Notice) -> TimeLeft:
    return TimeLeft(run_until=LATER, idle_since=since, idle_until=until, warnings=warnings)


# what is told


def test_it_tells_slice_end_and_warnings_as_the_service_does() -> None:
    notice = Notice(cause=Cause.RUN_TIME, at=NOW, ends_at=LATER, percent=80)
    told = describe_session(view_of(TimeLeft(run_until=LATER, warnings=(notice,)), "It ends."), NOW)
    assert told == {
        "name": "jupyter",
        "server": "",
        "gpu": "1g.10gb",
        "slots": ["0:1"],
        "run_until": LATER.isoformat(timespec="seconds"),
        "idle_since": None,
        "idle_until": None,
        "warnings": [
            {
                "cause": "run-time",
                "at": NOW.isoformat(timespec="seconds"),
                "ends_at": LATER.isoformat(timespec="seconds"),
                "message": "It ends.",
            }
        ],
        "may_extend": True,
    }


def test_gpus_are_named_as_people_name_them() -> None:
    view = view_of(TimeLeft())
    assert describe_session(replace(view, slots=()), NOW)["gpu"] == "no GPU"
    two = replace(view, slots=(mig("0:1"), mig("0:2")))
    assert describe_session(two, NOW)["gpu"] == "2 × 1g.10gb"


def test_a_short_idle_time_is_not_told_since_it_would_change_each_minute() -> None:
    until = NOW + 2 * HOUR
    assert describe_session(view_of(idle(NOW, until)), NOW + 29 * MINUTE)["idle_until"] is None
    told = describe_session(view_of(idle(NOW, until)), NOW + 30 * MINUTE)
    assert told["idle_since"] == NOW.isoformat(timespec="seconds")
    assert told["idle_until"] == until.isoformat(timespec="seconds")


def test_an_idle_time_that_was_warned_of_is_told_however_short() -> None:
    until = NOW + 2 * HOUR
    notice = Notice(cause=Cause.IDLE, at=NOW, ends_at=until)
    told = describe_session(view_of(idle(NOW, until, notice), "Idle."), NOW)
    assert told["idle_until"] == until.isoformat(timespec="seconds")


def test_who_is_not_stopped_for_idleness_reads_nothing_of_it() -> None:
    told = describe_session(view_of(TimeLeft(idle_since=NOW)), LATER)
    assert (told["idle_since"], told["idle_until"]) == (None, None)


# when it is written


@dataclass(kw_only=True)
class Listed:
    """The servers that there are."""

    views: tuple[ServerView, ...] = ()

    def list(self) -> tuple[ServerView, ...]:
        return self.views


@dataclass(kw_only=True)
class Pages:
    """What was written into containers; some cannot be written to, and some let who writes wait."""

    written: list[tuple[str, str]] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    slow: dict[str, threading.Event] = field(default_factory=dict)
    refused: int = 0

    def write_as_user(self, container_id: str, path: str, text: str) -> None:
        assert path == SESSION_FILE
        if container_id in self.slow:
            assert self.slow[container_id].wait(10)
        if container_id in self.closed:
            self.refused += 1
            raise EngineUnavailable("It does not answer.")
        self.written.append((container_id, json.loads(text)["run_until"]))


def ends(*pairs: tuple[str, datetime]) -> tuple[ServerView, ...]:
    return tuple(view_of(TimeLeft(run_until=end), container_id=name) for name, end in pairs)


def settle(files: SessionFiles) -> None:
    """Wait for all that was begun."""
    wait_for(lambda: not files._under_way, "all is written", seconds=10)


def look(files: SessionFiles, listed: Listed, views: Iterable[ServerView]) -> None:
    listed.views = tuple(views)
    files.write(NOW)
    settle(files)


def show(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def test_it_is_written_once_for_each_change() -> None:
    listed, pages = Listed(), Pages()
    files = SessionFiles(listed, pages)
    for end in (LATER, LATER, LATER + HOUR, LATER + HOUR, LATER):
        look(files, listed, ends(("a", end)))
    assert pages.written == [("a", show(LATER)), ("a", show(LATER + HOUR)), ("a", show(LATER))]


def test_a_server_that_starts_or_is_held_is_not_written_to() -> None:
    listed, pages = Listed(), Pages()
    states = ("pending", "held")
    look(SessionFiles(listed, pages), listed, (view_of(TimeLeft(), state=state) for state in states))
    assert pages.written == []


def test_a_server_that_was_resumed_is_written_anew() -> None:
    listed, pages = Listed(), Pages()
    files = SessionFiles(listed, pages)
    look(files, listed, ends(("a", LATER)))
    look(files, listed, ())
    look(files, listed, ends(("a", LATER)))
    assert pages.written == [("a", show(LATER))] * 2


def test_one_that_cannot_be_written_to_is_tried_again_and_disturbs_no_other() -> None:
    listed, pages = Listed(), Pages(closed={"a"})
    files = SessionFiles(listed, pages)
    both = ends(("a", LATER), ("b", LATER))
    look(files, listed, both)
    look(files, listed, both)
    assert (pages.written, pages.refused) == ([("b", show(LATER))], 2)
    pages.closed.clear()
    look(files, listed, both)
    assert pages.written == [("b", show(LATER)), ("a", show(LATER))]


def test_one_that_hangs_is_asked_once_and_keeps_nobody_waiting() -> None:
    listed, pages = Listed(), Pages(slow={"a": threading.Event()})
    files = SessionFiles(listed, pages)
    listed.views = ends(("a", LATER), ("b", LATER))
    for _ in range(3):
        files.write(NOW)
    wait_for(lambda: pages.written == [("b", show(LATER))], "the other one is written", seconds=10)
    pages.slow["a"].set()
    settle(files)
    assert sorted(pages.written) == [("a", show(LATER)), ("b", show(LATER))]


def test_what_changed_while_it_was_written_is_written_at_the_next_look() -> None:
    listed, pages = Listed(), Pages(slow={"a": threading.Event()})
    files = SessionFiles(listed, pages)
    listed.views = ends(("a", LATER))
    files.write(NOW)
    listed.views = ends(("a", LATER + timedelta(hours=1)))
    files.write(NOW)
    pages.slow["a"].set()
    settle(files)
    files.write(NOW)
    settle(files)
    assert pages.written == [("a", show(LATER)), ("a", show(LATER + HOUR))]
