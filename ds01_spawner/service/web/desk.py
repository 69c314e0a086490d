"""What the handlers ask of the site; each call blocks, and names people as the Hub does."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client import generate_latest

from ...core.servers import ServerView
from ...errors import DS01Error
from ...metrics import REFUSALS, Asked
from ...site import DS01
from .collector import Reading, open_registry


class Desk:
    """Asks the core on behalf of who has been let in."""

    def __init__(self, site: DS01) -> None:
        self._site = site
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
