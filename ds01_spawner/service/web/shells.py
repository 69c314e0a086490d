"""The shells that are open through the service: whose, how many there may be, and the threads they take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from ...adapters.engine import Shell
from ...errors import LimitExceeded, NoContainer, RequestRefused, ServiceUnavailable
from ...model import LeaseState
from ...site import DS01

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MOST_SHELLS, MOST_OF_ONE = 32, 8
# One reads, one may have to wait until its input is read, one hangs up.
_THREADS_OF_ONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellWish:
    """What is asked for: a command (a shell where it is empty), and its terminal, or none."""

    tty: bool
    columns: int
    rows: int
    term: str
    command: tuple[str, ...]


class Opening(Protocol):
    """What opens shells; it blocks."""

    def __call__(self, user: str, name: str, wish: ShellWish) -> Shell:
        """Open one in the container `name` of a user of the Hub, or raise an error of ours."""


def opening(site: DS01) -> Opening:
    """Return what opens shells in the containers of active servers, each as who owns it."""

    def open_shell(user: str, name: str, wish: ShellWish) -> Shell:
        login = site.log_in_as(user)
        view = site.core.servers.find(login, name)
        if view is None:
            raise NoContainer("You have no container of this name. See which you have: ds01 container list")
        lease = view.lease
        if lease.state is not LeaseState.ACTIVE or lease.ending or lease.container_id is None:
            raise RequestRefused(f"Your container {view.name} does not run now. Start it first.")
        shell = site.engine.open_shell(
            lease.container_id,
            account=site.find_account(login),
            command=wish.command or ("bash",),
            environment={"TERM": wish.term} if wish.tty else {},
            tty=wish.tty,
            size=(wish.columns, wish.rows),
        )
        log.info("%s has a shell in %s", user, lease.container_name)
        return shell

    return open_shell


class Shells:
    """Opens shells, of which so many may be open in all and for one user; used by one event loop.

    What blocks runs in threads of its own, so that no shell keeps other requests waiting.
    """

    def __init__(self, opening: Opening, *, most: int = MOST_SHELLS, most_of_one: int = MOST_OF_ONE) -> None:
        self._opening = opening
        self._most, self._most_of_one = most, most_of_one
        self._pool = ThreadPoolExecutor(_THREADS_OF_ONE * most, thread_name_prefix="ds01-shell")
        self._seats: dict[asyncio.Event, tuple[str, Callable[[], None]]] = {}
        self._is_closed = False

    @contextmanager
    def seat(self, user: str, end: Callable[[], None]) -> Iterator[None]:
        """Count one more shell of a user for the body, which shall end soon after `end` is called.

        Raises:
            LimitExceeded: she has as many as she may.
            ServiceUnavailable: so have all together, or the service ends.
        """
        self._check(user)
        is_over = asyncio.Event()
        self._seats[is_over] = (user, end)
        try:
            yield
        finally:
            del self._seats[is_over]
            is_over.set()

    def _check(self, user: str) -> None:
        if self._is_closed:
            raise ServiceUnavailable("The service of DS01 is being stopped. Please try again in a minute.")
        if sum(owner == user for owner, _ in self._seats.values()) >= self._most_of_one:
            raise LimitExceeded(
                f"You have {self._most_of_one} shells open, which is the most. Leave one of them first."
            )
        if len(self._seats) >= self._most:
            raise ServiceUnavailable(
                f"{self._most} shells are open on this server, which is the most. Please try again later."
            )

    async def open(self, user: str, name: str, wish: ShellWish) -> Shell:
        """Open a shell; who gets it hangs it up.

        Raises:
            DS01Error: it cannot be opened, or the service ends.
        """
        shell = await self.run(self._opening, user, name, wish)
        if self._is_closed:
            await self.run(shell.hang_up)
            raise ServiceUnavailable("The service of DS01 is being stopped. Please try again in a minute.")
        return shell

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def close(self) -> None:
        """End all shells, and open no more; no thread of theirs is left then."""
        self._is_closed = True
        seats = dict(self._seats)
        for _, end in seats.values():
            end()
        await asyncio.gather(*(is_over.wait() for is_over in seats))
        self._pool.shutdown()
