"""The first tables: pool, slots, leases, lease_slots, lease_events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_NOT_RELEASED = sa.text("state != 'released'")


def upgrade() -> None:
    _create_pool()
    _create_slots()
    _create_leases()
    _create_lease_slots()
    _create_lease_events()


def downgrade() -> None:
    for table in ("lease_events", "lease_slots", "leases", "slots", "pool"):
        op.drop_table(table)


def _create_pool() -> None:
    pool = op.create_table(
        "pool",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="pool_is_one_row"),
    )
    op.bulk_insert(pool, [{"id": 1, "epoch": 0}])


def _create_slots() -> None:
    op.create_table(
        "slots",
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
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
    )


def _create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("nonce", sa.Text, nullable=False, unique=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("server_name", sa.Text, nullable=False),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("container_name", sa.Text, nullable=False),
        sa.Column("container_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("deadline", _TIME),
        sa.CheckConstraint("state IN ('pending', 'active', 'held', 'released')", name="lease_state_is_known"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "one_live_lease_per_container",
        "leases",
        ["node", "container_name"],
        unique=True,
        sqlite_where=_NOT_RELEASED,
        postgresql_where=_NOT_RELEASED,
    )
    op.create_index(
        "live_leases_of_user",
        "leases",
        ["user_name"],
        sqlite_where=_NOT_RELEASED,
        postgresql_where=_NOT_RELEASED,
    )


def _create_lease_slots() -> None:
    op.create_table(
        "lease_slots",
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
    op.create_index(
        "one_live_lease_per_slot",
        "lease_slots",
        ["node", "slot_uuid"],
        unique=True,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )


def _create_lease_events() -> None:
    op.create_table(
        "lease_events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("lease_id", sa.Integer, sa.ForeignKey("leases.id")),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_index("ix_lease_events_lease_id", "lease_events", ["lease_id"])
    op.create_index("ix_lease_events_at", "lease_events", ["at"])
