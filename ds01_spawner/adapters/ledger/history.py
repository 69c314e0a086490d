"""The history: each event of leases, slots and queue as a line, kept for a time."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import sqlalchemy as sa

from ...model import Event
from ..migrations.schema import builds, image_uses, lease_events, lease_slots, leases, watches
from .store import Store


class History(Store):
    """What happened; never longer than `store.MOST_EVENTS` lines, whoever prunes or not."""

    def history(
        self, *, user: str = "", since: datetime | None = None, kind: str = "", limit: int = 1000
    ) -> tuple[Event, ...]:
        """Return the newest `limit` events, the oldest of them first: a user's, since a time, of a kind."""
        columns = (lease_events, leases.c.server_name)
        wanted = sa.select(*columns).select_from(lease_events.outerjoin(leases))
        if user:
            wanted = wanted.where(lease_events.c.who == user)
        if kind:
            wanted = wanted.where(lease_events.c.kind == kind)
        if since is not None:
            wanted = wanted.where(lease_events.c.at >= since)
        with self._read() as connection:
            rows = connection.execute(wanted.order_by(lease_events.c.id.desc()).limit(limit)).all()
            ids = {row.lease_id for row in rows if row.lease_id is not None}
            held = sa.select(lease_slots.c.lease_id, lease_slots.c.slot_uuid).order_by(lease_slots.c.position)
            found: dict[int, list[str]] = defaultdict(list)
            for lease_id, uuid in connection.execute(held.where(lease_slots.c.lease_id.in_(ids))):
                found[lease_id].append(uuid)
        return tuple(
            Event(
                id=row.id,
                at=row.at,
                kind=row.kind,
                who=row.who,
                why=row.why,
                lease_id=row.lease_id,
                server=row.server_name or "",
                slots=tuple(found[row.lease_id]),
            )
            for row in reversed(rows)
        )

    def prune(self, before: datetime) -> int:
        """Forget events, ended leases, builds and uses of images from before a time; returns how many
        leases went.
        """
        ended = sa.select(leases.c.id).where(leases.c.released_at < before)
        with self._write() as connection:
            connection.execute(
                sa.delete(lease_events).where(
                    (lease_events.c.at < before) | lease_events.c.lease_id.in_(ended)
                )
            )
            connection.execute(sa.delete(watches).where(watches.c.lease_id.in_(ended)))
            connection.execute(sa.delete(lease_slots).where(lease_slots.c.lease_id.in_(ended)))
            connection.execute(sa.delete(builds).where(builds.c.ended_at < before))
            connection.execute(sa.delete(image_uses).where(image_uses.c.last_used_at < before))
            return connection.execute(sa.delete(leases).where(leases.c.released_at < before)).rowcount
