"""Open the ledger's database so that its promises hold: durable, private, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ...errors import LedgerUnavailable
from . import upgrade

WRITES = "ds01_writes"
"""The execution option of a connection that will write."""

# Any constant will do that all versions of this package share.
_MIGRATION_LOCK = 0x6473_3031


def open_engine(url: str, busy_timeout: timedelta) -> sa.Engine:
    """Return an engine on the database at `url`, its tables created or migrated.

    `busy_timeout` is how long a writer waits for its turn.

    Raises:
        LedgerUnavailable: a SQLite URL that names no file.
        sqlalchemy.exc.SQLAlchemyError, alembic.util.CommandError, OSError, ImportError,
            sqlite3.Error: as they come.
    """
    engine = _create_engine(sa.make_url(url), busy_timeout)
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        upgrade(connection)
    return engine


def _create_engine(url: sa.URL, busy_timeout: timedelta) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return _create_server_engine(url, busy_timeout)
    if url.database in (None, "", ":memory:") or url.query:
        raise LedgerUnavailable(
            "The ledger of this hub is set up wrongly, so no server can be started. Tell its administrators.",
            detail=f"{url} must name a file and nothing else: sqlite:////path/to/file",
        )
    _create_private_file(os.path.realpath(str(url.database)))
    engine = sa.create_engine(url, connect_args={"timeout": busy_timeout.total_seconds()})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _create_server_engine(url: sa.URL, busy_timeout: timedelta) -> sa.Engine:
    if url.drivername == "postgresql":
        # SQLAlchemy 2.0 would take psycopg2, which the `postgres` extra does not bring.
        url = url.set(drivername="postgresql+psycopg")
    # Each statement must see what the writer before it committed; ping, since servers restart.
    engine = sa.create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _PreparePostgres(busy_timeout))
    return engine


class _PreparePostgres:
    """Tell a new connection how long to wait for its turn, and to answer when it is on the disk.

    Without the first a writer waits for ever; the second counts where a server's default is `off`.
    """

    def __init__(self, busy_timeout: timedelta) -> None:
        # 0 would mean without an end.
        self._milliseconds = max(1, round(busy_timeout.total_seconds() * 1000))

    def __call__(self, dbapi_connection: Any, _record: object) -> None:
        with closing(dbapi_connection.cursor()) as cursor:
            cursor.execute(f"SET lock_timeout = {self._milliseconds}")
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        dbapi_connection.commit()


def _create_private_file(path: str) -> None:
    """Put an empty database with mode 0600 and a write-ahead log at `path`, unless something is there.

    Its folder is made if missing. The file gets its name only when it is whole: two processes that
    turn the log on in one file at once would fail as "locked", which SQLite does not wait for there.
    A file that exists is not opened: closing it would drop SQLite's locks on it in this process.
    """
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    os.close(handle)
    try:
        with closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The driver would begin too late (not before SELECT or DDL); `_begin_sqlite` does it instead.
    dbapi_connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and asks for the write lock later can fail at once, unwaited.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
