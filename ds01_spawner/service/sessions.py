"""What a server tells of itself in JupyterLab: written into its container whenever it changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Protocol

from ..core.servers import ServerView
from ..errors import DS01Error
from ..model import Cause, LeaseState, TimeLeft, name_gpu
from ..templating import SESSION_FILE
from .web.answers import write_time, write_warnings

log = logging.getLogger(__name__)

_WRITES_AT_ONCE = 4
# A server that is used now and then is idle in between, which would be written each minute. Only an idle time
# of which so much has passed is told.
_TOLD_FROM = 0.25


def describe_session(view: ServerView, now: datetime) -> dict[str, object]:
    """Return what a server tells of itself, for JSON; the same as long as nothing about it changed."""
    left = view.time_left
    is_idle = _is_idle_for_long(left, now)
    count = len(view.slots)
    gpu = name_gpu(view.slots[0].profile) if count else "no GPU"
    return {
        "name": view.name,
        "server": view.lease.server,
        "gpu": f"{count} × {gpu}" if count > 1 else gpu,
        "slots": [slot.index for slot in view.slots],
        "run_until": write_time(left.run_until),
        "idle_since": write_time(left.idle_since) if is_idle else None,
        "idle_until": write_time(left.idle_until) if is_idle else None,
        "warnings": write_warnings(view),
        "may_extend": view.may_extend,
    }


def _is_idle_for_long(left: TimeLeft, now: datetime) -> bool:
    if left.idle_since is None or left.idle_until is None:
        return False
    is_warned = any(notice.cause is Cause.IDLE for notice in left.warnings)
    return is_warned or now - left.idle_since >= _TOLD_FROM * (left.idle_until - left.idle_since)


class Listing(Protocol):
    """What knows the servers that there are."""

    def list(self) -> tuple[ServerView, ...]:
        """Return those of all users."""


class Writing(Protocol):
    """What writes a file into a container, as its user."""

    def write_as_user(self, container_id: str, path: str, text: str) -> None:
        """Write it, or raise EngineUnavailable."""


class SessionFiles:
    """Writes `SESSION_FILE` in the containers of servers that run, each once for each change.

    One that cannot be written to is tried again at the next call, and keeps no other waiting.
    """

    def __init__(self, servers: Listing, engine: Writing) -> None:
        self._servers = servers
        self._engine = engine
        self._pool = ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="ds01-session")
        self._written: dict[str, str] = {}
        self._under_way: dict[str, Future[None]] = {}
        self._troubled: set[str] = set()

    def write(self, now: datetime) -> None:
        """Begin to write what has changed since it was written last.

        Raises:
            LedgerUnavailable, LimitsBroken: what there is to tell cannot be read.
        """
        running = [
            (view.lease.container_id or "", view) for view in self._servers.list() if _is_running(view)
        ]
        self._forget_others(container_id for container_id, _ in running)
        for container_id, view in running:
            text = json.dumps(describe_session(view, now))
            if container_id in self._under_way or self._written.get(container_id) == text:
                continue
            writing = self._pool.submit(self._write_one, container_id, view.lease.container_name, text)
            self._under_way[container_id] = writing
            writing.add_done_callback(partial(self._end, container_id))

    def _forget_others(self, container_ids: Iterable[str]) -> None:
        present = set(container_ids)
        self._written = {key: text for key, text in self._written.items() if key in present}
        self._troubled &= present

    def _write_one(self, container_id: str, name: str, text: str) -> None:
        try:
            self._engine.write_as_user(container_id, SESSION_FILE, text)
        except DS01Error as exc:
            if container_id not in self._troubled:
                self._troubled.add(container_id)
                log.warning("%s does not show its time: %s; trying again", name, exc.detail or exc)
            return
        self._written[container_id] = text
        self._troubled.discard(container_id)

    def _end(self, container_id: str, _done: Future[None]) -> None:
        self._under_way.pop(container_id, None)


def _is_running(view: ServerView) -> bool:
    lease = view.lease
    return lease.state is LeaseState.ACTIVE and not lease.ending and lease.container_id is not None
