"""The queue: which spawns wait for slots, in the order in which they are served."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from ...allocator import LeaseDraft
from ...errors import QueueFull
from ...model import LOCAL_NODE, GpuWish, QueueEntry
from ..migrations import statements
from ..migrations.schema import queue, takes_to_row
from ..migrations.statements import read_queue
from .store import Store, insert_event


class QueueRows(Store):
    """Places in the queue; `leases` puts somebody in, since that is decided with her lease."""

    def queue(self, *, node: str = LOCAL_NODE) -> tuple[QueueEntry, ...]:
        """Return the spawns that wait on `node`, the first to be served first."""
        with self._read() as connection:
            return read_queue(connection, node)

    def leave_queue(self, container_name: str, now: datetime, why: str, *, node: str = LOCAL_NODE) -> bool:
        """Give up the place of a spawn; False if it has none."""
        with self._read() as connection:
            if (
                connection.execute(statements.PLACE, {"node": node, "container": container_name}).first()
                is None
            ):
                return False
        with self._write() as connection:
            return drop_place(connection, node, container_name, now, why)

    def leave_queue_by_id(self, entry_id: int, now: datetime, why: str) -> bool:
        """Give up one place, whoever has it; False if it is gone."""
        with self._write() as connection:
            gone = sa.delete(queue).where(queue.c.id == entry_id).returning(queue.c.user_name)
            user = connection.scalar(gone)
            if user is None:
                return False
            insert_event(connection, None, now, "left", user, why)
            return True


def drop_place(
    connection: sa.Connection, node: str, container_name: str, now: datetime, why: str = ""
) -> bool:
    """Take a spawn out of the queue; `why` "" for one that was served, which its lease tells."""
    user = connection.scalar(statements.DROP_PLACE, {"node": node, "container": container_name})
    if user is None:
        return False
    if why:
        insert_event(connection, None, now, "left", user, f"{container_name}: {why}")
    return True


def take_place(
    connection: sa.Connection, draft: LeaseDraft, wish: GpuWish, now: datetime, limit: int, why: str
) -> None:
    """Put a spawn into the queue unless it is there.

    Raises:
        QueueFull: `limit` spawns wait already.
    """
    waiting = read_queue(connection, draft.node)
    if any(entry.container_name == draft.container_name for entry in waiting):
        return
    if len(waiting) >= limit:
        raise QueueFull(f"{why} The queue is full as well: {len(waiting)} others wait.")
    row = {
        "node": draft.node,
        "container_name": draft.container_name,
        "user_name": draft.user,
        "server_name": draft.server,
        "gpu_profile": wish.profile,
        "gpu_count": wish.count,
        "allow_full_gpu": wish.allow_full_gpu,
        "priority": wish.priority,
        "requested_at": wish.requested_at,
        "runs_until": wish.runs_until,
        "entered_at": now,
        "owner": draft.owner,
        **takes_to_row(wish.takes),
    }
    connection.execute(statements.INSERT_PLACE, row)
    insert_event(connection, None, now, "queued", draft.user, f"{draft.container_name}: {why}")
