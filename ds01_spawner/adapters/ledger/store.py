"""The open database: its transactions, and the history that every write of the ledger adds to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from ...errors import LedgerUnavailable
from ..migrations import statements
from ..migrations.database import WRITES, open_engine

MOST_EVENTS = 100_000
"""How many lines the history has at most; the oldest go first."""
# Looked at now and then: counting at each insert would cost more than the insert.
_EVENTS_BETWEEN_CUTS = 500

_UNAVAILABLE = (
    "The record of who holds which GPU cannot be read or written just now, so no server can be started. "
    "Try again in a minute; if it stays so, tell the administrators of this hub."
)


class Store:
    """One open database, by SQLAlchemy URL: `sqlite:////path/to/file`, or PostgreSQL.

    Opening creates or migrates the tables; a new SQLite file gets mode 0600. Every method may raise
    LedgerUnavailable; times go in and come out timezone-aware.
    """

    def __init__(self, url: str, *, busy_timeout: timedelta = timedelta(seconds=15)) -> None:
        with translating():
            self._engine = open_engine(url, busy_timeout)
            self._writer = self._engine.execution_options(**{WRITES: True})

    def close(self) -> None:
        """Close all connections; nothing is lost, what was written is on the disk."""
        self._engine.dispose()

    def epoch(self) -> int:
        """Return a number that is another one after each write, by whomever."""
        with self._read() as connection:
            return int(connection.scalar(statements.EPOCH) or 0)

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with translating(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with translating(), self._writer.begin() as connection:
            bumped = connection.execute(statements.BUMP_EPOCH)
            if bumped.rowcount != 1:
                # Without the row nothing serialises writers, and they would not notice.
                raise LedgerUnavailable(_UNAVAILABLE, detail="the ledger's pool table lacks its one row")
            yield connection


@contextmanager
def translating() -> Iterator[None]:
    """Turn what the database raises into `LedgerUnavailable`."""
    try:
        yield
    except (SQLAlchemyError, CommandError, sqlite3.Error, OSError, ImportError) as error:
        raise LedgerUnavailable(_UNAVAILABLE, detail=f"{type(error).__name__}: {error}") from error


def insert_event(
    connection: sa.Connection, lease_id: int | None, at: datetime, kind: str, who: str, why: str
) -> None:
    """Add a line to the history, and now and then take its oldest lines away."""
    values = {"lease_id": lease_id, "at": at, "kind": kind, "who": who, "why": why}
    inserted = connection.execute(statements.INSERT_EVENT, values)
    event_id = next(iter(inserted.inserted_primary_key or (0,)))
    if event_id % _EVENTS_BETWEEN_CUTS == 0:
        connection.execute(
            statements.DROP_EVENTS_UP_TO, {"last": event_id + _EVENTS_BETWEEN_CUTS - MOST_EVENTS}
        )
