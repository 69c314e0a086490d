"""What people see of running servers and ask for them: which there are, how long they have, more time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from .. import lifecycle
from ..model import Lease, LeaseState, Slot, TimeLeft, Watch
from .leases import Leases
from .lifetimes import Lifetimes
from .offers import Offers
from .overview import is_allocated

if TYPE_CHECKING:
    from ..adapters.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """One server that has a live lease, as its user sees it.

    `name` is what she calls it, the NAME of its container; `warnings` say in sentences what
    `time_left.warnings` mean. `may_extend` is whether she may ask for more run time at all.
    """

    lease: Lease
    name: str
    slots: tuple[Slot, ...]
    time_left: TimeLeft
    warnings: tuple[str, ...]
    may_extend: bool


class Servers:
    """The servers with a live lease: they start, run, or are held. What an admin allocated is none."""

    def __init__(self, *, ledger: Ledger, offers: Offers, leases: Leases, lifetimes: Lifetimes) -> None:
        self._ledger = ledger
        self._offers = offers
        self._leases = leases
        self._lifetimes = lifetimes

    def list(self, user: str | None = None) -> tuple[ServerView, ...]:
        """Return the servers of one user or of all, the oldest first.

        Raises:
            LedgerUnavailable, LimitsBroken: what there is, or what she may, cannot be read.
        """
        return self._view(self._ledger.live_leases(user))

    def find(self, user: str, name: str) -> ServerView | None:
        """Return a user's server by the name that she calls it, None if it has no live lease."""
        return next((view for view in self.list(user) if view.name == name), None)

    def extend(self, user: str, name: str, asked: timedelta, who: str) -> ServerView | None:
        """Give a server more run time since `who` asked for it, and return it as it is then.

        None if it has no live lease.

        Raises:
            RequestRefused, LimitExceeded: as `Lifetimes.extend` says.
        """
        view = self.find(user, name)
        if view is None:
            return None
        self._lifetimes.extend(view.lease.id, asked, who)
        return self.find(user, name)

    def _view(self, leases: Iterable[Lease]) -> tuple[ServerView, ...]:
        mine = [lease for lease in leases if not is_allocated(lease)]
        if not mine:
            return ()
        known = {slot.uuid: slot for slot in self._ledger.known_slots()}
        watches = self._ledger.watches()
        return tuple(
            self._describe(
                lease,
                tuple(known[uuid] for uuid in lease.slots if uuid in known),
                *watches.get(lease.id, (Watch(), TimeLeft(run_until=lease.runs_until))),
            )
            for lease in mine
        )

    def _describe(self, lease: Lease, slots: tuple[Slot, ...], watch: Watch, left: TimeLeft) -> ServerView:
        policy, now = self._offers.limits_for(lease.user, (lease.group,)).policy, self._leases.now()
        if lease.state is not LeaseState.ACTIVE:
            # What was seen of one that is held is from before its stop.
            left = TimeLeft(run_until=lease.runs_until)
        return ServerView(
            lease=lease,
            name=lease.container_name.partition("._.")[0],
            slots=slots,
            time_left=left,
            warnings=tuple(lifecycle.describe(notice, watch, policy, now) for notice in left.warnings),
            may_extend=left.run_until is not None and lifecycle.may_extend(watch, policy),
        )
