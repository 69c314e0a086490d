"""Images: what was built, how that went, and who used what when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "builds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("reused", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
        sa.CheckConstraint("outcome IN ('built', 'failed', 'given up')", name="build_outcome_is_known"),
    )
    op.create_index("ix_builds_tag", "builds", ["tag"])
    op.create_index("ix_builds_ended_at", "builds", ["ended_at"])
    op.create_table(
        "image_uses",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("user_name", sa.Text, primary_key=True),
        sa.Column("last_used_at", _TIME, nullable=False),
    )


def downgrade() -> None:
    for table in ("image_uses", "builds"):
        op.drop_table(table)
