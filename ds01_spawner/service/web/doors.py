"""Through which door a request comes, and who it lets in: the Hub's tokens, or the kernel's word.

The kernel says which UID is at the other end of the Unix socket; nothing in a request counts beside that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Protocol

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError, RequestHandler

from ...adapters.hub import HubClient
from ...adapters.peers import Peer
from ...errors import AccountRefused, HubUnavailable
from ...site import DS01
from .access import ADMIN_SCOPES, Caller, Kind, read_caller

if TYPE_CHECKING:
    from .handlers import Handler

ENTRY = "access:services"
ROOT = "root"
_NAMES_SECONDS = 60


class Door(Protocol):
    """Where requests come in: who has one of `scopes` may enter, and `closed` is said to nobody."""

    scopes: frozenset[str]
    closed: str

    def identify(self, handler: Handler) -> Awaitable[Caller | None]:
        """Return who asks, None for nobody.

        Raises:
            DS01Error: it cannot be said, or she has no account here.
        """


class HubDoor:
    """The way through the Hub's proxy: a token of the Hub's says who it is."""

    closed = "Sign in to the Hub first, or send one of your tokens in the header."

    def __init__(self, hub_auth: HubOAuth) -> None:
        self._hub_auth = hub_auth
        self.scopes = frozenset(hub_auth.access_scopes)

    async def identify(self, handler: RequestHandler) -> Caller | None:
        """Ask the Hub, without blocking."""
        try:
            model = await self._hub_auth.get_user(handler, sync=False)
        except HTTPError as exc:
            raise HubUnavailable(
                "The Hub cannot say who you are just now. Please try again in a minute, and tell your admin "
                "if it stays so."
            ) from exc
        return None if model is None else read_caller(model)


class SocketDoor:
    """The Unix socket: the account of the process at its other end, with what it may at the Hub."""

    closed = "Nobody is at the other end."
    scopes = frozenset({ENTRY})

    def __init__(self, site: DS01, hub: HubClient | None, pool: Executor) -> None:
        self._site = site
        self._hub = hub
        self._pool = pool
        self._names: dict[str, list[str]] = {}
        self._names_at = float("-inf")

    async def identify(self, handler: Handler) -> Caller | None:
        """Return the user of the Hub whose account it is, or root."""
        connection: Any = handler.request.connection
        peer = connection.stream.peer
        if isinstance(peer, AccountRefused):
            raise peer
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self._find_caller, peer, handler.needs_groups
        )

    def _find_caller(self, peer: Peer, needs_groups: bool) -> Caller:
        if peer.uid == 0:
            return Caller(name=ROOT, kind=Kind.ROOT, scopes=self.scopes | ADMIN_SCOPES)
        login = self._site.find_login(peer.uid)
        if not login:
            raise AccountRefused(
                f"There is no account with your UID {peer.uid} on this server. Ask your admin to create one.",
                detail=f"no account of UID {peer.uid} in {self._site.accounts}",
            )
        # It refuses accounts of the system, as at each start.
        self._site.find_account(login)
        name = self._name(login)
        scopes = self.scopes | (ADMIN_SCOPES if self._site.is_admin(login) else frozenset())
        user = self._hub.user(name) if needs_groups and self._hub is not None else None
        return Caller(name=name, kind=Kind.USER, scopes=scopes, groups=user.groups if user else ())

    def _name(self, login: str) -> str:
        """Return how the Hub names who has this login."""
        if self._site.login_name is None:
            return login
        if self._hub is None:
            raise HubUnavailable("The Hub cannot say who you are there. Please tell your admin.")
        if login not in self._names or time.monotonic() > self._names_at + _NAMES_SECONDS:
            names: dict[str, list[str]] = {}
            for name in self._hub.user_names():
                names.setdefault(self._site.log_in_as(name), []).append(name)
            self._names, self._names_at = names, time.monotonic()
        found = self._names.get(login, [])
        if len(found) != 1:
            many = f"several users of the Hub have your login: {', '.join(sorted(found))}"
            what = many if found else "nobody at the Hub has your login yet"
            raise AccountRefused(
                f"You cannot be found at the Hub, since {what}. Sign in there, or ask your admin."
            )
        return found[0]
