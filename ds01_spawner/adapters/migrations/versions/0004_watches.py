"""What is remembered of a lease from check to check, and when it ends if nothing changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "watches",
        sa.Column("lease_id", sa.Integer, sa.ForeignKey("leases.id"), primary_key=True),
        sa.Column("watch", sa.JSON, nullable=False),
        sa.Column("time_left", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("watches")
