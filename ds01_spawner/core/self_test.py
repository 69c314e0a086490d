"""The self-test of a server that was started: it sees exactly the GPUs of its lease, no more, no less."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import devices
from ..devices import Difference
from ..errors import DS01Error, WrongDevices
from ..model import Lease, Mark, MarkKind
from .leases import Leases
from .offers import STOPPED

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)

SELF_TEST = "self-test"
# Whoever sees what is not hers has no time with it.
_GRACE_SECONDS = 1


class SelfTest:
    """Looks at a container from outside, and takes it and its slots out of use where it sees other GPUs.

    `device_mode` says how GPUs are handed over.
    """

    def __init__(
        self, *, ledger: Ledger, engine: DockerEngine, leases: Leases, device_mode: Callable[[], str]
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._leases = leases
        self._device_mode = device_mode

    def check(self, lease: Lease, container_id: str) -> None:
        """Return if a container sees exactly the GPUs of its lease; one that has ended sees none.

        Raises:
            WrongDevices: it saw others. Slots are drained, and the lease has ended, or does so soon.
            EngineUnavailable: nobody can look.
        """
        visible = self._engine.visible_devices(container_id)
        if visible is None:
            return
        known = self._ledger.known_slots(node=lease.node) if lease.slots else ()
        leased = [slot for slot in known if slot.uuid in lease.slots]
        mode = self._device_mode() if leased else "none"
        found = devices.compare(leased, visible, device_mode=mode)
        if found is not None:
            raise self._end(lease, found, mode)

    def _end(self, lease: Lease, found: Difference, mode: str) -> WrongDevices:
        now, told = self._leases.now(), devices.tell(found)
        why = f"{SELF_TEST} of {lease.container_name}: {devices.explain(found)}"
        # First: what comes free must not be handed out once more.
        for slot in found.suspects:
            mark = Mark(
                slot=slot.uuid, kind=MarkKind.DRAINED, why=why, since=now, who=SELF_TEST, node=slot.node
            )
            self._ledger.mark(mark, kind="drained")
        self._ledger.note(lease, STOPPED, f"Your container {lease.container_name} {told}.", now)
        try:
            self._leases.settle(lease.id, ended=why, grace_seconds=_GRACE_SECONDS)
        except DS01Error as exc:
            log.error("%s cannot be ended yet: %s", lease.container_name, exc.detail or exc)
        again = "Please start again, and tell" if found.leased else "Please tell"
        return WrongDevices(
            f"Your server {told}. {again} your admin.",
            detail=f"{why}; {devices.advise(found, device_mode=mode)}",
        )
