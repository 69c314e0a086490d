"""What a service keeps: marks on slots, the queue, reservations, and who owns and ends a lease."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _extend_leases()
    op.create_index("ix_lease_events_who", "lease_events", ["who"])
    _create_slot_marks()
    _create_queue()
    _create_reservations()
    _create_nodes()


def downgrade() -> None:
    for table in ("nodes", "reservations", "queue", "slot_marks"):
        op.drop_table(table)
    op.drop_index("ix_lease_events_who", "lease_events")
    op.drop_index("ix_leases_released_at", "leases")
    for column in ("released_at", "runs_until", "ending", "owner"):
        op.drop_column("leases", column)


def _extend_leases() -> None:
    op.add_column("leases", sa.Column("owner", sa.Text, nullable=False, server_default=""))
    op.add_column("leases", sa.Column("ending", sa.Text, nullable=False, server_default=""))
    op.add_column("leases", sa.Column("runs_until", _TIME))
    op.add_column("leases", sa.Column("released_at", _TIME))
    op.create_index("ix_leases_released_at", "leases", ["released_at"])
    # When it was is not known any more; it was no sooner.
    op.execute("UPDATE leases SET released_at = created_at WHERE state = 'released'")


def _create_slot_marks() -> None:
    op.create_table(
        "slot_marks",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("slot_uuid", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.CheckConstraint(
            "kind IN ('external', 'contested', 'unhealthy', 'drained')", name="mark_kind_is_known"
        ),
    )


def _create_queue() -> None:
    op.create_table(
        "queue",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("container_name", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("server_name", sa.Text, nullable=False),
        sa.Column("gpu_profile", sa.Text, nullable=False),
        sa.Column("gpu_count", sa.Integer, nullable=False),
        sa.Column("allow_full_gpu", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("runs_until", _TIME),
        sa.Column("entered_at", _TIME, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.UniqueConstraint("node", "container_name", name="one_place_per_container"),
        sqlite_autoincrement=True,
    )


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("starts_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("gpus", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("devices", sa.Text, nullable=False),
    )


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("read_at", _TIME, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("gpus", sa.JSON, nullable=False),
    )
