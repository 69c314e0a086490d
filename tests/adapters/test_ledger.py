"""The ledger on a real database; nothing here is faked."""

from __future__ import annotations

import multiprocessing
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from fractions import Fraction
from pathlib import Path

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import PoolView
from ds01_spawner.errors import LedgerUnavailable, LimitExceeded, NothingFree, RequestRefused
from ds01_spawner.model import NO_RESOURCES, Holdings, Lease, LeaseState, Resources, Slot

from .ledgers import (
    BERLIN,
    FULL,
    LATER,
    NOW,
    SECOND,
    SMALL,
    TAKES,
    draft,
    events,
    kinds,
    refuse,
    take,
    take_free,
)

pytest_plugins = ("tests.adapters.postgres",)


# Slots


def test_slots_come_back_as_they_were_written_in_the_order_of_their_index(ledger: Ledger) -> None:
    tenth = replace(SMALL, uuid="MIG-10", index="0:10", fault="XID 79")
    ledger.write_slots([FULL, tenth, SECOND], NOW)
    assert ledger.slots() == (SECOND, tenth, FULL)


def test_a_slot_that_is_gone_is_no_longer_present_until_it_is_back(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, FULL], NOW)
    ledger.write_slots([FULL], LATER)
    assert ledger.slots() == (FULL,)
    ledger.write_slots([SMALL, FULL], LATER)
    assert ledger.slots() == (SMALL, FULL)


def test_a_slot_that_changed_is_changed(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    ledger.write_slots([replace(SMALL, fault="lost", index="1:0")], LATER)
    assert ledger.slots() == (replace(SMALL, fault="lost", index="1:0"),)


def test_an_inventory_that_changed_nothing_writes_nothing(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL, FULL], NOW)
    epoch = sql.scalar(sa.text("SELECT epoch FROM pool"))
    ledger.write_slots([FULL, SMALL], LATER)
    assert sql.scalar(sa.text("SELECT epoch FROM pool")) == epoch


def test_an_inventory_of_one_node_leaves_the_slots_of_another(ledger: Ledger) -> None:
    there = replace(SMALL, node="gpu2")
    ledger.write_slots([SMALL], NOW)
    ledger.write_slots([there], NOW, node="gpu2")
    ledger.write_slots([], NOW)
    assert ledger.slots() == (there,)
    with pytest.raises(ValueError, match="another node"):
        ledger.write_slots([there], NOW)


# A lease and its states


def test_a_reservation_is_a_pending_lease_with_its_slots(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, SECOND, FULL], NOW)
    asked = draft("ada", "thesis")
    lease = ledger.reserve(asked, take(SECOND, SMALL))
    assert lease == Lease(
        id=lease.id,
        nonce=asked.nonce,
        user="ada",
        server="thesis",
        container_name="thesis._.ada",
        state=LeaseState.PENDING,
        slots=("MIG-1", "MIG-0"),
        share=Fraction(2, 7),
        created_at=NOW,
        deadline=LATER,
        fingerprint="image-1",
        group="students",
        takes=TAKES,
    )
    assert ledger.lease(lease.id) == lease


def test_a_server_without_a_gpu_has_a_lease_without_slots(ledger: Ledger) -> None:
    lease = ledger.reserve(draft(), take())
    assert (lease.slots, lease.share) == ((), Fraction(0))
    assert ledger.lease(lease.id) == lease


def test_the_decision_sees_slots_taken_ones_and_what_this_user_holds(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, SECOND, FULL], NOW)
    ledger.reserve(draft("ada", "one"), take(SMALL))
    ledger.reserve(draft("ada", "cpu"), take())
    ledger.reserve(draft("bob"), take(FULL))
    seen: list[PoolView] = []

    def look(view: PoolView) -> tuple[Slot, ...]:
        seen.append(view)
        return ()

    ledger.reserve(draft("ada", "two"), look)
    (view,) = seen
    assert set(view.slots) == {SMALL, SECOND, FULL}
    assert view.taken == {"MIG-0", "GPU-2"}
    assert view.holdings == Holdings(containers=2, slots=1, gpu_share=Fraction(1, 7), takes=TAKES + TAKES)
    assert ledger.view("bob").holdings == Holdings(containers=1, slots=1, gpu_share=Fraction(1), takes=TAKES)


