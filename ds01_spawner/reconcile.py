"""What has to be mended where ledger and Docker disagree; pure, and the only way a slot becomes free.

Docker is the truth: a lease ends when its container is gone, or has to go. Ours is what the ledger
knows: a container whose id a lease row carries, or which has a pending lease's exact name and nonce.
Labels alone authorise nothing, since `docker commit` copies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from .model import RUNNING_STATES, Container, Lease, LeaseState, Slot


class Action(str, Enum):
    """The steps of a repair, in the order in which `plan` gives them."""

    ADOPT = "adopt"
    HOLD = "hold"
    REMOVE = "remove"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One step: what to do, to which lease and container, until when, and why (for the history)."""

    action: Action
    lease_id: int
    why: str
    container_id: str = ""
    until: datetime | None = None


def is_ours(container: Container, lease: Lease) -> bool:
    """Whether `container` is the one that `lease` stands for."""
    if lease.container_id:
        return container.id == lease.container_id
    return container.name == lease.container_name and container.nonce == lease.nonce


def is_left_over(container: Container, lease: Lease) -> bool:
    """Whether Docker made `container` for `lease` after its start was given up, unheard by anybody.

    Such a lease ended without ever learning a container; the exact name and nonce say whose it was.
    """
    return (
        not lease.state.is_live
        and lease.container_id is None
        and not container.is_running
        and (container.name, container.nonce) == (lease.container_name, lease.nonce)
    )


def is_stale(lease: Lease, state: str | None, now: datetime) -> bool:
    """Whether the clock or the `state` of its container (None: there is none) contradicts a live lease."""
    if lease.deadline is not None and lease.deadline <= now:
        return True
    if lease.state is LeaseState.ACTIVE:
        return state not in RUNNING_STATES
    return lease.state is LeaseState.HELD and state != "exited"


def pinned_slots(devices: Sequence[str], slots: Sequence[Slot]) -> frozenset[str]:
    """Return the UUIDs of the slots that device ids mean, in whatever words a tool gave them.

    A whole GPU, by index or UUID, means every slice on it; `all` means every slot.
    """
    found: set[str] = set()
    for slot in slots:
        names = {slot.uuid, slot.index, slot.gpu_uuid, slot.index.partition(":")[0], "all"}
        if names & set(devices):
            found.add(slot.uuid)
    return frozenset(found)


def plan(
    lease: Lease,
    containers: Sequence[Container],
    now: datetime,
    *,
    hold: timedelta | None = timedelta(0),
    ended: bool = False,
) -> tuple[Repair, ...]:
    """Return what to do so that `lease` agrees with the `containers` that Docker has.

    `hold` is how long a stopped container keeps its lease (None: without end). `ended` says that the
    server is given up: a Hub stop, a failed or a cancelled start; then nothing is held or kept.
    """
    if not lease.state.is_live:
        return ()
    own = [container for container in containers if is_ours(container, lease)]
    if ended:
        return _end(lease, own, "the server was stopped")
    if lease.state is LeaseState.PENDING:
        if lease.deadline is None or now < lease.deadline:
            return ()
        return _end(lease, own, "the start took longer than its deadline")
    if not own:
        return _end(lease, own, "its container is gone")
    running = next((container for container in own if container.is_running), None)
    if running is not None:
        return _adopt(lease, running)
    return _rest(lease, own, now, hold)


def _adopt(lease: Lease, container: Container) -> tuple[Repair, ...]:
    if lease.state is LeaseState.ACTIVE:
        return ()
    why = "its held container runs again"
    return (Repair(action=Action.ADOPT, lease_id=lease.id, container_id=container.id, why=why),)


def _rest(
    lease: Lease, own: Sequence[Container], now: datetime, hold: timedelta | None
) -> tuple[Repair, ...]:
    if lease.state is LeaseState.HELD:
        if lease.deadline is None or now < lease.deadline:
            return ()
        return _end(lease, own, "its hold is over")
    if hold == timedelta(0):
        return _end(lease, own, "its container exited")
    until = None if hold is None else now + hold
    return (Repair(action=Action.HOLD, lease_id=lease.id, until=until, why="its container exited"),)


def _end(lease: Lease, own: Sequence[Container], why: str) -> tuple[Repair, ...]:
    removals = [
        Repair(action=Action.REMOVE, lease_id=lease.id, container_id=container.id, why=why)
        for container in own
    ]
    return (*removals, Repair(action=Action.RELEASE, lease_id=lease.id, why=why))
