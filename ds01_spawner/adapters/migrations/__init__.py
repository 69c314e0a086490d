"""The ledger's tables and the steps that make them, shipped with the package.

`schema` is what the code reads and writes today; `versions/` holds one frozen step per change. A
step is never edited after a release: a change is a new step.
"""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

# alembic keeps its context in a module: two threads that migrate at once would share it.
_ONE_AT_A_TIME = threading.Lock()


def upgrade(connection: Connection) -> None:
    """Bring the database behind `connection` to the newest step, in the caller's transaction.

    Raises:
        alembic.util.CommandError: the database was written by a newer version of this package.
        sqlalchemy.exc.SQLAlchemyError: the database refused.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, "head")
