"""What the ledger asks its tables, each statement built once, and how an answer becomes a value.

A statement that is built anew for each call costs more than the database needs to run it. A slot's
row becomes the same frozen value each time, so that 448 slots are not made again for every decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from ...model import (
    NO_RESOURCES,
    GpuWish,
    Holdings,
    Lease,
    LeaseState,
    Mark,
    MarkKind,
    QueueEntry,
    Reservation,
    Resources,
    Slot,
)
from .schema import (
    IS_LIVE,
    lease_events,
    lease_slots,
    leases,
    nodes,
    pool,
    queue,
    reservations,
    slot_marks,
    slots,
)

_SLOT = (
    slots.c.uuid,
    slots.c.slot_index,
    slots.c.profile,
    slots.c.gpu_uuid,
    slots.c.gpu_name,
    slots.c.memory_mib,
    slots.c.share_numerator,
    slots.c.share_denominator,
    slots.c.node,
    slots.c.fault,
    slots.c.device_nodes,
)
_HELD_SLOT = (lease_slots.c.node == slots.c.node, lease_slots.c.slot_uuid == slots.c.uuid, lease_slots.c.live)
_LEASES = (
    sa.select(
        leases,
        lease_slots.c.slot_uuid,
        lease_slots.c.profile,
        lease_slots.c.share_numerator,
        lease_slots.c.share_denominator,
    )
    .select_from(leases.outerjoin(lease_slots))
    .order_by(leases.c.id, lease_slots.c.position)
)

EPOCH = sa.select(pool.c.epoch)
BUMP_EPOCH = sa.update(pool).values(epoch=pool.c.epoch + 1)

SLOTS = sa.select(*_SLOT).where(slots.c.present)
SLOTS_OF_NODE = SLOTS.where(slots.c.node == sa.bindparam("node"))
KNOWN_SLOTS_OF_NODE = sa.select(*_SLOT, slots.c.present).where(slots.c.node == sa.bindparam("node"))
# A slot that is leased but no longer present is taken all the same.
POOL_OF_NODE = (
    sa.select(
        *_SLOT,
        slots.c.present,
        leases.c.deadline,
        leases.c.runs_until,
        leases.c.state,
        lease_slots.c.lease_id,
    )
    .select_from(slots.outerjoin(lease_slots, sa.and_(*_HELD_SLOT)).outerjoin(leases))
    .where(slots.c.node == sa.bindparam("node"), slots.c.present | lease_slots.c.lease_id.is_not(None))
)
HOLDINGS_OF_USER = (
    sa.select(
        leases.c.id,
        leases.c.cpus,
        leases.c.memory,
        leases.c.pids,
        lease_slots.c.share_numerator,
        lease_slots.c.share_denominator,
    )
    .select_from(leases.outerjoin(lease_slots))
    .where(IS_LIVE, leases.c.user_name == sa.bindparam("user"))
)

LEASE = _LEASES.where(leases.c.id == sa.bindparam("id"))
LIVE_LEASES = _LEASES.where(IS_LIVE)
LIVE_LEASE = LEASE.where(IS_LIVE)
LIVE_LEASES_OF_USER = LIVE_LEASES.where(leases.c.user_name == sa.bindparam("user"))
LIVE_LEASE_OF_SERVER = LIVE_LEASES_OF_USER.where(leases.c.server_name == sa.bindparam("server"))
LIVE_LEASE_OF_CONTAINER = LIVE_LEASES.where(
    leases.c.node == sa.bindparam("node"), leases.c.container_name == sa.bindparam("container")
)
RELEASED_SINCE = _LEASES.where(leases.c.released_at >= sa.bindparam("since"))
LEASES_OF = _LEASES.where(
    leases.c.container_id.in_(sa.bindparam("containers", expanding=True))
    | leases.c.nonce.in_(sa.bindparam("nonces", expanding=True)),
)
LIVE_ID_OF_CONTAINER = sa.select(leases.c.id).where(
    IS_LIVE, leases.c.node == sa.bindparam("node"), leases.c.container_name == sa.bindparam("container")
)

INSERT_LEASE = sa.insert(leases)
INSERT_LEASE_SLOT = sa.insert(lease_slots)
INSERT_EVENT = sa.insert(lease_events)
END_LEASE = (
    sa.update(leases)
    .where(leases.c.id == sa.bindparam("lease"), IS_LIVE)
    .values(state=LeaseState.RELEASED, deadline=None, released_at=sa.bindparam("now"))
    .returning(leases.c.user_name)
)
DROP_EVENTS_UP_TO = sa.delete(lease_events).where(lease_events.c.id <= sa.bindparam("last"))
NODE = sa.select(nodes).where(nodes.c.node == sa.bindparam("node"))
MARKS = sa.select(slot_marks).where(slot_marks.c.node == sa.bindparam("node")).order_by(slot_marks.c.since)
RESERVATIONS = (
    sa.select(reservations)
    .where(reservations.c.node == sa.bindparam("node"))
    .order_by(reservations.c.starts_at, reservations.c.id)
)
QUEUE = (
    sa.select(queue)
    .where(queue.c.node == sa.bindparam("node"))
    .order_by(queue.c.priority.desc(), queue.c.requested_at, queue.c.container_name)
)
_IS_PLACE = (queue.c.node == sa.bindparam("node"), queue.c.container_name == sa.bindparam("container"))
PLACE = sa.select(queue.c.id).where(*_IS_PLACE)
INSERT_PLACE = sa.insert(queue)
DROP_PLACE = sa.delete(queue).where(*_IS_PLACE).returning(queue.c.user_name)
FREE_SLOTS = sa.update(lease_slots).where(lease_slots.c.lease_id == sa.bindparam("lease")).values(live=False)


@lru_cache(maxsize=8192)
def make_slot(
    uuid: str,
    index: str,
    profile: str,
    gpu_uuid: str,
    gpu_name: str,
    memory_mib: int,
    share_numerator: int,
    share_denominator: int,
    node: str,
    fault: str,
    device_nodes: tuple[str, ...],
) -> Slot:
    """Make a slot of the columns that the statements above read, in their order."""
    return Slot(
        uuid=uuid,
        index=index,
        profile=profile,
        gpu_uuid=gpu_uuid,
        gpu_name=gpu_name,
        memory_mib=memory_mib,
        share=Fraction(share_numerator, share_denominator),
        node=node,
        fault=fault,
        device_nodes=device_nodes,
    )


def read_slots(connection: sa.Connection, node: str | None = None) -> tuple[Slot, ...]:
    """Return the slots that are present, of one node or of all."""
    rows = connection.execute(SLOTS) if node is None else connection.execute(SLOTS_OF_NODE, {"node": node})
    return tuple(make_slot(*row) for row in rows)


def read_known_slots(connection: sa.Connection, node: str) -> dict[str, tuple[Slot, bool]]:
    """Return all slots that the node ever had by UUID, and whether each is present."""
    rows = connection.execute(KNOWN_SLOTS_OF_NODE, {"node": node})
    return {row.uuid: (make_slot(*row[:-1]), row.present) for row in rows}


def read_pool(connection: sa.Connection, node: str) -> tuple[tuple[Slot, ...], dict[str, datetime | None]]:
    """Return the node's present slots, and when the lease of each taken one ends; both of one moment.

    The end is at the latest: of a held lease its deadline, else that of its server's run time, None
    where there is none.
    """
    rows = connection.execute(POOL_OF_NODE, {"node": node}).all()
    present = tuple(make_slot(*row[:-5]) for row in rows if row[-5])
    ends = {
        row[0]: row.deadline if row.state is LeaseState.HELD else row.runs_until
        for row in rows
        if row[-1] is not None
    }
    return present, ends


def read_marks(connection: sa.Connection, node: str) -> tuple[Mark, ...]:
    """Return the marks on the node's slots, the oldest first."""
    return tuple(
        Mark(
            slot=row.slot_uuid,
            kind=MarkKind(row.kind),
            why=row.why,
            who=row.who,
            since=row.since,
            node=row.node,
        )
        for row in connection.execute(MARKS, {"node": node})
    )