def test_what_servers_take_is_added_up_once_for_each_however_many_slots_it_has(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, SECOND], NOW)
    large = Resources(cpus=0.2, memory=2**62, pids=2**40)
    first = ledger.reserve(replace(draft("ada", "one"), takes=large), take(SMALL, SECOND))
    second = ledger.reserve(draft("ada", "two"), take())
    assert ledger.lease(first.id) == first
    assert ledger.holdings("ada").takes == Resources(cpus=0.3, memory=2**62 + 32 * 1024**3, pids=2**40 + 4096)
    ledger.hold(second.id, LATER, NOW, "stopped over SSH")
    assert ledger.holdings("ada").takes == large + TAKES
    ledger.release(first.id, NOW, "stopped")
    assert ledger.holdings("ada").takes == TAKES


def test_a_server_without_limits_makes_the_sum_one_that_nobody_knows(ledger: Ledger) -> None:
    ledger.reserve(draft("ada", "one"), take())
    free = ledger.reserve(replace(draft("ada", "two"), takes=Resources(pids=4)), take())
    assert ledger.lease(free.id) == free
    assert ledger.holdings("ada").takes == Resources(pids=4100)
    assert ledger.holdings("bob").takes == NO_RESOURCES


def test_a_decision_for_one_node_sees_that_node_and_the_holdings_on_all(ledger: Ledger) -> None:
    there = replace(FULL, node="gpu2")
    ledger.write_slots([SMALL], NOW)
    ledger.write_slots([there], NOW, node="gpu2")
    ledger.reserve(draft("ada", node="gpu2"), take(there))
    assert ledger.view("ada") == PoolView(
        slots=(SMALL,),
        taken=frozenset(),
        holdings=Holdings(containers=1, slots=1, gpu_share=Fraction(1), takes=TAKES),
    )


