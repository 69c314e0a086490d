"""The addresses of the service, each with who may ask there and what she gets."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import responses
from typing import Any, ParamSpec, TypeVar

from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from prometheus_client import CONTENT_TYPE_LATEST
from tornado.web import HTTPError, RequestHandler

from ...core.servers import ServerView
from ...errors import DS01Error
from .access import Caller
from .answers import read_extension, write_server
from .desk import Desk
from .doors import Door
from .outlook import Outlook

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_ASKED_AGAIN = "Please try again in a minute, and tell your admin if it stays so."


class Turns:
    """Lets each caller have so many calls run at once; more of hers wait, and nobody else does for that.

    Used by one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, asyncio.Semaphore] = {}
        self._wanted: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, caller: Caller | None) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for the body."""
        key = "" if caller is None else f"{caller.kind.value} {caller.name}"
        turn = self._running.setdefault(key, asyncio.Semaphore(self._most))
        self._wanted[key] += 1
        try:
            async with turn:
                yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key], self._running[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What all handlers share; the desk's calls run in `pool`, those that wait for containers in `ends`.

    `hub_auth` is there where the Hub's proxy is the way here.
    """

    door: Door
    hub_auth: HubOAuth | None
    desk: Desk
    outlook: Outlook
    pool: Executor
    ends: Executor
    turns: Turns


class Refused(HTTPError):
    """A request that is answered with a sentence and a short word for programs; `detail` is for the log."""

    def __init__(self, status_code: int, message: str, slug: str, *, detail: str = "") -> None:
        super().__init__(status_code, message)
        self.message = message
        self.slug = slug
        self.detail = detail


def refuse(error: DS01Error) -> Refused:
    """Return an error of ours as the answer to a request."""
    return Refused(error.status_code, error.message, error.reason, detail=error.detail)


