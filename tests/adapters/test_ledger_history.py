"""The history: what it tells, whom it is asked about, and that it does not grow for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger, store
from ds01_spawner.errors import LimitExceeded
from ds01_spawner.model import Event, Mark, MarkKind

from .ledgers import FULL, LATER, NOW, SECOND, SMALL, draft, refuse, take

pytest_plugins = ("tests.adapters.postgres",)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def live_through(ledger: Ledger, user: str, begin: datetime, end: datetime | None = None) -> int:
    """Make a lease without a slot that begins and, unless None is given, ends; returns its id."""
    lease = ledger.reserve(replace(draft(user), created_at=begin), take())
    ledger.activate(lease.id, "c1", begin)
    if end is not None:
        ledger.release(lease.id, end, "stopped")
    return lease.id


def told(ledger: Ledger, **which: object) -> list[tuple[str, str]]:
    return [(event.who, event.kind) for event in ledger.history(**which)]  # type: ignore[arg-type]


# What it tells


def test_an_event_tells_server_and_slots_of_its_lease_released_or_not(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, SECOND, FULL], NOW)
    lease = ledger.reserve(draft("ada", "thesis"), take(SECOND, SMALL))
    ledger.release(lease.id, LATER, "stopped in the Hub")
    first, last = ledger.history()
    assert first == Event(
        id=first.id,
        at=NOW,
        kind="pending",
        who="ada",
        why="",
        lease_id=lease.id,
        server="thesis",
        slots=("MIG-1", "MIG-0"),
    )
    assert last == replace(first, id=last.id, at=LATER, kind="released", why="stopped in the Hub")
    assert last.id > first.id


def test_an_event_without_a_lease_is_told_as_well(ledger: Ledger) -> None:
    with pytest.raises(LimitExceeded):
        ledger.reserve(draft("ada"), refuse)
    ledger.mark(Mark(slot="MIG-0", kind=MarkKind.DRAINED, why="maintenance", since=LATER, who="root"))
    refused, marked = ledger.history()
    assert (refused.kind, refused.who, refused.lease_id, refused.server, refused.slots) == (
        "refused",
        "ada",
        None,
        "",
        (),
    )
    assert (marked.at, marked.who) == (LATER, "root")


def test_an_empty_history_is_empty(ledger: Ledger) -> None:
    assert ledger.history() == ()


# Whom and what it is asked about


def test_the_history_is_of_one_user_since_a_time_or_of_one_kind(ledger: Ledger) -> None:
    live_through(ledger, "ada", NOW, LATER)
    live_through(ledger, "bob", LATER, LATER + MINUTE)
    assert told(ledger, user="bob") == [("bob", "pending"), ("bob", "activated"), ("bob", "released")]
    assert told(ledger, kind="released") == [("ada", "released"), ("bob", "released")]
    assert told(ledger, since=LATER) == [("ada", "released"), *told(ledger, user="bob")]
    assert told(ledger, user="ada", since=LATER, kind="released") == [("ada", "released")]
    assert told(ledger, user="cleo") == []
    assert told(ledger, since=LATER + DAY) == []


def test_of_a_long_history_the_newest_lines_are_told_the_oldest_of_them_first(ledger: Ledger) -> None:
    for user in ("ada", "bob", "cleo"):
        live_through(ledger, user, NOW)
    assert told(ledger, limit=3) == [("bob", "activated"), ("cleo", "pending"), ("cleo", "activated")]
    assert told(ledger, user="ada", limit=1) == [("ada", "activated")]


# That it does not grow for ever


def test_the_history_never_has_more_lines_than_it_may(
    ledger: Ledger, sql: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_EVENTS", 20)
    monkeypatch.setattr(store, "_EVENTS_BETWEEN_CUTS", 5)
    lease = ledger.reserve(draft("ada"), take())
    lengths = []
    for number in range(60):
        ledger.note(lease, "noted", f"line {number}", NOW)
        lengths.append(sql.scalar(sa.text("SELECT count(*) FROM lease_events")))
    assert max(lengths) <= 20
    assert min(lengths[20:]) >= 15
    assert ledger.history()[-1].why == "line 59"
    assert ledger.lease(lease.id) == lease


def test_old_events_and_leases_that_ended_long_ago_are_forgotten(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL, SECOND], NOW)
    old = ledger.reserve(replace(draft("ada"), created_at=NOW), take(SMALL))
    ledger.release(old.id, NOW + MINUTE, "stopped")
    with pytest.raises(LimitExceeded):
        ledger.reserve(draft("ada"), refuse)
    recent = live_through(ledger, "bob", NOW + DAY, NOW + 2 * DAY)
    assert ledger.prune(NOW + DAY) == 1
    assert ledger.lease(old.id) is None
    assert ledger.lease(recent) is not None
    assert told(ledger) == [("bob", "pending"), ("bob", "activated"), ("bob", "released")]
    assert sql.scalar(sa.text("SELECT count(*) FROM lease_slots")) == 0
    assert ledger.slots() == (SMALL, SECOND)


def test_a_lease_that_lives_is_kept_however_old_it_is(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    lease = ledger.reserve(draft("ada"), take(SMALL))
    held = ledger.hold(lease.id, None, NOW + 100 * DAY, "stopped over SSH")
    assert ledger.prune(NOW + 99 * DAY) == 0
    assert ledger.live_leases() == (held,)
    assert ledger.view("ada").taken == {"MIG-0"}
    assert told(ledger)[-1] == ("ada", "held")


def test_a_lease_that_ended_after_that_time_keeps_what_is_told_since(ledger: Ledger) -> None:
    lease = live_through(ledger, "ada", NOW, NOW + 2 * DAY)
    assert ledger.prune(NOW + DAY) == 0
    assert ledger.lease(lease) is not None
    assert told(ledger) == [("ada", "released")]


def test_what_was_noted_of_a_lease_after_its_end_goes_with_it(ledger: Ledger) -> None:
    lease = ledger.reserve(draft("ada"), take())
    ledger.release(lease.id, NOW, "stopped")
    ledger.note(lease, "stopped", "Your container was removed.", NOW + 2 * DAY)
    assert ledger.prune(NOW + DAY) == 1
    assert ledger.history() == ()


def test_forgetting_twice_forgets_nothing_more(ledger: Ledger) -> None:
    live_through(ledger, "ada", NOW, LATER)
    assert ledger.prune(NOW + DAY) == 1
    assert ledger.prune(NOW + DAY) == 0
    assert live_through(ledger, "ada", NOW + DAY)
