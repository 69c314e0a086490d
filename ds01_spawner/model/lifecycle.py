"""The time of a server: what is seen of it, what is remembered, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the time of one user's servers is looked after; the defaults are DS01's where it has the key.

    A server is quiet while each full GPU of it is used by less than `gpu_idle_percent`, it uses at most
    `cpu_idle_percent` of one CPU, and receives and sends at most `network_idle_bytes` a minute. It is idle
    once `idle_window` checks in a row found it so, none of them within `grace` after its start.

    `high_demand_share` of the slots taken, or somebody who waits, is high demand (None: never), and
    multiplies the idle timeout by `high_demand_factor`. A file `.keep-alive` holds for `keep_alive` after
    it was touched (None: for ever). Nothing is stopped sooner than `warning_lead` after it was said. Run
    time is extended by `max_extension` at once at most, `max_extensions` times (None: without a limit).
    `stop_grace` is the time between SIGTERM and SIGKILL.
    """

    gpu_idle_percent: float = 5
    cpu_idle_percent: float = 2
    network_idle_bytes: int = 2**20
    idle_window: int = 3
    grace: timedelta = timedelta(minutes=30)
    high_demand_share: float | None = 0.8
    high_demand_factor: float = 0.5
    keep_alive: timedelta | None = timedelta(hours=24)
    warning_lead: timedelta = timedelta(minutes=10)
    max_extension: timedelta | None = timedelta(hours=4)
    max_extensions: int | None = 2
    stop_grace: timedelta = timedelta(seconds=60)


class Cause(str, Enum):
    """Why a server is to be stopped."""

    IDLE = "idle"
    RUN_TIME = "run-time"


class Activity(str, Enum):
    """What one check found: the first of these that holds.

    `starting`, `gpu`, `shell`, `cpu`, `network` and `hub` are uses of the server. `unknown` is that somebody
    did not answer, `unwatched` that there is no check before it to go on from, `too-soon` that the last
    one has only just been.
    """

    STARTING = "starting"
    GPU = "gpu"
    SHELL = "shell"
    UNKNOWN = "unknown"
    UNWATCHED = "unwatched"
    TOO_SOON = "too-soon"
    CPU = "cpu"
    NETWORK = "network"
    HUB = "hub"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """How one slot is used now; None where NVML gave no answer.

    `slot` is the UUID. `processes` counts the compute processes, `utilisation_percent` is that of a full
    GPU: a MIG instance has none. `memory_used_mib` is what is used of the slot's memory.
    """

    slot: str
    profile: str
    processes: int | None = None
    utilisation_percent: float | None = None
    memory_used_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One check of one running server; None where nobody answered, but for `keep_alive`.

    `started_at`, `cpu_seconds` (CPU time used), `network_bytes` (received and sent) and `shells` (those
    opened over SSH that are live) are Docker's, the middle two counted since the container's start.
    `last_activity` is the Hub's. `keep_alive` is when `.keep-alive` was touched, None where there is none.
    """

    at: datetime
    started_at: datetime | None = None
    uses: tuple[SlotUse, ...] = ()
    cpu_seconds: float | None = None
    network_bytes: int | None = None
    shells: int | None = None
    last_activity: datetime | None = None
    keep_alive: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How much the slots of one server's kind are wanted: those there are, those taken, starts that wait."""

    total: int = 0
    taken: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A warning that was given at `at`: the server ends at `ends_at`.

    `percent` is how much of its run time was over, 0 for idleness. `is_sooner` is whether it ends sooner
    than usual, since others want its slots.
    """

    cause: Cause
    at: datetime
    ends_at: datetime
    percent: int = 0
    is_sooner: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """Run time granted at `at` to `who` asked for it, `reason` said why; it ends at `until` then."""

    at: datetime
    until: datetime
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is remembered of one lease from check to check; as JSON it loses nothing.

    The last check was at `looked_at`, and there was no gap between checks since `watched_since`.
    `checked_at`, `cpu_seconds` and `network_bytes` are of the last one that saw everything. It was quiet
    from `idle_since` on (None: it is in use), which `idle_checks` checks in a row have found. `notices`
    are the warnings that hold. `keep_alive` is when `.keep-alive` was touched, `keep_alive_seen_at` when
    that was first seen. Until `paused_until` an admin lets it be idle.
    """

    looked_at: datetime | None = None
    watched_since: datetime | None = None
    checked_at: datetime | None = None
    cpu_seconds: float | None = None
    network_bytes: int | None = None
    idle_since: datetime | None = None
    idle_checks: int = 0
    notices: tuple[Notice, ...] = ()
    extensions: tuple[Extension, ...] = ()
    keep_alive: datetime | None = None
    keep_alive_seen_at: datetime | None = None
    paused_until: datetime | None = None


class Step(str, Enum):
    """What is to be done."""

    WARN = "warn"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One thing to do now: tell the student `sentence`, and for `STOP` stop the server.

    `ends_at` is when the server ends. `reason` is a short slug for history and metrics.
    """

    step: Step
    cause: Cause
    ends_at: datetime
    reason: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """When a server ends if nothing changes.

    `run_until` is by its run time, None for no limit. `idle_since` and `idle_until` are None while it is in
    use; `idle_until` is None too where idleness does not end it. `warnings` are those that hold.
    """

    run_until: datetime | None = None
    idle_since: datetime | None = None
    idle_until: datetime | None = None
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What one check comes to: what it found, what to remember, what to do, and what to show."""

    activity: Activity
    watch: Watch
    decisions: tuple[Decision, ...]
    time_left: TimeLeft
