"""The ledger's tables as they are after the newest step, and how a slot becomes a row.

The database itself keeps the invariants: one live lease per slot and one per container name are
partial unique indexes, a lease's slots must exist, a state is one of four. `pool` is one row; every
write transaction bumps its `epoch` first, which lets one writer in at a time on SQLite and
PostgreSQL alike. Times are UTC; a share is two integers, since it must be exact. `nodes` says when the
GPUs of each were read last, and `slots` what was found. What a server takes of CPUs, memory in bytes and
processes is NULL where that is unlimited, or was never written down.
"""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa

from ...model import LeaseState, Resources, Slot

metadata = sa.MetaData()

# Written out as in the indexes: SQLite uses a partial index only where a query repeats its condition.
_NOT_RELEASED = "state != 'released'"


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A timezone-aware UTC `datetime`; SQLite would drop the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no timezone")
        return value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


class Words(sa.types.TypeDecorator[tuple[str, ...]]):
    """Words without white space in them, stored with one blank between two."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else " ".join(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(value.split())


class StateText(sa.types.TypeDecorator[LeaseState]):
    """A `LeaseState`, stored as its value."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: LeaseState | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> LeaseState | None:
        return None if value is None else LeaseState(value)


pool = sa.Table(
    "pool",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="pool_is_one_row"),
)

slots = sa.Table(
    "slots",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("uuid", sa.Text, primary_key=True),
    sa.Column("slot_index", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("gpu_uuid", sa.Text, nullable=False),
    sa.Column("gpu_name", sa.Text, nullable=False),
    sa.Column("memory_mib", sa.Integer, nullable=False),
    sa.Column("share_numerator", sa.Integer, nullable=False),
    sa.Column("share_denominator", sa.Integer, nullable=False),
    sa.Column("fault", sa.Text, nullable=False),
    sa.Column("device_nodes", Words, nullable=False, server_default=""),
    sa.Column("present", sa.Boolean, nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("nonce", sa.Text, nullable=False, unique=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("server_name", sa.Text, nullable=False),
    sa.Column("group_name", sa.Text, nullable=False),
    sa.Column("container_name", sa.Text, nullable=False),
    sa.Column("container_id", sa.Text),
    sa.Column("state", StateText, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("deadline", UtcDateTime),
    sa.Column("owner", sa.Text, nullable=False, server_default=""),
    sa.Column("ending", sa.Text, nullable=False, server_default=""),
    sa.Column("runs_until", UtcDateTime),
    sa.Column("released_at", UtcDateTime, index=True),
    sa.Column("cpus", sa.Double),
    sa.Column("memory", sa.BigInteger),
    sa.Column("pids", sa.BigInteger),
    sa.CheckConstraint("state IN ('pending', 'active', 'held', 'released')", name="lease_state_is_known"),
    # An id stands in the Hub's state: it must never come back for another lease.
    sqlite_autoincrement=True,
)
sa.Index(
    "one_live_lease_per_container",
    leases.c.node,
    leases.c.container_name,
    unique=True,
    sqlite_where=sa.text(_NOT_RELEASED),
    postgresql_where=sa.text(_NOT_RELEASED),
)
sa.Index(
    "live_leases_of_user",
    leases.c.user_name,
    sqlite_where=sa.text(_NOT_RELEASED),
    postgresql_where=sa.text(_NOT_RELEASED),
)

lease_slots = sa.Table(
    "lease_slots",
    metadata,
    sa.Column("lease_id", sa.Integer, sa.ForeignKey("leases.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("slot_uuid", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("share_numerator", sa.Integer, nullable=False),
    sa.Column("share_denominator", sa.Integer, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.ForeignKeyConstraint(["node", "slot_uuid"], ["slots.node", "slots.uuid"]),
)
sa.Index(
    "one_live_lease_per_slot",
    lease_slots.c.node,
    lease_slots.c.slot_uuid,
    unique=True,
    sqlite_where=sa.text("live = 1"),
    postgresql_where=sa.text("live"),
)

lease_events = sa.Table(
    "lease_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("lease_id", sa.Integer, sa.ForeignKey("leases.id"), index=True),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False, index=True),
    sa.Column("why", sa.Text, nullable=False),
)

slot_marks = sa.Table(
    "slot_marks",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("slot_uuid", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.CheckConstraint(
        "kind IN ('external', 'contested', 'unhealthy', 'drained')", name="mark_kind_is_known"
    ),
)

queue = sa.Table(
    "queue",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("container_name", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("server_name", sa.Text, nullable=False),
    sa.Column("gpu_profile", sa.Text, nullable=False),
    sa.Column("gpu_count", sa.Integer, nullable=False),
    sa.Column("allow_full_gpu", sa.Boolean, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("requested_at", UtcDateTime, nullable=False),
    sa.Column("runs_until", UtcDateTime),
    sa.Column("entered_at", UtcDateTime, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("cpus", sa.Double),
    sa.Column("memory", sa.BigInteger),
    sa.Column("pids", sa.BigInteger),
    sa.UniqueConstraint("node", "container_name", name="one_place_per_container"),
    # An id may stand in somebody's plan: it must not come back for another place.
    sqlite_autoincrement=True,
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("starts_at", UtcDateTime, nullable=False),
    sa.Column("ends_at", UtcDateTime, nullable=False),
    sa.Column("gpus", Words, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("devices", Words, nullable=False),
)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("read_at", UtcDateTime, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("gpus", sa.JSON, nullable=False),
)

builds = sa.Table(
    "builds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("tag", sa.Text, nullable=False, index=True),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime, nullable=False, index=True),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("reused", sa.Integer, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("log", sa.Text, nullable=False),
    sa.CheckConstraint("outcome IN ('built', 'failed', 'given up')", name="build_outcome_is_known"),
)

image_uses = sa.Table(
    "image_uses",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("user_name", sa.Text, primary_key=True),
    sa.Column("last_used_at", UtcDateTime, nullable=False),
)

watches = sa.Table(
    "watches",
    metadata,
    sa.Column("lease_id", sa.Integer, sa.ForeignKey("leases.id"), primary_key=True),
    sa.Column("watch", sa.JSON, nullable=False),
    sa.Column("time_left", sa.JSON, nullable=False),
)

IS_LIVE = leases.c.state != sa.literal_column("'released'")


def to_row(slot: Slot) -> dict[str, object]:
    """Return the columns of `slots` that a reading of the hardware fills."""
    return {
        "node": slot.node,
        "uuid": slot.uuid,
        "slot_index": slot.index,
        "profile": slot.profile,
        "gpu_uuid": slot.gpu_uuid,
        "gpu_name": slot.gpu_name,
        "memory_mib": slot.memory_mib,
        "share_numerator": slot.share.numerator,
        "share_denominator": slot.share.denominator,
        "fault": slot.fault,
        "device_nodes": slot.device_nodes,
    }


def takes_to_row(takes: Resources) -> dict[str, object]:
    """Return the columns of `leases` and `queue` that say what a server takes."""
    return {"cpus": takes.cpus, "memory": takes.memory, "pids": takes.pids}
