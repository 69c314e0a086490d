"""A ledger of the first version is brought to the newest when it is opened, and keeps what it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from ds01_spawner.adapters import migrations
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.adapters.migrations.schema import metadata
from ds01_spawner.errors import LedgerUnavailable, NothingFree
from ds01_spawner.model import (
    UNLIMITED,
    GpuWish,
    Inventory,
    Lease,
    LeaseState,
    Mark,
    MarkKind,
    Reservation,
)

from .ledgers import FULL, LATER, NOW, SMALL, draft, events, nothing_free, take

pytest_plugins = ("tests.adapters.postgres",)

FIRST = "0001"
ROWS = {
    "slots": [
        {
            "node": "local",
            "uuid": "MIG-0",
            "slot_index": "0:0",
            "profile": "1g.10gb",
            "gpu_uuid": "GPU-0",
            "gpu_name": "A100",
            "memory_mib": 9728,
            "share_numerator": 1,
            "share_denominator": 7,
            "fault": "",
            "present": True,
            "changed_at": NOW,
        }
    ],
    "leases": [
        {
            "nonce": "0a",
            "node": "local",
            "user_name": "ada",
            "server_name": "",
            "group_name": "students",
            "container_name": "jupyter._.ada",
            "container_id": "c1",
            "state": "released",
            "fingerprint": "image-1",
            "created_at": NOW,
            "deadline": None,
        },
        {
            "nonce": "0b",
            "node": "local",
            "user_name": "bob",
            "server_name": "thesis",
            "group_name": "students",
            "container_name": "thesis._.bob",
            "container_id": "c2",
            "state": "held",
            "fingerprint": "image-2",
            "created_at": NOW,
            "deadline": LATER,
        },
    ],
    "lease_slots": [
        {
            "lease_id": lease,
            "position": 0,
            "node": "local",
            "slot_uuid": "MIG-0",
            "profile": "1g.10gb",
            "share_numerator": 1,
            "share_denominator": 7,
            "live": live,
        }
        for lease, live in ((1, False), (2, True))
    ],
    "lease_events": [
        {"lease_id": 1, "at": NOW, "kind": "pending", "who": "ada", "why": ""},
        {"lease_id": 1, "at": LATER, "kind": "released", "who": "ada", "why": "stopped"},
        {"lease_id": 2, "at": LATER, "kind": "held", "who": "bob", "why": "idle"},
        {"lease_id": None, "at": LATER, "kind": "refused", "who": "cleo", "why": "none is free"},
    ],
}
HELD = Lease(
    id=2,
    nonce="0b",
    user="bob",
    server="thesis",
    container_name="thesis._.bob",
    state=LeaseState.HELD,
    slots=("MIG-0",),
    share=Fraction(1, 7),
    created_at=NOW,
    deadline=LATER,
    container_id="c2",
    fingerprint="image-2",
    group="students",
)
RELEASED = replace(
    HELD,
    id=1,
    nonce="0a",
    user="ada",
    server="",
    container_name="jupyter._.ada",
    state=LeaseState.RELEASED,
    deadline=None,
    container_id="c1",
    fingerprint="image-1",
)


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """The database of the test, past the ledger and before it."""
    made = sa.create_engine(url)
    yield made
    made.dispose()


def migrate(engine: sa.Engine, *, up: str = "", down: str = "") -> None:
    """Go to a step by alembic itself, as an admin would."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        if up:
            command.upgrade(config, up)
        if down:
            command.downgrade(config, down)


def make_first_version(engine: sa.Engine) -> None:
    """Make a ledger of the first version, in which something has happened."""
    migrate(engine, up=FIRST)
    tables = sa.MetaData()
    with engine.begin() as connection:
        tables.reflect(connection)
        for name, rows in ROWS.items():
            connection.execute(tables.tables[name].insert(), rows)
        connection.execute(sa.text("UPDATE pool SET epoch = 41"))


def show_tables(engine: sa.Engine) -> dict[str, tuple[set[str], set[str]]]:
    """Return columns and indexes of each table."""
    found = sa.inspect(engine)
    return {
        table: (
            {column["name"] for column in found.get_columns(table)},
            {str(index["name"]) for index in found.get_indexes(table)},
        )
        for table in found.get_table_names()
    }


def test_the_migrations_make_the_tables_that_the_code_expects(sql: sa.Connection) -> None:
    context = MigrationContext.configure(sql, opts={"compare_type": True})
    assert compare_metadata(context, metadata) == []


