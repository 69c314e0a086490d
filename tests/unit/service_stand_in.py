"""A service at a Unix socket that answers as a table says, for what `ds01` makes of the answers."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread
from typing import Any

NO_CONTAINER = (404, {"message": "There is no such container.", "reason": "no-container"})


class StandIn(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers each `METHOD path` with a status and JSON, or a list of events; keeps what was posted.

    `after` are the answers that change by a post. What is in `hanging` is not answered; `reached` is set
    when it is asked for.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = str(path)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.after: dict[str, dict[str, tuple[int, Any]]] = {}
        self.hanging: set[str] = set()
        self.reached, self.ends = Event(), Event()
        self.posted: list[tuple[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].removeprefix("/api/")
        self.server.posted.append((path, json.loads(content) if content else None))
        self.server.answers |= self.server.after.get(path, {})
        self._answer("POST")

    def _answer(self, method: str) -> None:
        path = self.path.partition("?")[0].removeprefix("/api/")
        if f"{method} {path}" in self.server.hanging:
            self.server.reached.set()
            self.server.ends.wait()
            return
        status, body = self.server.answers.get(f"{method} {path}", NO_CONTAINER)
        lines = (
            [f"data: {json.dumps(one)}\n\n" for one in body] if isinstance(body, list) else [json.dumps(body)]
        )
        content = "".join(lines).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "local"


@contextmanager
def stand_in(folder: Path) -> Iterator[StandIn]:
    """Run a service at a socket in a folder."""
    with StandIn(folder / "s") as service:
        thread = Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service
        service.ends.set()
        service.shutdown()
        thread.join()
