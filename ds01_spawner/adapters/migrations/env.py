"""What alembic runs to migrate; the connection is handed over by `upgrade`."""

from __future__ import annotations

from alembic import context

from ds01_spawner.adapters.migrations.schema import metadata

# The caller's transaction holds all steps, so a step that fails leaves nothing; alembic would
# otherwise assume that SQLite cannot do that.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True
)
context.run_migrations()
