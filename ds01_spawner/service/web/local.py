"""The Unix socket: everybody with an account on this machine may ask there, and is who the kernel says.

What one account may hold open is bounded, so that no student keeps others from being answered.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_unix_socket
from tornado.web import Application

from ...adapters.peers import Peer, find_peer
from ...errors import AccountRefused
from .containers import Containers
from .handlers import AllServers, Health, Metrics, Nothing, OneServer, Rooms, ServerExtension
from .lab import AllGpus, LeaseExtension, LeaseStop, SlotDrain, SlotUndrain
from .mine import (
    Adoption,
    AllContainers,
    Check,
    GivingBack,
    Limits,
    Log,
    OneContainer,
    Progress,
    Removal,
    Selection,
    Start,
    Status,
    Stop,
    Use,
)
from .shell import ShellRelay
from .shells import Shells

log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 64
"""So many one account may hold open at once."""


class LocalServer(HTTPServer):
    """Knows of each connection who is at its other end, before anything is read."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Begin with nobody."""
        super().initialize(*args, **kwargs)
        self._open: Counter[int] = Counter()

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Take a connection, or close it at once where one account has too many."""
        try:
            peer: Peer | AccountRefused = find_peer(stream.socket)
        except AccountRefused as exc:
            log.warning("somebody at the socket is refused: %s", exc.detail)
            peer = exc
        uid = peer.uid if isinstance(peer, Peer) else -1
        if self._open[uid] >= _MOST_CONNECTIONS:
            log.warning("UID %d holds %d connections open, so one more is closed", uid, _MOST_CONNECTIONS)
            stream.close()
            return
        self._open[uid] += 1
        opened: Any = stream
        opened.peer = peer
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """Count what is closed no more."""
        peer = server_conn.stream.peer
        self._open[peer.uid if isinstance(peer, Peer) else -1] -= 1
        super().on_close(server_conn)


def make_local_application(rooms: Rooms, containers: Containers, shells: Shells) -> Application:
    """Return the application at the socket; its addresses have no prefix."""
    shared = {"rooms": rooms}
    mine = {"rooms": rooms, "containers": containers}
    handlers = (
        ("api/health", Health, shared),
        ("api/status", Status, mine),
        ("api/limits", Limits, mine),
        ("api/selection", Selection, mine),
        ("api/check", Check, mine),
        ("api/containers", AllContainers, mine),
        ("api/containers/([^/]+)", OneContainer, mine),
        ("api/containers/([^/]+)/start", Start, mine),
        ("api/containers/([^/]+)/progress", Progress, mine),
        ("api/containers/([^/]+)/stop", Stop, mine),
        ("api/containers/([^/]+)/adopt", Adoption, mine),
        ("api/containers/([^/]+)/give-back", GivingBack, mine),
        ("api/containers/([^/]+)/remove", Removal, mine),
        ("api/containers/([^/]+)/log", Log, mine),
        ("api/containers/([^/]+)/shell", ShellRelay, {"rooms": rooms, "shells": shells}),
        ("api/containers/([^/]+)/use", Use, mine),
        ("api/servers", AllServers, shared),
        ("api/servers/([^/]+)", OneServer, shared),
        ("api/servers/([^/]+)/extend", ServerExtension, shared),
        ("api/gpus", AllGpus, shared),
        ("api/leases/([0-9]{1,9})/stop", LeaseStop, shared),
        ("api/leases/([0-9]{1,9})/extend", LeaseExtension, shared),
        ("api/slots/([^/]+)/drain", SlotDrain, shared),
        ("api/slots/([^/]+)/undrain", SlotUndrain, shared),
        ("metrics", Metrics, shared),
    )
    return Application(
        [(f"/{path}", handler, arguments) for path, handler, arguments in handlers],
        default_handler_class=Nothing,
        default_handler_args=shared,
        log_function=lambda _handler: None,
    )


def listen(server: LocalServer, path: Path) -> None:
    """Answer at a Unix socket that every account may connect to; an older one of that path is replaced.

    Its folder is made if missing.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    server.add_socket(bind_unix_socket(str(path), mode=0o666))
