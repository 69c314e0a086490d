"""What the waiting page tells: the steps of one spawn, readable from the beginning by each listener.

An event is a dict for JSON: `progress` (percent) and `message` as JupyterHub wants them, `kind` (`step`,
`build` for a step of the build, `queue` for a place in a queue, `log` for lines of the build's log), `step`
(one of `metrics.SpawnStep`) and `at` (ISO 8601 in UTC). No two have the same `at`, and a later one has a
later `at`, so that a page knows after a reconnect what it has shown. `now` is when it was sent.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

from ..core.builds import LOG_LINES
from ..metrics import SpawnStep

STEP, BUILD, QUEUE, LOG = "step", "build", "queue", "log"
# A build may print thousands of lines a second; they reach the page in so few batches.
LOG_SECONDS = 0.25


class Progress:
    """The messages of one spawn; told from any thread, listened to on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[dict[str, object]] = []
        self._changed = asyncio.Event()
        self._percent = 0
        self._step = SpawnStep.IMAGE
        self._last = datetime.min.replace(tzinfo=timezone.utc)
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._lock = threading.Lock()

    def tell(
        self, message: str, *, percent: int | None = None, kind: str = STEP, step: SpawnStep | None = None
    ) -> None:
        """Add a message; without `percent` the bar creeps on a little, up to 60.

        `step` is the one that begins with it, None for the one that goes on.
        """
        # What was printed before stands before it, what is printed after it behind it.
        self._loop.call_soon_threadsafe(self._add, self._take_lines(), message, percent, kind, step)

    def tell_log(self, line: str) -> None:
        """Add a line of the build's log; only the newest `LOG_LINES` are kept."""
        with self._lock:
            is_first = not self._lines
            self._lines.append(line)
        if is_first:
            self._loop.call_soon_threadsafe(self._loop.call_later, LOG_SECONDS, self._add_waiting_lines)

    @property
    def last_message(self) -> str:
        """What was told last, but for the log; "" before anything was."""
        told = (str(event["message"]) for event in reversed(self._events) if event["kind"] != LOG)
        return next(told, "")

    def _take_lines(self) -> tuple[str, ...]:
        with self._lock:
            lines = tuple(self._lines)
            self._lines.clear()
        return lines

    def _add(
        self, lines: tuple[str, ...], message: str, percent: int | None, kind: str, step: SpawnStep | None
    ) -> None:
        self._add_log(lines)
        self._step = step or self._step
        self._percent = max(self._percent, percent if percent is not None else min(60, self._percent + 3))
        self._append(message, kind)

    def _add_waiting_lines(self) -> None:
        self._add_log(self._take_lines())

    def _add_log(self, lines: tuple[str, ...]) -> None:
        if lines:
            self._append("\n".join(lines), LOG)
            self._forget_old_lines()

    def _append(self, message: str, kind: str) -> None:
        self._last = max(datetime.now(timezone.utc), self._last + timedelta(microseconds=1))
        at = self._last.isoformat(timespec="microseconds")
        self._events.append(
            {
                "progress": self._percent,
                "message": message,
                "kind": kind,
                "step": self._step.value,
                "at": at,
            }
        )
        self._changed.set()
        self._changed = asyncio.Event()

    def _forget_old_lines(self) -> None:
        """Drop the oldest batches of which no line would be shown any more."""
        kept = 0
        for event in reversed([event for event in self._events if event["kind"] == LOG]):
            if kept >= LOG_LINES:
                self._events.remove(event)
            kept += str(event["message"]).count("\n") + 1

    async def listen(self) -> AsyncIterator[dict[str, object]]:
        """Yield all messages so far, then each new one, without end: the Hub cancels it."""
        seen = ""
        while True:
            changed = self._changed
            for event in tuple(self._events):
                if str(event["at"]) > seen:
                    seen = str(event["at"])
                    # The Hub writes into what it gets.
                    yield {**event, "now": datetime.now(timezone.utc).isoformat(timespec="microseconds")}
            if not self._events or str(self._events[-1]["at"]) == seen:
                await changed.wait()
