"""What is remembered of a lease from check to check: nothing of it is lost, and it ends with the lease."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.errors import LimitExceeded, RequestRefused
from ds01_spawner.model import Cause, Extension, Lease, Notice, TimeLeft, Watch

from .ledgers import LATER, NOW, draft, take

pytest_plugins = ("tests.adapters.postgres",)

HOUR = timedelta(hours=1)
NOTICE = Notice(cause=Cause.IDLE, at=NOW, ends_at=LATER, is_sooner=True)
EXTENSION = Extension(at=LATER, until=NOW + 3 * HOUR, who="ada")
WATCH = Watch(
    looked_at=LATER,
    watched_since=NOW,
    checked_at=LATER,
    cpu_seconds=12.5,
    network_bytes=2**40,
    idle_since=NOW,
    idle_checks=3,
    notices=(NOTICE, Notice(cause=Cause.RUN_TIME, at=NOW, ends_at=LATER, percent=95)),
    extensions=(EXTENSION,),
    keep_alive=NOW,
    keep_alive_seen_at=LATER,
    paused_until=LATER,
)
LEFT = TimeLeft(run_until=LATER, idle_since=NOW, idle_until=LATER, warnings=(NOTICE,))


def lease_of(ledger: Ledger) -> Lease:
    return ledger.reserve(replace(draft(), runs_until=NOW + 2 * HOUR), take())


def test_what_is_remembered_comes_back_as_it_was(ledger: Ledger) -> None:
    lease, seen = lease_of(ledger), []

    def look(now: Lease, watch: Watch) -> tuple[Watch, TimeLeft]:
        seen.append((now, watch))
        return WATCH, LEFT

    assert ledger.watch(lease.id, look) == (WATCH, LEFT)
    assert ledger.watch(lease.id, look) == (WATCH, LEFT)
    assert seen == [(lease, Watch()), (lease, WATCH)]
    assert ledger.watches() == {lease.id: (WATCH, LEFT)}


def test_a_lease_that_has_ended_is_watched_no_more(ledger: Ledger) -> None:
    lease = lease_of(ledger)
    ledger.watch(lease.id, lambda _lease, _watch: (WATCH, LEFT))
    ledger.release(lease.id, LATER, "stopped")
    assert ledger.watch(lease.id, lambda _lease, _watch: pytest.fail("it is looked at")) is None
    assert ledger.watches() == {}
    ledger.prune(LATER + HOUR)
    assert ledger.lease(lease.id) is None


def test_an_extension_moves_the_end_is_remembered_and_stands_in_the_history(ledger: Ledger) -> None:
    lease = lease_of(ledger)
    shown = replace(LEFT, warnings=WATCH.notices)
    ledger.watch(lease.id, lambda _lease, _watch: (replace(WATCH, extensions=()), shown))
    assert ledger.extend(lease.id, lambda _lease, _watch: EXTENSION) == EXTENSION
    extended = ledger.lease(lease.id)
    assert extended is not None
    assert extended.runs_until == EXTENSION.until
    # That of idleness holds on, that of the run time was about the old end.
    assert ledger.watches()[lease.id] == (WATCH, replace(LEFT, run_until=EXTENSION.until))
    assert [(one.kind, one.who) for one in ledger.history()][-1] == ("extended", "ada")


def test_an_extension_that_is_refused_changes_nothing(ledger: Ledger) -> None:
    def refuse(_lease: Lease, _watch: Watch) -> Extension:
        raise LimitExceeded("No more.")

    lease = lease_of(ledger)
    with pytest.raises(LimitExceeded):
        ledger.extend(lease.id, refuse)
    assert ledger.lease(lease.id) == lease
    assert ledger.watches() == {}


def test_a_lease_that_ends_is_not_extended(ledger: Ledger) -> None:
    lease = lease_of(ledger)
    ledger.end(lease.id, LATER, "it was stopped")
    with pytest.raises(RequestRefused, match="has ended"):
        ledger.extend(lease.id, lambda _lease, _watch: EXTENSION)