def read_reservations(connection: sa.Connection, node: str) -> tuple[Reservation, ...]:
    """Return the node's reservations, the first to start first."""
    return tuple(
        Reservation(
            user=row.user_name,
            start=row.starts_at,
            end=row.ends_at,
            gpus=row.gpus,
            reason=row.reason,
            devices=row.devices,
        )
        for row in connection.execute(RESERVATIONS, {"node": node})
    )


def read_queue(connection: sa.Connection, node: str) -> tuple[QueueEntry, ...]:
    """Return the spawns that wait on a node, the first to be served first."""
    return tuple(
        QueueEntry(
            id=row.id,
            wish=GpuWish(
                user=row.user_name,
                profile=row.gpu_profile,
                count=row.gpu_count,
                requested_at=row.requested_at,
                allow_full_gpu=row.allow_full_gpu,
                priority=row.priority,
                runs_until=row.runs_until,
                takes=Resources(cpus=row.cpus, memory=row.memory, pids=row.pids),
            ),
            server=row.server_name,
            container_name=row.container_name,
            entered_at=row.entered_at,
            owner=row.owner,
            node=row.node,
        )
        for row in connection.execute(QUEUE, {"node": node})
    )


def read_holdings(connection: sa.Connection, user: str) -> Holdings:
    """Return what the user's live leases sum up to."""
    rows = connection.execute(HOLDINGS_OF_USER, {"user": user}).all()
    shares = [Fraction(numerator, denominator) for *_, numerator, denominator in rows if denominator]
    # One row per slot, each with all that its lease takes.
    takes = {row.id: Resources(cpus=row.cpus, memory=row.memory, pids=row.pids) for row in rows}
    return Holdings(
        containers=len(takes),
        slots=len(shares),
        gpu_share=sum(shares, Fraction(0)),
        takes=sum(takes.values(), NO_RESOURCES),
    )


def read_leases(connection: sa.Connection, statement: sa.Select[Any], **values: object) -> Iterator[Lease]:
    """Yield leases with their slots, the oldest first; one statement, so that both are of one moment."""
    for _, rows in groupby(connection.execute(statement, values).all(), key=lambda row: row.id):
        yield _make_lease(tuple(rows))


def _make_lease(rows: Sequence[sa.Row[Any]]) -> Lease:
    """Make a lease of its joined rows: one per slot, or one without a slot."""
    first = rows[0]
    held = [row for row in rows if row.slot_uuid is not None]
    shares = (Fraction(row.share_numerator, row.share_denominator) for row in held)
    return Lease(
        id=first.id,
        nonce=first.nonce,
        user=first.user_name,
        server=first.server_name,
        container_name=first.container_name,
        state=first.state,
        slots=tuple(row.slot_uuid for row in held),
        share=sum(shares, Fraction(0)),
        created_at=first.created_at,
        deadline=first.deadline,
        container_id=first.container_id,
        fingerprint=first.fingerprint,
        group=first.group_name,
        owner=first.owner,
        ending=first.ending,
        runs_until=first.runs_until,
        takes=Resources(cpus=first.cpus, memory=first.memory, pids=first.pids),
        node=first.node,
    )
