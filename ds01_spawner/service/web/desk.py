"""What the handlers ask of the site; each call blocks, and names people as the Hub does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from prometheus_client import generate_latest

from ... import form
from ...adapters.hub import HubClient
from ...core.admin import MarkChange
from ...core.overview import is_allocated
from ...core.servers import ServerView
from ...errors import DS01Error, HubUnavailable, InventoryUnavailable, LimitsBroken, RequestRefused
from ...metrics import REFUSALS, Asked
from ...model import Lease, LeaseState, SlotUse
from ...site import DS01
from .access import Caller
from .answers import MoreTime, write_server, write_time
from .collector import Reading, open_registry
from .gpus import LabView, Sight, write_lab

log = logging.getLogger(__name__)

_MOST_EVENTS = 30
# Many pages that look at the same time cost one reading.
_USES_SECONDS = 5


class Desk:
    """Asks the core on behalf of who has been let in; a `hub` is told of servers that were ended here."""

    def __init__(self, site: DS01, hub: HubClient | None = None) -> None:
        self._site = site
        self._hub = hub
        self._uses = Uses(site.read_uses)
        self._registry = open_registry(self._read)

    def list(self, user: str | None) -> tuple[ServerView, ...]:
        """Return the servers of a user, or of all."""
        login = None if user is None else self._site.log_in_as(user)
        return self._site.core.servers.list(login)

    def find(self, user: str, name: str) -> ServerView | None:
        """Return a server of a user by its name."""
        return self._site.core.servers.find(self._site.log_in_as(user), name)

    def extend(self, user: str, name: str, asked: timedelta, who: str) -> ServerView | None:
        """Give a server of a user more run time; a refusal is counted."""
        try:
            return self._site.core.servers.extend(self._site.log_in_as(user), name, asked, who)
        except DS01Error as exc:
            REFUSALS.labels(Asked.EXTENSION.value, exc.reason).inc()
            raise

    def write_status(self, user: str | None) -> dict[str, object]:
        """Return what a user has and waits for, as JSON has it; nothing for who is no user of the Hub."""
        if user is None:
            return {"user": None, "servers": [], "queue": []}
        login = self._site.log_in_as(user)
        return {
            "user": user,
            "servers": [write_server(view) for view in self._site.core.servers.list(login)],
            "queue": self._write_queue(login),
        }

    def _write_queue(self, login: str) -> Sequence[dict[str, object]]:
        # A shell asks at each login; when it should be whose turn costs a view of the whole lab.
        if not any(one.wish.user == login for one in self._site.core.admin.queue()):
            return []
        person = self._site.core.admin.person(login)
        return [
            {
                "name": one.entry.container_name.partition("._.")[0],
                "profile": one.entry.wish.profile,
                "count": one.entry.wish.count,
                "position": one.position,
                "length": person.queue_length,
                "expected_at": write_time(one.expected_at),
            }
            for one in person.queue
        ]

    def write_limits(self, user: str, groups: tuple[str, ...]) -> dict[str, object]:
        """Return what a user may have and has, as JSON has it; `holdings` are sentences."""
        person = self._site.core.admin.person(self._site.log_in_as(user), groups)
        allowed, held = person.limits, person.holdings
        return {
            "user": user,
            "group": allowed.group,
            "containers": {"used": held.containers, "allowed": allowed.containers},
            "slots": {"used": held.slots, "allowed": allowed.slots},
            "holdings": list(form.describe_holdings(allowed, held)),
        }

    # the lab ---------------------------------------------------------------------------------------

    def look(self, caller: Caller) -> dict[str, object]:
        """Return all GPUs, the queue and what happened as JSON has it, as far as somebody may see it."""
        core, sight = self._site.core, self.sight(caller)
        view = LabView(
            seen=core.admin.overview(),
            servers={one.lease.id: one for one in self._find_servers(sight)},
            uses=self._uses.read(),
            events=core.admin.history(limit=_MOST_EVENTS) if sight.everything else (),
            known=core.admin.known_slots() if sight.everything else {},
        )
        return write_lab(view, sight)

    def _find_servers(self, sight: Sight) -> tuple[ServerView, ...]:
        if not sight.everything and not sight.login:
            return ()
        try:
            return self._site.core.servers.list(None if sight.everything else sight.login)
        except LimitsBroken as exc:
            # Whose servers may have more time is not known then; all else is.
            log.warning("the lab is shown without what the limits say: %s", exc.detail or exc)
            return ()

    def sight(self, caller: Caller) -> Sight:
        """Return what somebody sees of the lab."""
        return Sight(
            login=self._site.log_in_as(caller.name) if caller.is_user else "",
            everything=caller.may_see_all(),
            names=self._site.show_user_names,
            manages=caller.may_manage(),
        )

    def find_lease(self, number: int) -> Lease | None:
        """Return a live lease by its number."""
        found = self._site.core.admin.lease(number)
        return found if found is not None and found.state.is_live else None

    def stop(self, lease: Lease, caller: Caller, reason: str) -> bool:
        """End a lease with all that runs in it; returns whether it is over by now.

        Raises:
            RequestRefused: it has ended already.
            EngineUnavailable: its container cannot be removed now.
        """
        core, who = self._site.core, caller.signature
        if self.sight(caller).owns(lease.user):
            ended = f"stopped by {who} on the lab's page{f': {reason}' if reason else ''}"
            after = core.leases.settle(lease.id, ended=ended)
            is_over = after is None or not after.state.is_live
        else:
            is_over = core.admin.release(str(lease.id), who=who, reason=reason, force=True).is_over
        if self._hub is not None and not is_allocated(lease):
            self._tell(self._hub, lease)
        return is_over

    def _tell(self, hub: HubClient, lease: Lease) -> None:
        """Let the Hub see that a server has ended; by itself it looks twice a minute."""
        core = self._site.core
        try:
            for one in hub.servers():
                if (self._site.log_in_as(one.user), one.server) != (lease.user, lease.server):
                    continue
                # It may have been started anew meanwhile, and then it is nobody's business here.
                is_new = any(view.lease.server == lease.server for view in core.servers.list(lease.user))
                is_starting = one.pending == "spawn" and lease.state is not LeaseState.PENDING
                if not is_new and not is_starting:
                    hub.stop(one.user, one.server)
        except (HubUnavailable, RequestRefused) as exc:
            log.warning("the Hub is not told that %s has ended: %s", lease.container_name, exc.detail or exc)

    def extend_lease(self, lease: Lease, caller: Caller, asked: MoreTime) -> None:
        """Give the server of a lease more run time; a refusal is counted."""
        try:
            if is_allocated(lease):
                raise RequestRefused(
                    "This was given by an admin until a fixed time. Ask for it to be given anew."
                )
            self._site.core.lifetimes.extend(lease.id, asked.time, caller.signature, asked.reason)
        except DS01Error as exc:
            REFUSALS.labels(Asked.EXTENSION.value, exc.reason).inc()
            raise

    def drain(self, name: str, caller: Caller, reason: str) -> tuple[MarkChange, ...]:
        """Hand out a slot, or a GPU's, no more."""
        return self._site.core.admin.drain(name, who=caller.signature, reason=reason)

    def undrain(self, name: str, caller: Caller, reason: str) -> tuple[MarkChange, ...]:
        """Hand out a slot, or a GPU's, again."""
        return self._site.core.admin.undrain(name, who=caller.signature, reason=reason)

    # the service -----------------------------------------------------------------------------------

    def check_health(self) -> None:
        """Pass if GPUs can be handed out.

        Raises:
            LedgerUnavailable, InventoryUnavailable: they cannot, and why.
        """
        self._site.core.offers.inventory()

    def write_metrics(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return generate_latest(self._registry)

    def _read(self) -> Reading:
        core = self._site.core
        return core.admin.census(), core.lifetimes.time_left()


class Uses:
    """How slots are used, as `read` says, asked for every few seconds at most; from any thread."""

    def __init__(self, read: Callable[[], tuple[SlotUse, ...]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._known: Mapping[str, SlotUse] = {}
        self._read_at = float("-inf")

    def read(self) -> Mapping[str, SlotUse]:
        """Return the use of each slot by its UUID; nothing where nobody can say it."""
        with self._lock:
            if time.monotonic() >= self._read_at + _USES_SECONDS:
                try:
                    self._known = {use.slot: use for use in self._read()}
                except InventoryUnavailable as exc:
                    log.debug("how the GPUs are used is not seen: %s", exc.detail or exc)
                    self._known = {}
                self._read_at = time.monotonic()
            return self._known