def test_a_lease_goes_from_pending_over_active_and_held_to_released(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    pending = ledger.reserve(draft(), take(SMALL))
    noted = ledger.note_container(pending.id, "c1", NOW)
    assert noted == replace(pending, container_id="c1") == ledger.lease(pending.id)
    active = ledger.activate(pending.id, "c1", NOW)
    assert active == replace(noted, state=LeaseState.ACTIVE, deadline=None) == ledger.lease(pending.id)
    held = ledger.hold(pending.id, LATER, NOW, "stopped over SSH")
    assert held == replace(active, state=LeaseState.HELD, deadline=LATER) == ledger.lease(pending.id)
    assert ledger.release(pending.id, LATER, "the hold is over") is True
    released = replace(held, state=LeaseState.RELEASED, deadline=None)
    assert ledger.lease(pending.id) == released


def test_a_held_lease_becomes_active_again(ledger: Ledger) -> None:
    lease = ledger.reserve(draft(), take())
    ledger.activate(lease.id, "c1", NOW)
    ledger.hold(lease.id, None, NOW, "idle")
    again = ledger.activate(lease.id, "c1", LATER)
    assert (again.state, again.deadline) == (LeaseState.ACTIVE, None)


def test_release_frees_the_slots_and_the_name(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    first = ledger.reserve(draft(), take_free)
    ledger.release(first.id, NOW, "stopped")
    assert ledger.view("ada").taken == frozenset()
    assert ledger.holdings("ada") == Holdings()
    assert ledger.reserve(draft(), take_free).slots == first.slots


def test_what_was_released_is_not_released_twice(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    first = ledger.reserve(draft(), take(SMALL))
    ledger.release(first.id, NOW, "stopped")
    second = ledger.reserve(draft("bob"), take(SMALL))
    assert ledger.release(first.id, LATER, "stopped") is False
    assert ledger.release(4711, LATER, "stopped") is False
    assert ledger.live_leases() == (second,)
    assert kinds(sql) == ["pending", "released", "pending"]


def test_a_released_lease_cannot_come_back(ledger: Ledger) -> None:
    lease = ledger.reserve(draft(), take())
    ledger.release(lease.id, NOW, "the start took too long")
    again = "Start the server again"
    with pytest.raises(RequestRefused, match=again):
        ledger.activate(lease.id, "c1", NOW)
    with pytest.raises(RequestRefused, match=again):
        ledger.note_container(lease.id, "c1", NOW)
    with pytest.raises(RequestRefused, match=again):
        ledger.hold(lease.id, LATER, NOW, "stopped")
    with pytest.raises(RequestRefused, match=again):
        ledger.activate(4711, "c1", NOW)
    assert ledger.live_leases() == ()


def test_a_server_has_one_live_lease(ledger: Ledger) -> None:
    first = ledger.reserve(draft(), take())
    with pytest.raises(RequestRefused, match="already starting or running"):
        ledger.reserve(draft(), take())
    assert ledger.live_leases() == (first,)


def test_a_refused_reservation_leaves_nothing_but_the_reason(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    with pytest.raises(LimitExceeded):
        ledger.reserve(draft(), refuse)
    for table, rows in (("leases", 0), ("lease_slots", 0), ("lease_events", 1)):
        assert sql.scalar(sa.text(f"SELECT count(*) FROM {table}")) == rows
    assert events(sql) == [("refused", "ada", "You have 3 of 3 slots.")]


def test_a_decision_that_fails_in_another_way_leaves_nothing(ledger: Ledger, sql: sa.Connection) -> None:
    def stumble(_view: PoolView) -> tuple[Slot, ...]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.reserve(draft(), stumble)
    assert (ledger.live_leases(), events(sql)) == ((), [])


def test_each_step_of_a_lease_is_an_event_once(ledger: Ledger, sql: sa.Connection) -> None:
    lease = ledger.reserve(draft(), take())
    ledger.note_container(lease.id, "c1", NOW)
    ledger.note_container(lease.id, "c1", NOW)
    ledger.activate(lease.id, "c1", NOW)
    ledger.activate(lease.id, "c1", LATER)
    ledger.hold(lease.id, LATER, NOW, "idle")
    ledger.hold(lease.id, LATER, LATER, "idle")
    ledger.release(lease.id, LATER, "the hold is over")
    assert events(sql) == [
        ("pending", "ada", ""),
        ("created", "ada", "c1"),
        ("activated", "ada", "c1"),
        ("held", "ada", "idle"),
        ("released", "ada", "the hold is over"),
    ]


# Finding


def test_live_leases_are_found_by_user_server_and_container(ledger: Ledger) -> None:
    default = ledger.reserve(draft("ada"), take())
    named = ledger.reserve(draft("ada", "thesis"), take())
    other = ledger.reserve(draft("bob"), take())
    assert ledger.live_leases() == (default, named, other)
    assert ledger.live_leases("ada") == (default, named)
    assert ledger.find_live("ada", "") == default
    assert ledger.find_live("ada", "thesis") == named
    assert ledger.by_container("thesis._.ada") == named
    assert ledger.by_container("thesis._.ada", node="gpu2") is None
    assert ledger.holdings("ada").containers == 2


def test_a_released_lease_is_found_by_its_id_only(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    lease = ledger.reserve(draft(), take(SMALL))
    ledger.release(lease.id, NOW, "stopped")
    assert ledger.find_live("ada", "") is None
    assert ledger.by_container(lease.container_name) is None
    assert ledger.live_leases("ada") == ()
    found = ledger.lease(lease.id)
    assert found is not None
    assert (found.slots, found.state) == (("MIG-0",), LeaseState.RELEASED)


def test_times_come_out_as_utc_whatever_zone_they_came_in(ledger: Ledger) -> None:
    lease = ledger.reserve(replace(draft(), deadline=LATER.astimezone(BERLIN)), take())
    assert lease.deadline == LATER
    assert lease.deadline.tzinfo is timezone.utc


# One slot, one lease


def test_two_threads_ask_for_the_last_slot_and_one_gets_it(ledger: Ledger) -> None:
    ledger.write_slots([SMALL], NOW)
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def ask(user: str) -> None:
        barrier.wait()
        try:
            outcomes.append(ledger.reserve(draft(user), take_free).slots[0])
        except NothingFree as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=ask, args=(user,)) for user in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["MIG-0", "nothing-free"]


def test_a_decision_that_takes_a_taken_slot_is_stopped_by_the_database(ledger: Ledger) -> None:
    ledger.write_slots([SMALL, SECOND], NOW)
    first = ledger.reserve(draft("ada"), take(SMALL))
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.reserve(draft("bob"), take(SECOND, SMALL))
    assert "UNIQUE" in caught.value.detail.upper()
    assert ledger.live_leases() == (first,)


def test_a_slot_that_no_inventory_had_cannot_be_leased(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailable):
        ledger.reserve(draft(), take(SMALL))
    assert ledger.live_leases() == ()


def test_the_database_itself_refuses_a_second_live_row_for_a_slot(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    ledger.reserve(draft("ada"), take(SMALL))
    bob = ledger.reserve(draft("bob"), take())
    insert = sa.text(
        "INSERT INTO lease_slots (lease_id, position, node, slot_uuid, profile, share_numerator,"
        " share_denominator, live) VALUES (:lease, 0, 'local', 'MIG-0', '1g.10gb', 1, 7, :live)"
    ).bindparams(sa.bindparam("live", type_=sa.Boolean))
    with pytest.raises(sa.exc.IntegrityError):
        sql.execute(insert, {"lease": bob.id, "live": True})
    sql.execute(insert, {"lease": bob.id, "live": False})


def test_the_database_itself_refuses_a_second_live_lease_for_a_container(
    ledger: Ledger, sql: sa.Connection
) -> None:
    first = ledger.reserve(draft(), take())
    ledger.release(first.id, NOW, "stopped")
    ledger.reserve(draft(), take())
    with pytest.raises(sa.exc.IntegrityError):
        sql.execute(sa.text("UPDATE leases SET state = 'held' WHERE id = :id"), {"id": first.id})


# Opening, and what can go wrong


def test_opening_again_keeps_everything(url: str) -> None:
    before = Ledger(url)
    before.write_slots([SMALL, FULL], NOW)
    lease = before.reserve(draft(), take(SMALL))
    before.close()
    after = Ledger(url)
    assert after.live_leases() == (lease,)
    assert after.slots() == (SMALL, FULL)
    assert after.view("ada").taken == {"MIG-0"}
    after.close()


def test_many_that_open_a_new_ledger_at_once_all_can(url: str) -> None:
    barrier = threading.Barrier(6)
    opened: list[Ledger] = []

    def open_one() -> None:
        barrier.wait()
        opened.append(Ledger(url))

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ledger.slots() for ledger in opened] == [()] * 6
    for ledger in opened:
        ledger.close()


def test_a_new_file_is_its_owners_alone_and_so_is_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "ds01" / "ledger 100%.sqlite"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.write_slots([SMALL], NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (file.parent, *file.parent.iterdir())}
    assert modes.pop("ds01") == 0o700
    assert set(modes.values()) == {0o600}
    ledger.close()


def test_what_sqlite_commits_is_on_the_disk_and_its_keys_are_checked(sqlite_url: str) -> None:
    ledger = Ledger(sqlite_url)
    with ledger._writer.connect() as connection:
        pragmas = {
            name: connection.scalar(sa.text(f"PRAGMA {name}")) for name in ("synchronous", "foreign_keys")
        }
        assert pragmas == {"synchronous": 2, "foreign_keys": 1}
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
    ledger.close()


def test_what_postgres_commits_is_on_the_disk_whatever_its_default_is(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        admin.execute(sa.text(f"ALTER DATABASE {engine.url.database} SET synchronous_commit = off"))
    engine.dispose()
    ledger = Ledger(postgres_url)
    with ledger._writer.connect() as connection:
        assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
        assert connection.scalar(sa.text("SHOW transaction_isolation")) == "read committed"
    ledger.close()


def assert_unavailable(call: Callable[[], object]) -> str:
    """What the student reads is one sentence with a next step; the cause is in the detail."""
    with pytest.raises(LedgerUnavailable) as caught:
        call()
    assert "administrators" in str(caught.value)
    assert "sqlite" not in str(caught.value).lower()
    return caught.value.detail


class TestFileIsNotADatabase:
    def test_it_does_not_open(self, tmp_path: Path) -> None:
        file = tmp_path / "ledger.sqlite"
        file.write_text("GPU 0: ada\n" * 100)
        assert "not a database" in assert_unavailable(lambda: Ledger(f"sqlite:///{file}"))
        assert file.read_text().startswith("GPU 0: ada")


class TestFileCannotBe:
    @pytest.mark.parametrize(
        "url", ["sqlite:////proc/ds01/ledger.sqlite", "sqlite:////dev/null/ledger.sqlite"]
    )
    def test_it_does_not_open(self, url: str) -> None:
        assert_unavailable(lambda: Ledger(url))


def open_as_nobody(url: str) -> None:
    """Open the ledger without the rights of root, whom no file mode stops."""
    if os.geteuid() == 0:
        os.setuid(65534)
    ledger = Ledger(url, busy_timeout=timedelta(0))
    ledger.close()


class TestFileIsReadOnly:
    def test_it_does_not_open(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "ledger.sqlite")
            Ledger(f"sqlite:///{file}").close()
            file.chmod(0o444)
            Path(folder).chmod(0o555)
            spawn = multiprocessing.get_context("spawn")
            with spawn.Pool(1) as one:
                detail = assert_unavailable(lambda: one.apply(open_as_nobody, (f"sqlite:///{file}",)))
            Path(folder).chmod(0o755)
        assert "readonly" in detail, detail


class TestUrlIsWrong:
    @pytest.mark.parametrize(
        "url", ["", "sqlite://", "sqlite:///:memory:", "nonsense://x", "sqlite:////tmp/x?mode=ro"]
    )
    def test_it_does_not_open(self, url: str) -> None:
        assert_unavailable(lambda: Ledger(url))


class TestLedgerIsOfANewerVersion:
    def test_it_does_not_open_and_is_left_as_it_is(self, url: str, sql: sa.Connection) -> None:
        sql.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        assert "9999" in assert_unavailable(lambda: Ledger(url))
        assert sql.scalar(sa.text("SELECT version_num FROM alembic_version")) == "9999"


class TestAnotherWriterDoesNotEnd:
    def test_a_reservation_is_refused_and_works_when_it_has_ended(self, url: str, ledger: Ledger) -> None:
        impatient = Ledger(url, busy_timeout=timedelta(milliseconds=20))
        with ledger._write():
            assert "lock" in assert_unavailable(lambda: impatient.reserve(draft(), take()))
            assert impatient.live_leases() == ()
        lease = impatient.reserve(draft(), take())
        assert ledger.live_leases() == (lease,)
        impatient.close()


class TestTheRowThatSerialisesIsGone:
    def test_nothing_is_written(self, ledger: Ledger, sql: sa.Connection) -> None:
        sql.execute(sa.text("DELETE FROM pool"))
        assert "pool" in assert_unavailable(lambda: ledger.reserve(draft(), take()))
        assert ledger.live_leases() == ()


class TestTableIsGone:
    def test_reading_and_writing_say_so(self, ledger: Ledger, sql: sa.Connection) -> None:
        sql.execute(sa.text("DROP TABLE lease_slots"))
        assert "lease_slots" in assert_unavailable(ledger.live_leases)
        assert "lease_slots" in assert_unavailable(lambda: ledger.reserve(draft(), take()))
