"""What is remembered of each live lease from check to check, changed in one transaction with its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from ...errors import RequestRefused
from ...model import Cause, Extension, Lease, TimeLeft, Watch
from ..migrations import statements
from ..migrations.schema import IS_LIVE, leases, watches
from ..migrations.statements import read_leases
from .store import Store, insert_event

_WATCH = TypeAdapter(Watch)
_TIME_LEFT = TypeAdapter(TimeLeft)

_ENDED = "This server has ended, so there is nothing to extend. Start it again."


class WatchRows(Store):
    """The watches of live leases; that of a lease which nobody has looked at yet is an empty one."""

    def watch(
        self, lease_id: int, look: Callable[[Lease, Watch], tuple[Watch, TimeLeft]]
    ) -> tuple[Watch, TimeLeft] | None:
        """Let `look` say what to remember of a live lease, while nobody else changes it; None if it ended."""
        with self._write() as connection:
            lease = next(read_leases(connection, statements.LIVE_LEASE, id=lease_id), None)
            if lease is None:
                return None
            found = look(lease, _read_watch(connection, lease_id)[0])
            _write_watch(connection, lease_id, *found)
            return found

    def extend(self, lease_id: int, grant: Callable[[Lease, Watch], Extension]) -> Extension:
        """Record the run time that `grant` gives a live lease, while nobody else changes it.

        Raises:
            RequestRefused: the lease has ended, or whatever `grant` raises.
        """
        with self._write() as connection:
            lease = next(read_leases(connection, statements.LIVE_LEASE, id=lease_id), None)
            if lease is None or lease.ending:
                raise RequestRefused(_ENDED, detail=f"lease {lease_id} is not live")
            watch, left = _read_watch(connection, lease_id)
            extension = grant(lease, watch)
            values = {"runs_until": extension.until}
            connection.execute(sa.update(leases).where(leases.c.id == lease_id).values(values))
            watch = replace(watch, extensions=(*watch.extensions, extension))
            # What was said of the old end holds no more.
            warnings = tuple(notice for notice in left.warnings if notice.cause is not Cause.RUN_TIME)
            left = replace(left, run_until=extension.until, warnings=warnings)
            _write_watch(connection, lease_id, watch, left)
            why = f"until {extension.until.isoformat(timespec='minutes')}, asked for by {extension.who}"
            why += f": {extension.reason}" if extension.reason else ""
            insert_event(connection, lease_id, extension.at, "extended", lease.user, why)
            return extension

    def watches(self) -> Mapping[int, tuple[Watch, TimeLeft]]:
        """Return what is remembered of each live lease, by its id."""
        wanted = sa.select(watches).join(leases).where(IS_LIVE)
        with self._read() as connection:
            rows = connection.execute(wanted).all()
        return {row.lease_id: (_load(_WATCH, row.watch), _load(_TIME_LEFT, row.time_left)) for row in rows}


def _read_watch(connection: sa.Connection, lease_id: int) -> tuple[Watch, TimeLeft]:
    row = connection.execute(sa.select(watches).where(watches.c.lease_id == lease_id)).first()
    return (
        (Watch(), TimeLeft()) if row is None else (_load(_WATCH, row.watch), _load(_TIME_LEFT, row.time_left))
    )


def _write_watch(connection: sa.Connection, lease_id: int, watch: Watch, left: TimeLeft) -> None:
    values = {"watch": _dump(_WATCH, watch), "time_left": _dump(_TIME_LEFT, left)}
    changed = connection.execute(sa.update(watches).where(watches.c.lease_id == lease_id).values(values))
    if changed.rowcount == 0:
        connection.execute(sa.insert(watches).values(lease_id=lease_id, **values))


def _load(adapter: TypeAdapter[Any], value: object) -> Any:
    return adapter.validate_python(value, strict=False)


def _dump(adapter: TypeAdapter[Any], value: object) -> object:
    return adapter.dump_python(value, mode="json")
