"""Leases, the queue for them, and their history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from fractions import Fraction

from .gpus import LOCAL_NODE
from .limits import NO_RESOURCES, UNLIMITED, Resources


class LeaseState(str, Enum):
    """pending → active → (held) → released."""

    PENDING = "pending"
    ACTIVE = "active"
    HELD = "held"
    RELEASED = "released"

    @property
    def is_live(self) -> bool:
        return self is not LeaseState.RELEASED


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one server to run, and to its slots.

    `slots` are the UUIDs (none for a CPU-only server); `share` is the sum of their shares.
    `server` is the Hub's name of the server ("" is the default server). `nonce` stands on the
    container as a label, so that a create that outlived its caller is found. `deadline` is when a
    pending lease expires, or when a held one ends; an active one has none. `owner` is the process
    that starts the server (`adapters.processes`), "" for none. `ending` says why the lease is being
    ended, "" while it is not: once set, nothing makes it active again. `runs_until` is when the
    server's run time is over, None for no limit. `takes` is what its container takes at most.
    """

    id: int
    nonce: str
    user: str
    server: str
    container_name: str
    state: LeaseState
    slots: tuple[str, ...]
    share: Fraction
    created_at: datetime
    deadline: datetime | None = None
    container_id: str | None = None
    fingerprint: str = ""
    group: str = ""
    owner: str = ""
    ending: str = ""
    runs_until: datetime | None = None
    takes: Resources = UNLIMITED
    node: str = LOCAL_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWish:
    """What somebody wants of the pool, and her place among all who want: the lower `rank`, the sooner.

    `requested_at` is when she asked, not when her image was built; `runs_until` is when the server
    would have to end at the latest, None for no limit; `takes` is what it would take at most.
    """

    user: str
    profile: str
    count: int
    requested_at: datetime
    allow_full_gpu: bool = True
    priority: int = 0
    runs_until: datetime | None = None
    takes: Resources = UNLIMITED

    @property
    def rank(self) -> tuple[int, datetime]:
        return -self.priority, self.requested_at


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One spawn that waits for slots, since `entered_at`; `owner` is the process in which it waits."""

    id: int
    wish: GpuWish
    server: str
    container_name: str
    entered_at: datetime
    owner: str = ""
    node: str = LOCAL_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a user has now: live leases, slots in them, and the sums of GPU shares and of what they take."""

    containers: int = 0
    slots: int = 0
    gpu_share: Fraction = Fraction(0)
    takes: Resources = NO_RESOURCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the history: when, who is concerned (or acted), what happened, and why."""

    id: int
    at: datetime
    kind: str
    who: str
    why: str
    lease_id: int | None = None
    server: str = ""
    slots: tuple[str, ...] = ()
