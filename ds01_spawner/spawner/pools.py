"""The pools of a Hub's calls, in place of DockerSpawner's one thread; builds have their own.

Short calls have one, and the starts and ends of containers, which take Docker and the server in it their
time, another: however many of those are under way, what is short does not wait for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, ParamSpec, TypeVar

from traitlets.config import LoggingConfigurable

from ..core import Core
from ..site import DS01

P = ParamSpec("P")
T = TypeVar("T")


class PooledCalls(LoggingConfigurable):
    """Runs what blocks in threads, and knows which calls of this server are under way."""

    _site: ClassVar[DS01 | None] = None
    _short_pool: ClassVar[ThreadPoolExecutor | None] = None
    _long_pool: ClassVar[ThreadPoolExecutor | None] = None
    _opened_core: ClassVar[Core | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._calls: set[Future[Any]] = set()

    @property
    def site(self) -> DS01:
        """The site's settings and rooms, one for all servers of the Hub."""
        cls = type(self)
        if cls._site is None:
            cls._site = DS01(config=self.config)
            # What the rooms log stands in the Hub's log, in its form.
            logging.getLogger("ds01_spawner").parent = self.log
        return cls._site

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The pool of short calls, in place of DockerSpawner's one thread."""
        cls = type(self)
        if cls._short_pool is None:
            cls._short_pool = ThreadPoolExecutor(self.site.docker_pool_size, thread_name_prefix="ds01-call")
        return cls._short_pool

    @property
    def long_executor(self) -> ThreadPoolExecutor:
        """The pool in which containers are started and ended."""
        cls = type(self)
        if cls._long_pool is None:
            cls._long_pool = ThreadPoolExecutor(self.site.docker_pool_size, thread_name_prefix="ds01-long")
        return cls._long_pool

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a short blocking call; what is under way when we are cancelled is awaited before settling."""
        return await asyncio.wrap_future(self._submit(function, *args, **kwargs))

    async def _call_long(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what starts or ends a container; else as `_call`."""
        return await asyncio.wrap_future(self._submit_to(self.long_executor, function, *args, **kwargs))

    def _submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a short blocking call that nobody here waits for."""
        return self._submit_to(self.executor, function, *args, **kwargs)

    def _submit_to(
        self, pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        future = pool.submit(function, *args, **kwargs)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    async def _core(self) -> Core:
        """Return the site's use cases; the first time that opens the ledger, in a thread."""
        cls = type(self)
        if cls._opened_core is None:
            cls._opened_core = await self._call(lambda: self.site.core)
        return cls._opened_core

    async def _calls_done(self) -> None:
        while self._calls:
            await asyncio.wait([asyncio.ensure_future(_outcome(call)) for call in tuple(self._calls)])


async def _outcome(call: Future[Any]) -> None:
    """Wait until a call is over, however it ends."""
    await asyncio.wait([asyncio.wrap_future(call)])


async def result_of(future: Future[T]) -> T:
    """Wait for a future that others wait for too: to be cancelled here does not cancel it."""
    wrapped = asyncio.wrap_future(future)
    # Whoever stops waiting leaves its exception to the others.
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait([wrapped])
    return wrapped.result()
