"""What the pending page tells: the steps of one spawn, readable from the beginning by each listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Progress:
    """The messages of one spawn; told from any thread, listened to on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[dict[str, object]] = []
        self._changed = asyncio.Event()
        self._percent = 0

    def tell(self, message: str, *, percent: int | None = None) -> None:
        """Add a message; without `percent` the bar creeps on a little, up to 60."""
        self._loop.call_soon_threadsafe(self._add, message, percent)

    def _add(self, message: str, percent: int | None) -> None:
        self._percent = max(self._percent, percent if percent is not None else min(60, self._percent + 3))
        self._events.append({"progress": self._percent, "message": message})
        self._changed.set()
        self._changed = asyncio.Event()

    async def listen(self) -> AsyncIterator[dict[str, object]]:
        """Yield all messages so far, then each new one, without end: the Hub cancels it."""
        seen = 0
        while True:
            changed = self._changed
            for event in self._events[seen:]:
                # The Hub writes into what it gets.
                yield dict(event)
                seen += 1
            if seen == len(self._events):
                await changed.wait()
