"""The service's loop: look at everything, sleep until something happens or is due, look again."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..adapters import box, nvml
from ..adapters.engine.events import watch
from ..adapters.hub import HubClient
from ..errors import DS01Error, HubUnavailable, RequestRefused
from ..site import DS01
from .images import tend_images
from .sessions import SessionFiles

log = logging.getLogger(__name__)

# After something failed, and while a start or an end is under way, which a kill may leave half done.
_SOON = timedelta(seconds=5)
# Docker reports several events for one stop; they are looked at together.
_GATHER_SECONDS = 0.2
_PRUNE_SECONDS = 3600
# Between two tries to follow a stream that does not come up; the last one is repeated.
_PAUSES_SECONDS = (0.5, 1, 1, 2, 2, 5)
# A server that does not come up must not be asked for again and again.
_ASK_AGAIN_SECONDS = 300
_ASK_AT_ONCE = 3


class Loop:
    """Runs until `stop` is set; `hub` is None where there is no Hub to ask."""

    def __init__(self, site: DS01, hub: HubClient | None, stop: threading.Event) -> None:
        self._site = site
        self._hub = hub
        self._stop = stop
        self._sessions = SessionFiles(site.core.servers, site.engine)
        self._wake = threading.Event()
        self._has_looked = threading.Event()
        self._interval = timedelta(seconds=site.service_interval_seconds)
        self._read_slots_at = self._pruned_at = self._hub_asked_at = float("-inf")
        self._servers_seen_at = float("-inf")
        self._asked: dict[int, float] = {}
        self._owes_hub = False
        self._xids: deque[tuple[str, int]] = deque()
        self._failure: Exception | None = None
        self._problem = ""

    def run(self) -> None:
        """Look, sleep, look again; whatever of the site fails is tried again soon.

        Raises:
            Exception: what nobody foresaw, also in a thread that follows something.
        """
        followed = {"events": self._follow_events, "xids": self._follow_xids, "images": self._tend_images}
        for name, follow in followed.items():
            threading.Thread(target=self._keep_up, args=(follow,), name=name, daemon=True).start()
        while not self._stop.is_set():
            pause = self._look()
            self._has_looked.set()
            deadline = time.monotonic() + pause.total_seconds()
            while not self._stop.is_set() and time.monotonic() < deadline:
                # In short pieces, since only `stop` is set by who ends this.
                if self._wake.wait(min(0.5, max(0.0, deadline - time.monotonic()))):
                    self._stop.wait(_GATHER_SECONDS)
                    break
        if self._failure is not None:
            raise self._failure

    def _look(self) -> timedelta:
        """Look at everything once; returns how long to sleep at most."""
        self._wake.clear()
        problems = []
        for step in (
            self._note_xids,
            self._reconcile,
            self._remove_left_tags,
            self._read_slots,
            self._ask_hub,
            self._look_at_servers,
            self._write_sessions,
            self._prune,
        ):
            try:
                step()
            except DS01Error as exc:
                # One part of the site that is broken must not keep the others from being looked after.
                problems.append(str(exc.detail or exc))
        self._tell_once("; ".join(dict.fromkeys(problems)))
        soon = min(_SOON, self._interval)
        if problems or self._owes_hub:
            return soon
        return self._site.core.upkeep.next_look(self._interval, soon)

    def _tell_once(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.error("%s; trying again", problem)
        elif self._problem and not problem:
            log.info("all is well again")
        self._problem = problem

    def _reconcile(self) -> None:
        self._site.core.upkeep.reconcile()

    def _remove_left_tags(self) -> None:
        self._site.core.upkeep.remove_left_tags()

    def _read_slots(self) -> None:
        now = time.monotonic()
        if now < self._read_slots_at + self._interval.total_seconds():
            return
        self._site.core.upkeep.refresh_slots()
        self._site.core.upkeep.refresh_reservations()
        self._read_slots_at = now

    def _look_at_servers(self) -> None:
        """Look at what running servers do, and warn or stop those whose time is over."""
        if time.monotonic() < self._servers_seen_at + self._interval.total_seconds():
            return
        self._servers_seen_at = time.monotonic()
        self._site.core.lifetimes.look(self._find_last_activity())

    def _write_sessions(self) -> None:
        """Let each running server show what is known of its time."""
        self._sessions.write(datetime.now(timezone.utc))

    def _find_last_activity(self) -> dict[tuple[str, str], datetime] | None:
        """Return when the Hub saw each server used last, None if it cannot be asked."""
        if self._hub is None:
            return None
        try:
            servers = self._hub.servers()
        except HubUnavailable as exc:
            log.warning("nobody is idle while the Hub does not answer: %s", exc.detail)
            return None
        return {
            (self._site.log_in_as(one.user), one.server): one.last_activity
            for one in servers
            if one.last_activity is not None
        }

    def _prune(self) -> None:
        if time.monotonic() >= self._pruned_at + _PRUNE_SECONDS:
            self._site.core.upkeep.prune()
            history = timedelta(days=self._site.history_days)
            self._site.build_logs.prune(datetime.now(timezone.utc) - history)
            self._pruned_at = time.monotonic()

    def _ask_hub(self) -> None:
        """Let the Hub start, and so adopt, the servers whose containers run without its knowledge."""
        hub = self._hub
        if hub is None:
            return
        soon = min(_SOON, self._interval).total_seconds()
        # Docker's events come close together; the Hub is asked once for all of them.
        self._owes_hub = time.monotonic() < self._hub_asked_at + soon
        if self._owes_hub:
            return
        self._hub_asked_at = time.monotonic()

        def list_servers() -> set[tuple[str, str]]:
            return {(self._site.log_in_as(one.user), one.server) for one in hub.servers()}

        forgotten = self._site.core.upkeep.find_forgotten(list_servers)
        self._asked = {lease.id: self._asked[lease.id] for lease in forgotten if lease.id in self._asked}
        waiting = [
            lease
            for lease in forgotten
            if time.monotonic() >= self._asked.get(lease.id, float("-inf")) + _ASK_AGAIN_SECONDS
        ]
        # Each may take the Hub some seconds; the others have their turn at the next look.
        self._owes_hub = len(waiting) > _ASK_AT_ONCE
        names = {self._site.log_in_as(name): name for name in hub.user_names()} if waiting else {}
        for lease in waiting[:_ASK_AT_ONCE]:
            log.info("%s runs and the Hub does not know it: asking for its start", lease.container_name)
            try:
                if lease.user in names:
                    hub.start(names[lease.user], lease.server)
            except RequestRefused as exc:
                log.warning("the Hub does not start %s: %s", lease.container_name, exc)
            self._asked[lease.id] = time.monotonic()

    def _keep_up(self, follow: Callable[[], None]) -> None:
        """Follow a stream, and begin again whenever it ends; what nobody foresaw ends the service."""
        try:
            self._follow(follow)
        # It is not swallowed: `run` raises it.
        except Exception as exc:
            self._failure = exc
            self._stop.set()

    def _follow(self, follow: Callable[[], None]) -> None:
        pauses, told = iter(_PAUSES_SECONDS), ""
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                follow()
            except DS01Error as exc:
                if str(exc.detail or exc) != told:
                    told = str(exc.detail or exc)
                    log.warning("%s; trying again", told)
            self._wake.set()
            if time.monotonic() - began > _PAUSES_SECONDS[-1]:
                pauses, told = iter(_PAUSES_SECONDS), ""
            self._stop.wait(next(pauses, _PAUSES_SECONDS[-1]))

    def _follow_events(self) -> None:
        host = self._site.docker_host
        watch(host, lambda _event: self._wake.set(), stop=self._stop, on_open=self._wake.set)

    def _follow_xids(self) -> None:
        if self._site.inventory == "nvml":
            nvml.listen_for_xids(self._note_xid, stop=self._stop)
        else:
            box.listen_for_xids(Path(self._site.inventory), self._note_xid, stop=self._stop)

    def _tend_images(self) -> None:
        """Look after images now and then, beside the loop: a large one takes its time to go."""
        # What profiles need may depend on the GPUs.
        self._has_looked.wait()
        while not self._stop.is_set():
            try:
                tend_images(self._site)
            except DS01Error as exc:
                log.error("the images have to wait: %s", exc.detail or exc)
            self._stop.wait(_PRUNE_SECONDS)

    def _note_xid(self, gpu_uuid: str, xid: int) -> None:
        self._xids.append((gpu_uuid, xid))
        self._wake.set()

    def _note_xids(self) -> None:
        while self._xids:
            # Taken away only when it is written: NVML tells none twice.
            self._site.core.upkeep.note_xid(*self._xids[0])
            self._xids.popleft()
