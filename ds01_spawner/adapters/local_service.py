"""The service at its Unix socket, as the `ds01` command asks it: JSON over HTTP, and streams of events.

Who asks is known to the service by the kernel; nothing is sent for that. It starts quickly, since a shell
asks at each login.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import DS01Error, NoContainer, RequestRefused, ServiceUnavailable, SiteBroken

SOCKET = "/run/ds01/ds01.sock"
AWAY = (
    "The service of DS01 does not answer on this machine. Your containers run on; try again in a minute, and "
    "tell your admin if it stays so."
)
# A start answers when the Hub does, after ten seconds as shipped; what is asked besides takes less.
_SECONDS = 120.0

Query = Mapping[str, str]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float | None) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class LocalService:
    """The service at the socket `path`.

    Each call may raise ServiceUnavailable, and what the service says: NoContainer; RequestRefused, what was
    asked cannot be; SiteBroken, it could not be done now.
    """

    def __init__(self, path: str = SOCKET, *, seconds: float = _SECONDS) -> None:
        self.path = path
        self._seconds = seconds

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """Return what is at an address."""
        return self._ask("GET", path, query, None)

    def post(
        self, path: str, query: Query | None = None, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Change something, and return the answer."""
        return self._ask("POST", path, query, body)

    def follow(self, path: str, query: Query | None = None) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream until it ends."""
        with self._translated():
            connection = _Connection(self.path, None)
            try:
                answer = self._send(connection, "GET", path, query, None)
                if answer.status != http.client.OK:
                    raise read_refusal(answer.status, answer.read())
                for line in answer:
                    if line.startswith(b"data:"):
                        yield json.loads(line[len(b"data:") :])
            finally:
                connection.close()

    def _ask(
        self, method: str, path: str, query: Query | None, body: Mapping[str, object] | None
    ) -> dict[str, Any]:
        with self._translated():
            connection = _Connection(self.path, self._seconds)
            try:
                answer = self._send(connection, method, path, query, body)
                content = answer.read()
            finally:
                connection.close()
            if answer.status >= http.client.BAD_REQUEST:
                raise read_refusal(answer.status, content)
            found: dict[str, Any] = json.loads(content)
            return found

    def _send(
        self,
        connection: _Connection,
        method: str,
        path: str,
        query: Query | None,
        body: Mapping[str, object] | None,
    ) -> http.client.HTTPResponse:
        target = f"/api/{path}" + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, target, content)
        return connection.getresponse()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as exc:
            raise ServiceUnavailable(AWAY, detail=f"{self.path}: {exc or type(exc).__name__}") from exc
        except ValueError as exc:
            raise ServiceUnavailable(AWAY, detail=f"{self.path}: cannot read the answer ({exc})") from exc


def name_path(name: str, verb: str = "") -> str:
    """Return the address of a container, or of something about it."""
    return f"containers/{quote(name, safe='')}" + (f"/{verb}" if verb else "")


def read_refusal(status: int, content: bytes) -> DS01Error:
    """Return what the service answered in place of what was asked for, as an error of the kind that it is."""
    try:
        found = json.loads(content)
        message, reason = str(found["message"]), str(found["reason"])
    except (KeyError, TypeError, ValueError) as exc:
        return ServiceUnavailable(AWAY, detail=f"cannot read the answer: {exc}")
    if reason == NoContainer.reason:
        return NoContainer(message)
    kind = SiteBroken if status >= http.client.INTERNAL_SERVER_ERROR else RequestRefused
    error: DS01Error = kind(message)
    error.reason, error.status_code = reason, status
    return error
