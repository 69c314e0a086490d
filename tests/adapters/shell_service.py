"""The part of the service that relays shells, on a Unix socket of its own, for tests of both its sides."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from docker.models.containers import Container
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application

from ds01_spawner.adapters.engine import DockerEngine, Shell
from ds01_spawner.errors import NoContainer
from ds01_spawner.service.web.access import read_caller
from ds01_spawner.service.web.handlers import Refused
from ds01_spawner.service.web.shell import ShellRelay
from ds01_spawner.service.web.shells import Shells, ShellWish

from .people import HER

PATH = "/api/servers/lab/shell"
SCOPE = "access:services!service=ds01"


@dataclass
class ShellService:
    """Where it listens, who everybody who comes there is, and how many threads its shells have."""

    socket: Path
    user: str = HER.name
    scopes: frozenset[str] = frozenset({SCOPE})
    opened: list[ShellWish] = field(default_factory=list)

    def threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("ds01-shell")]


@contextmanager
def serving_shells(
    socket: Path, engine: DockerEngine, container: Container, **bounds: int
) -> Iterator[ShellService]:
    """Relay shells in the container, the only one that there is, for the body."""
    service, stop, is_up = ShellService(socket=socket), threading.Event(), threading.Event()

    def open_shell(user: str, name: str, wish: ShellWish) -> Shell:
        if (user, name) != (HER.name, "lab"):
            raise NoContainer("You have no container of this name.")
        service.opened.append(wish)
        return engine.open_shell(
            container.id,
            account=HER,
            command=wish.command or ("bash", "--norc"),
            environment={"TERM": wish.term, "PS1": "> "},
            tty=wish.tty,
            size=(wish.columns, wish.rows),
        )

    class Known(ShellRelay):
        async def prepare(self) -> None:
            if not service.user:
                raise Refused(403, "Nobody knows you.", "sign-in")
            found = {"name": service.user, "kind": "user", "scopes": sorted(service.scopes)}
            self.caller = read_caller(found)

    async def serve() -> None:
        shells = Shells(open_shell, **bounds)
        rooms = SimpleNamespace(
            hub_auth=SimpleNamespace(access_scopes={SCOPE}),
            door=SimpleNamespace(scopes={SCOPE}, closed="Nobody knows you."),
        )
        shared = {"rooms": rooms, "shells": shells}
        server = HTTPServer(Application([("/api/servers/([^/]+)/shell", Known, shared)]))
        server.add_socket(bind_unix_socket(str(socket)))
        is_up.set()
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        server.stop()
        await shells.close()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert is_up.wait(30)
        yield service
    finally:
        stop.set()
        thread.join()
