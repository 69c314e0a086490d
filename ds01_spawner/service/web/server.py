"""The HTTP server: a thread with an event loop of its own, beside the loop that keeps all in agreement."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyterhub.services.auth import HubOAuth
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from ...adapters.hub import HubClient
from ...site import DS01
from ...templating import template_directory
from ..settings import Address
from .containers import Containers
from .desk import Desk
from .doors import HubDoor, SocketDoor
from .handlers import (
    AllServers,
    Callback,
    Health,
    Metrics,
    Nothing,
    OneServer,
    Rooms,
    ServerExtension,
    Turns,
)
from .lab import AllGpus, LeaseExtension, LeaseStop, SlotDrain, SlotUndrain
from .local import LocalServer, listen, make_local_application
from .open_form import Availability, Dockerfile, Preview
from .outlook import Outlook
from .page import Page, StaticFile
from .shells import Shells, opening

log = logging.getLogger(__name__)

# Each call is a few reads of the ledger.
_CALLS_AT_ONCE = 4
# Each waits for a container, or for the Hub to start one.
_ENDS_AT_ONCE = 16
# What one person asks beyond that waits, and keeps nobody else from being answered.
_TURNS_OF_ONE = 2
# So long a token that was revoked still counts: not each poll of a page shall ask the Hub.
_KNOWN_SECONDS = 60
_BOUNDS: dict[str, Any] = {"max_body_size": 64 * 1024, "body_timeout": 10}
_PAUSE_SECONDS = 0.5


@contextmanager
def serving(
    site: DS01, address: Address | None, stop: threading.Event, hub: HubClient | None = None
) -> Iterator[None]:
    """Answer at the site's socket, and at `address` unless it is None, while the body runs.

    Ends when `stop` is set. Without a `hub` nobody can start or stop anything at the socket.

    Raises:
        Exception: what made it fail; `stop` was set then, so that the body ends.
    """
    failures = list[BaseException]()

    def run() -> None:
        try:
            asyncio.run(_serve(site, address, stop, hub))
        # It is not swallowed: it is raised when the body has ended.
        except BaseException as exc:
            failures.append(exc)
            stop.set()

    web = threading.Thread(target=run, name="web")
    web.start()
    try:
        yield
    finally:
        stop.set()
        web.join()
    if failures:
        raise failures[0]


async def _serve(site: DS01, address: Address | None, stop: threading.Event, hub: HubClient | None) -> None:
    with (
        ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="ds01-web") as pool,
        ThreadPoolExecutor(_ENDS_AT_ONCE, thread_name_prefix="ds01-web-ends") as ends,
    ):
        desk, outlook = Desk(site, hub), Outlook(site)
        at_socket = Rooms(
            door=SocketDoor(site, hub, pool),
            hub_auth=None,
            desk=desk,
            outlook=outlook,
            pool=pool,
            ends=ends,
            turns=Turns(_TURNS_OF_ONE),
        )
        shells = Shells(opening(site))
        application = make_local_application(at_socket, Containers(site, hub), shells)
        local = LocalServer(application, **_BOUNDS)
        listen(local, Path(site.socket_path))
        log.info("answering at %s", site.socket_path)
        servers: list[HTTPServer] = [local]
        if address is not None:
            hub_auth = _open_auth(address)
            at_proxy = replace(at_socket, door=HubDoor(hub_auth), hub_auth=hub_auth)
            servers.append(await _open(at_proxy, address, stop))
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        for server in servers:
            server.stop()
        await shells.close()
        for server in servers:
            await server.close_all_connections()


async def _open(rooms: Rooms, address: Address, stop: threading.Event) -> HTTPServer:
    """Return the server behind the Hub's proxy, as soon as its address is free."""
    sockets = await _bind(address, stop)
    server = HTTPServer(make_application(rooms, address.token), **_BOUNDS)
    server.add_sockets(sockets)
    if sockets:
        log.info("answering at %s, behind %s", address.url, address.prefix)
    return server


async def _bind(address: Address, stop: threading.Event) -> list[socket.socket]:
    """Return the sockets of an address as soon as it is free: an older service may still be ending.

    Raises:
        OSError: it cannot be listened at.
    """
    is_told = False
    while not stop.is_set():
        try:
            return bind_sockets(address.port, address.host)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
        if not is_told:
            log.warning("another program listens at %s; waiting until it ends", address.url)
            is_told = True
        await asyncio.sleep(_PAUSE_SECONDS)
    return []


def _open_auth(address: Address) -> HubOAuth:
    return HubOAuth(
        api_url=address.api_url,
        api_token=address.token,
        base_url=address.prefix,
        hub_prefix=address.hub_prefix,
        oauth_client_id=address.client_id,
        access_scopes=set(address.scopes),
        cache_max_age=_KNOWN_SECONDS,
    )


def make_application(rooms: Rooms, token: str) -> Application:
    """Return the application below the prefix that the Hub's proxy sends here; `token` is the service's."""
    shared = {"rooms": rooms}
    assert rooms.hub_auth is not None
    prefix = re.escape(rooms.hub_auth.base_url)
    handlers = (
        ("", Page),
        ("oauth_callback", Callback),
        ("api/health", Health),
        ("api/servers", AllServers),
        ("api/servers/([^/]+)", OneServer),
        ("api/servers/([^/]+)/extend", ServerExtension),
        ("api/gpus", AllGpus),
        ("api/leases/([0-9]{1,9})/stop", LeaseStop),
        ("api/leases/([0-9]{1,9})/extend", LeaseExtension),
        ("api/slots/([^/]+)/drain", SlotDrain),
        ("api/slots/([^/]+)/undrain", SlotUndrain),
        ("api/availability", Availability),
        ("api/preview", Preview),
        ("api/dockerfile", Dockerfile),
        ("metrics", Metrics),
    )
    static = (f"{prefix}static/(.*)", StaticFile, {"path": str(template_directory() / "static")})
    return Application(
        [static, *((f"{prefix}{path}", handler, shared) for path, handler in handlers)],
        default_handler_class=Nothing,
        default_handler_args=shared,
        # Derived, so that people stay signed in when the service is started anew.
        cookie_secret=hashlib.sha256(b"cookies of the service ds01:" + token.encode()).digest(),
        # What goes wrong is logged where it does; pages ask again and again.
        log_function=lambda _handler: None,
    )