class Handler(HubOAuthenticated, RequestHandler):  # type: ignore[misc]
    """Knows who asks before anything else happens, and answers in JSON; `caller` is None for nobody.

    A cookie alone changes nothing: who has no token in the header has to send the XSRF token, which the
    Hub's own module checks before it takes the cookie.
    """

    caller: Caller | None = None
    needs_groups = False
    """Whether the answer depends on the Hub's groups of who asks."""

    def initialize(self, rooms: Rooms) -> None:
        """Take what is shared."""
        self.rooms = rooms
        self.hub_auth = rooms.hub_auth

    def set_default_headers(self) -> None:
        """Let nobody keep, frame or guess at an answer."""
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.set_header("Cache-Control", "private, no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    async def prepare(self) -> None:
        """Find out who it is, without blocking; then nothing asks once more."""
        try:
            self.caller = await self.rooms.door.identify(self)
        except DS01Error as exc:
            raise refuse(exc) from exc
        # Tornado would ask for it where it is not set.
        self.current_user = self.caller

    def require_caller(self) -> Caller:
        """Return who asks, once it is known that she may enter the service."""
        if self.caller is None:
            raise Refused(403, self.rooms.door.closed, "sign-in")
        if self.caller.scopes.isdisjoint(self.rooms.door.scopes):
            raise Refused(403, "This token may not enter the service ds01. Ask your admin for it.", "scope")
        return self.caller

    def find_user(self, may: Callable[[Caller, str], bool]) -> str | None:
        """Return whose servers are meant, None for a service that names nobody: it has none of its own."""
        caller = self.require_caller()
        user = self.get_query_argument("user", None)
        if user is None:
            return caller.name if caller.is_user else None
        if not may(caller, user):
            raise Refused(403, "The servers of others are for admins.", "not-allowed")
        return user

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks in the pool; an error of ours is the answer."""
        return await self._call_in(self.rooms.pool, lambda: function(*args, **kwargs))

    async def call_long(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what waits for a container, where short calls do not wait for it."""
        return await self._call_in(self.rooms.ends, lambda: function(*args, **kwargs))

    async def _call_in(self, pool: Executor, function: Callable[[], T]) -> T:
        try:
            async with self.rooms.turns.take(self.caller):
                return await asyncio.get_running_loop().run_in_executor(pool, function)
        except DS01Error as exc:
            raise refuse(exc) from exc

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer `{"message": …, "reason": …}`, whatever went wrong."""
        error = (kwargs.get("exc_info") or (None, None))[1]
        if isinstance(error, Refused):
            self.finish({"message": error.message, "reason": error.slug})
        elif status_code >= 500:
            self.finish({"message": f"The service failed. {_ASKED_AGAIN}", "reason": "error"})
        else:
            phrase = responses.get(status_code, "refused")
            slug = phrase.lower().replace(" ", "-")
            self.finish({"message": f"The service does not answer this: {phrase.lower()}.", "reason": slug})

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log what went wrong here; pages ask again and again, and a refusal is nothing to look after."""
        if not isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        elif value.status_code >= 500:
            detail = value.detail if isinstance(value, Refused) else value.log_message
            log.error("%s is answered with %d: %s", self.request.path, value.status_code, detail or value)

    def answer(self, view: ServerView | None) -> None:
        """Answer with one server."""
        if view is None:
            raise Refused(404, "No server of this name runs, starts or is held.", "no-server")
        self.write(write_server(view))


class Callback(Handler, HubOAuthCallbackHandler):  # type: ignore[misc]
    """`/oauth_callback`: where the Hub sends a browser that has signed in."""


class AllServers(Handler):
    """`/api/servers`: one's own servers, or with `?all=1` everybody's."""

    async def get(self) -> None:
        """Answer with a list; with the same ETag as long as nothing changed."""
        caller = self.require_caller()
        if self.get_query_argument("all", "") not in ("", "0"):
            if not caller.may_see_all():
                raise Refused(403, "The servers of others are for admins.", "not-allowed")
            views = await self.call(self.rooms.desk.list, None)
        else:
            user = self.find_user(Caller.may_see)
            views = () if user is None else await self.call(self.rooms.desk.list, user)
        self.write({"servers": [write_server(view) for view in views]})


class OneServer(Handler):
    """`/api/servers/NAME`."""

    async def get(self, name: str) -> None:
        """Answer with one's own server, or with that of `?user=`."""
        user = self.find_user(Caller.may_see)
        self.answer(None if user is None else await self.call(self.rooms.desk.find, user, name))


class ServerExtension(Handler):
    """`/api/servers/NAME/extend`."""

    async def post(self, name: str) -> None:
        """Give one's own server more run time, or that of `?user=`, and answer with it."""
        user, caller = self.find_user(Caller.may_change), self.require_caller()
        try:
            asked = read_extension(self.request.body)
        except DS01Error as exc:
            raise refuse(exc) from exc
        found = None
        if user is not None:
            found = await self.call(self.rooms.desk.extend, user, name, asked, caller.name)
        self.answer(found)


class Health(Handler):
    """`/api/health`: open to all, since it tells nothing of anybody."""

    async def prepare(self) -> None:
        """Ask nobody who it is."""

    async def get(self) -> None:
        """Answer 200 if GPUs can be handed out, else 503 with the sentence that students read."""
        await self.call(self.rooms.desk.check_health)
        self.write({"status": "ok"})


class Metrics(Handler):
    """`/metrics`: for Prometheus."""

    async def get(self) -> None:
        """Answer in Prometheus' text format."""
        if not self.require_caller().may_read_metrics():
            raise Refused(403, "Metrics need a token with the scope read:metrics.", "scope")
        body = await self.call(self.rooms.desk.write_metrics)
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.write(body)


class Nothing(Handler):
    """Every other address."""

    async def prepare(self) -> None:
        """Answer 404 to all methods."""
        raise Refused(404, "There is nothing at this address.", "not-found")
