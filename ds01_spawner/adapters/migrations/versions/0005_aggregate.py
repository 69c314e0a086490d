"""What each server takes of CPUs, memory and processes, so that it can be added up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TABLES = ("leases", "queue")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("cpus", sa.Double))
        op.add_column(table, sa.Column("memory", sa.BigInteger))
        op.add_column(table, sa.Column("pids", sa.BigInteger))


def downgrade() -> None:
    for table in _TABLES:
        for column in ("pids", "memory", "cpus"):
            op.drop_column(table, column)
