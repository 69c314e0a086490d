"""Which device nodes a container of a slot needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("slots", sa.Column("device_nodes", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("slots", "device_nodes")
