"""How a lease ends, is taken up again, and is found by what a container says, on a real database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.errors import RequestRefused
from ds01_spawner.model import Lease, LeaseState

from .ledgers import LATER, NOW, SMALL, draft, events, kinds, take, take_free

pytest_plugins = ("tests.adapters.postgres",)


def start(ledger: Ledger, user: str = "ada", server: str = "") -> Lease:
    """Make a lease on the one slot, whose server runs."""
    ledger.write_slots([SMALL], NOW)
    lease = ledger.reserve(replace(draft(user, server), owner="hub 1"), take(SMALL))
    return ledger.activate(lease.id, f"container of {user}", NOW)


# Ending


@pytest.mark.parametrize(
    "come_back",
    [
        lambda ledger, lease: ledger.activate(lease.id, "c1", LATER),
        lambda ledger, lease: ledger.note_container(lease.id, "c1", LATER),
        lambda ledger, lease: ledger.hold(lease.id, LATER, LATER, "stopped"),
        lambda ledger, lease: ledger.resume(lease.id, "hub 2", LATER, LATER),
    ],
    ids=["activate", "note_container", "hold", "resume"],
)
def test_nothing_brings_back_a_lease_that_is_being_ended(
    ledger: Ledger, come_back: Callable[[Ledger, Lease], Lease]
) -> None:
    lease = start(ledger)
    ledger.end(lease.id, NOW, "stopped in the Hub", owner="hub 1")
    before = ledger.lease(lease.id)
    with pytest.raises(RequestRefused, match="Start the server again"):
        come_back(ledger, lease)
    assert ledger.lease(lease.id) == before


def test_a_lease_that_is_being_ended_keeps_its_slots_and_its_name(ledger: Ledger) -> None:
    lease = start(ledger)
    assert ledger.end(lease.id, LATER, "stopped in the Hub", owner="hub 2") is True
    ending = replace(lease, ending="stopped in the Hub", owner="hub 2")
    assert ledger.live_leases() == (ending,)
    assert ledger.view("ada").taken == {"MIG-0"}
    assert ledger.holdings("ada").slots == 1
    with pytest.raises(RequestRefused, match="already starting or running"):
        ledger.reserve(draft("ada"), take())
    assert ledger.release(lease.id, LATER, "its container is gone") is True
    assert ledger.view("ada").taken == frozenset()


def test_who_ends_a_lease_first_and_why_is_recorded_once(ledger: Ledger, sql: sa.Connection) -> None:
    lease = start(ledger)
    assert ledger.end(lease.id, NOW, "stopped in the Hub", owner="hub 1") is True
    assert ledger.end(lease.id, LATER, "its container is gone", owner="service 2") is True
    found = ledger.lease(lease.id)
    assert found is not None
    assert (found.owner, found.ending) == ("hub 1", "stopped in the Hub")
    assert events(sql)[2:] == [("ending", "ada", "stopped in the Hub")]


def test_the_end_is_left_to_whoever_began_it_until_a_time(ledger: Ledger) -> None:
    lease = start(ledger)
    ledger.end(lease.id, NOW, "stopped in the Hub", owner="hub 1", until=LATER)
    ledger.end(lease.id, NOW, "its container is gone", owner="service 2", until=NOW)
    found = ledger.lease(lease.id)
    assert found is not None
    assert (found.owner, found.deadline) == ("hub 1", LATER)


def test_the_end_is_told_in_the_word_that_was_given(ledger: Ledger, sql: sa.Connection) -> None:
    lease = start(ledger)
    ledger.end(lease.id, LATER, "its container is gone", kind="repaired")
    assert events(sql)[-1] == ("repaired", "ada", "its container is gone")


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger, lease: ledger.hold(lease.id, LATER, NOW, "stopped over SSH"),
        lambda ledger, lease: ledger.activate(lease.id, "another container", NOW),
        lambda ledger, lease: ledger.end(lease.id, NOW, "stopped in the Hub", owner="hub 1"),
        lambda ledger, lease: ledger.release(lease.id, NOW, "stopped"),
    ],
    ids=["held", "another container", "being ended", "released"],
)
def test_a_lease_that_is_no_more_as_it_was_seen_is_not_ended(
    ledger: Ledger, sql: sa.Connection, change: Callable[[Ledger, Lease], object]
) -> None:
    seen = start(ledger)
    change(ledger, seen)
    before, told = ledger.lease(seen.id), events(sql)
    assert ledger.end(seen.id, LATER, "its time is over", owner="service 2", seen=seen) is False
    assert (ledger.lease(seen.id), events(sql)) == (before, told)


def test_a_lease_that_is_as_it_was_seen_is_ended(ledger: Ledger) -> None:
    lease = start(ledger)
    seen = ledger.lease(lease.id)
    assert ledger.end(lease.id, LATER, "its time is over", owner="service 2", seen=seen) is True
    found = ledger.lease(lease.id)
    assert found is not None
    assert found.ending == "its time is over"


def test_what_has_ended_or_never_was_is_not_ended(ledger: Ledger, sql: sa.Connection) -> None:
    lease = start(ledger)
    ledger.release(lease.id, NOW, "stopped")
    assert ledger.end(lease.id, LATER, "stopped again") is False
    assert ledger.end(4711, LATER, "stopped") is False
    assert kinds(sql) == ["pending", "activated", "released"]


def test_release_records_when_it_was_and_only_the_first_one(ledger: Ledger, sql: sa.Connection) -> None:
    lease = start(ledger)
    column = sa.table("leases", sa.column("released_at", sa.DateTime(timezone=True))).c.released_at

    def released_at() -> datetime | None:
        return sql.scalar(sa.select(column))

    assert released_at() is None
    ledger.release(lease.id, LATER, "stopped")
    ledger.release(lease.id, NOW, "stopped")
    assert released_at() in (LATER, LATER.replace(tzinfo=None))


# Taking up again


def test_a_held_lease_is_kept_by_whoever_starts_its_container(ledger: Ledger, sql: sa.Connection) -> None:
    lease = start(ledger)
    held = ledger.hold(lease.id, NOW, NOW, "stopped over SSH")
    resumed = ledger.resume(lease.id, "hub 2", LATER, NOW)
    assert resumed == replace(held, owner="hub 2", deadline=LATER) == ledger.lease(lease.id)
    assert resumed.state is LeaseState.HELD
    assert ledger.activate(lease.id, "container of ada", LATER).deadline is None
    assert kinds(sql) == ["pending", "activated", "held", "resumed", "activated"]


def test_a_released_lease_is_not_taken_up_again(ledger: Ledger) -> None:
    lease = start(ledger)
    ledger.release(lease.id, NOW, "the hold is over")
    with pytest.raises(RequestRefused, match="Start the server again"):
        ledger.resume(lease.id, "hub 2", LATER, NOW)


def test_who_starts_a_server_and_until_when_it_may_run_come_back(ledger: Ledger) -> None:
    asked = replace(draft(), owner="hub 1", runs_until=LATER)
    lease = ledger.reserve(asked, take())
    assert (lease.owner, lease.runs_until) == ("hub 1", LATER)
    assert ledger.lease(lease.id) == lease


# Finding


def test_leases_are_found_by_what_containers_say_of_them_released_or_not(ledger: Ledger) -> None:
    ada = start(ledger, "ada")
    ledger.release(ada.id, NOW, "stopped")
    bob = ledger.reserve(draft("bob"), take_free)
    cleo = ledger.reserve(draft("cleo"), take())
    released = ledger.lease(ada.id)
    assert ledger.leases_of(["container of ada"], []) == (released,)
    assert ledger.leases_of([], [bob.nonce]) == (bob,)
    assert ledger.leases_of(["container of ada"], [ada.nonce, cleo.nonce]) == (released, cleo)
    assert ledger.leases_of([], []) == ()


def test_a_note_is_a_line_about_a_lease(ledger: Ledger, sql: sa.Connection) -> None:
    lease = start(ledger)
    ledger.note(lease, "stopped", "Your container was stopped.", LATER)
    assert events(sql)[-1] == ("stopped", "ada", "Your container was stopped.")
    assert ledger.lease(lease.id) == lease
