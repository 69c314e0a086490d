"""An extension of the notebook server: serves what the service beside the Hub wrote about this server.

It lies in every container, whatever its image. `GET {base_url}ds01/session` answers with the JSON object of
`/opt/ds01/session.json`, `{}` while there is none, and 304 while it is the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

FILE = Path("/opt/ds01/session.json")
_MOST_BYTES = 64 * 1024


class SessionReader:
    """Reads the file; while it is being written, what it was before."""

    def __init__(self, file: Path = FILE) -> None:
        self._file = file
        self._last: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """Return the file's object, {} if there never was one."""
        try:
            with self._file.open("rb") as file:
                found = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return self._last
        if isinstance(found, dict):
            self._last = found
        return self._last


class SessionHandler(APIHandler):
    """`/ds01/session`: for who may use this server. To ask is no use of it, and keeps it from no idleness."""

    _track_activity = False

    def initialize(self, reader: SessionReader) -> None:
        """Take what reads the file."""
        self._reader = reader

    @web.authenticated
    def get(self) -> None:
        """Answer with the object; Tornado compares its ETag."""
        self.set_header("Cache-Control", "private, no-cache")
        self.finish(json.dumps(self._reader.read()))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "ds01_session"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    path = url_path_join(serverapp.base_url, "ds01", "session")
    serverapp.web_app.add_handlers(".*$", [(path, SessionHandler, {"reader": SessionReader()})])
