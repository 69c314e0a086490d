"""Ledgers on real databases: an empty one of each kind for a test.

A module that asks for `url` or `ledger` names the plugin `tests.adapters.postgres`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger

# Plugins that tests import from as well.
pytest.register_assert_rewrite("tests.adapters.building", "tests.adapters.shelf")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the ledger of a test is: an empty database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    yield opened
    opened.close()


@pytest.fixture
def sql(url: str, ledger: Ledger) -> Iterator[sa.Connection]:
    """The same database, past the ledger."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