def test_a_ledger_of_the_first_version_keeps_all_that_it_has(url: str, engine: sa.Engine) -> None:
    make_first_version(engine)
    ledger = Ledger(url)
    assert ledger.live_leases() == (HELD,)
    assert ledger.lease(1) == RELEASED
    assert ledger.slots() == (SMALL,)
    assert ledger.view("bob").ends == {"MIG-0": LATER}
    # Nobody wrote down what it takes: that counts as all that she may have.
    assert ledger.holdings("bob").takes == UNLIMITED
    assert [(event.kind, event.who, event.at, event.slots) for event in ledger.history()] == [
        ("pending", "ada", NOW, ("MIG-0",)),
        ("released", "ada", LATER, ("MIG-0",)),
        ("held", "bob", LATER, ("MIG-0",)),
        ("refused", "cleo", LATER, ()),
    ]
    assert ledger.epoch() == 41
    ledger.close()


def test_a_ledger_of_the_first_version_goes_on_where_it_was(url: str, engine: sa.Engine) -> None:
    make_first_version(engine)
    ledger = Ledger(url)
    assert ledger.queue() == ledger.marks() == ledger.reservations() == ()
    assert ledger.inventory() is None
    assert ledger.end(2, LATER, "its hold is over", owner="service 1", seen=HELD) is True
    assert ledger.release(2, LATER, "its hold is over") is True
    ledger.close()


def test_what_was_released_before_is_forgotten_in_its_time(url: str, engine: sa.Engine) -> None:
    make_first_version(engine)
    ledger = Ledger(url)
    with engine.connect() as connection:
        released = connection.execute(sa.text("SELECT id FROM leases WHERE released_at = created_at"))
        assert released.scalars().all() == [1]
    assert ledger.prune(NOW) == 0
    assert ledger.prune(NOW + timedelta(days=1)) == 1
    assert ledger.live_leases() == (HELD,)
    ledger.close()


def use_all_that_is_new(ledger: Ledger) -> None:
    ledger.write_inventory(Inventory(slots=(SMALL, FULL), gpus=()), NOW)
    ledger.mark(Mark(slot="GPU-2", kind=MarkKind.DRAINED, why="maintenance", since=NOW))
    window = Reservation(user="ada", start=NOW, end=LATER, gpus=("2",), devices=("GPU-2",))
    ledger.write_reservations([window], NOW)
    wish = GpuWish(user="ada", profile="1g.10gb", count=1, requested_at=NOW)
    with pytest.raises(NothingFree):
        ledger.reserve(draft("ada"), nothing_free, wish=wish, queue_limit=1)
    lease = ledger.reserve(replace(draft("cleo"), owner="hub 1", runs_until=LATER), take(FULL))
    ledger.end(lease.id, NOW, "stopped", owner="hub 1")


def test_the_way_back_makes_the_first_version_and_keeps_its_leases(url: str, engine: sa.Engine) -> None:
    make_first_version(engine)
    before = show_tables(engine)
    ledger = Ledger(url)
    use_all_that_is_new(ledger)
    ledger.close()
    migrate(engine, down=FIRST)
    assert show_tables(engine) == before
    again = Ledger(url)
    cleo = again.by_container("jupyter._.cleo")
    assert cleo is not None
    assert (cleo.slots, cleo.owner, cleo.ending, cleo.runs_until) == (("GPU-2",), "", "", None)
    assert again.lease(1) == RELEASED
    assert again.by_container("thesis._.bob") == HELD
    assert again.queue() == again.marks() == again.reservations() == ()
    again.close()


def test_the_way_back_ends_with_an_empty_database(url: str, engine: sa.Engine) -> None:
    Ledger(url).close()
    migrate(engine, down="base")
    assert show_tables(engine).keys() <= {"alembic_version"}
    Ledger(url).close()


class TestMigrationFails:
    def test_nothing_of_it_is_left_and_the_leases_are(self, url: str, engine: sa.Engine) -> None:
        make_first_version(engine)
        with engine.begin() as connection:
            # What is in the way of the last table of the step.
            connection.execute(sa.text("CREATE TABLE nodes (node TEXT)"))
            told = events(connection)
        before = show_tables(engine)
        with pytest.raises(LedgerUnavailable) as caught:
            Ledger(url)
        assert "nodes" in caught.value.detail
        assert show_tables(engine) == before
        with engine.begin() as connection:
            assert events(connection) == told
            connection.execute(sa.text("DROP TABLE nodes"))
        ledger = Ledger(url)
        assert ledger.live_leases() == (HELD,)
        ledger.close()
