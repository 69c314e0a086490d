"""A lab on a simulated clock, minute by minute: the people are imagined, the rules are the real ones.

Who gets a slot and who waits is `allocator.decide` within `limits.check`; who is warned and stopped is
`lifecycle.review`, more time is `lifecycle.extend`, and how long a stopped server keeps its slot is
`reconcile.hold_for`. Docker, NVML and the Hub are numbers that follow from what the people do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction

from bench.outcome import Outcome, Start
from bench.students import DAY, HOUR, SLICES, Sitting
from ds01_spawner import allocator, lifecycle, limits, reconcile
from ds01_spawner.allocator import PoolView
from ds01_spawner.errors import LimitExceeded, NothingFree, RequestRefused
from ds01_spawner.model import (
    NO_RESOURCES,
    Cause,
    GpuWish,
    Holdings,
    Lease,
    LeaseState,
    Limits,
    Observation,
    QueueEntry,
    Slot,
    SlotUse,
    Step,
    Watch,
)

MONDAY = datetime(2026, 3, 2, tzinfo=timezone.utc)
PROFILE = "1g.10gb"
QUEUE_PATIENCE = timedelta(minutes=10)
LONGEST_WAIT = 3 * HOUR
CHECK_MINUTES = 1
AWAKE = range(8, 23)
# CPU in percent of one, network in bytes a minute: while somebody or something works, and otherwise.
WORKING, RESTING = (60, 400_000), (0.6, 3_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the lab: what of the limits holds, and when Jupyter ends kernels that do nothing."""

    name: str
    has_idle_timeout: bool
    has_run_time: bool
    kernel_minutes: int | None = None

    def limit(self, allowed: Limits) -> Limits:
        return replace(
            allowed,
            idle_timeout=allowed.idle_timeout if self.has_idle_timeout else None,
            max_runtime=allowed.max_runtime if self.has_run_time else None,
        )


VARIANTS = (
    Variant(name="nothing is stopped", has_idle_timeout=False, has_run_time=False),
    Variant(name="run time", has_idle_timeout=False, has_run_time=True),
    Variant(name="run time and idleness", has_idle_timeout=True, has_run_time=True),
    Variant(
        name="both, and idle kernels ended",
        has_idle_timeout=True,
        has_run_time=True,
        kernel_minutes=HOUR,
    ),
)


@dataclass(slots=True, kw_only=True)
class Server:
    """One server and who is at it: minutes since Monday, None for nobody or nothing."""

    lease: Lease
    watch: Watch
    sitting: Sitting
    started: int
    leaves: int | None = None
    trains_until: int | None = None
    kernel_since: int | None = None
    last_activity: int = 0
    cpu_seconds: float = 0
    network_bytes: float = 0

    @property
    def is_used(self) -> bool:
        return self.leaves is not None or self.trains_until is not None


def make_slots(gpus: int) -> tuple[Slot, ...]:
    return tuple(
        Slot(
            uuid=f"MIG-{gpu}:{place}",
            index=f"{gpu}:{place}",
            profile=PROFILE,
            gpu_uuid=f"GPU-{gpu}",
            gpu_name="NVIDIA A100-SXM4-80GB",
            memory_mib=9728,
            share=Fraction(1, SLICES),
        )
        for gpu in range(gpus)
        for place in range(SLICES)
    )


class Lab:
    """A lab through some days; `allowed` are the limits of each group."""

    def __init__(self, gpus: int, allowed: dict[str, Limits], variant: Variant) -> None:
        self.slots = make_slots(gpus)
        self.variant = variant
        self.allowed = {group: variant.limit(found) for group, found in allowed.items()}
        self.servers: list[Server] = []
        self.queue: list[tuple[QueueEntry, Sitting]] = []
        self.outcome = Outcome()
        self._minute = self._leases = 0

    @property
    def now(self) -> datetime:
        return MONDAY + timedelta(minutes=self._minute)

    def run(self, diary: Iterable[Sitting], days: int) -> Outcome:
        """Let everybody of the diary come and go for so many days."""
        coming = sorted(diary, key=lambda one: one.at, reverse=True)
        for self._minute in range(days * DAY):
            for server in tuple(self.servers):
                self._live(server)
            if self._minute % CHECK_MINUTES == 0:
                for server in tuple(self.servers):
                    self._check(server)
            while coming and coming[-1].at <= self._minute:
                self._sit_down(coming.pop())
            self._serve_queue()
            self._note()
        return self.outcome

    # people ----------------------------------------------------------------------------------------

    def _sit_down(self, sitting: Sitting) -> None:
        hers = [one for one in self.servers if one.lease.user == sitting.user]
        if any(one.leaves is not None for one in hers) or self._waits(sitting.user):
            return
        own = self._find_own(hers, sitting)
        if own is not None:
            self.outcome.found_running.append(self._minute)
            self._begin(own, sitting)
            return
        self._ask(sitting)

    def _waits(self, user: str) -> bool:
        return any(entry.wish.user == user for entry, _ in self.queue)

    def _find_own(self, hers: list[Server], sitting: Sitting) -> Server | None:
        """Return the server of hers that she goes on with: one that rests, or the only one she may have."""
        for one in [one for one in hers if one.lease.state is LeaseState.HELD]:
            # The time of a lease is not given anew by a resume.
            if one.lease.runs_until is not None and one.lease.runs_until <= self.now:
                hers.remove(one)
                self.servers.remove(one)
        resting = [one for one in hers if not one.is_used]
        if resting:
            self._resume(resting[0])
            return resting[0]
        try:
            self._check_limits(sitting)
        except LimitExceeded:
            return hers[0]
        return None if sitting.trains or not hers else hers[0]

    def _resume(self, server: Server) -> None:
        if server.lease.state is LeaseState.HELD:
            server.lease = replace(server.lease, state=LeaseState.ACTIVE, deadline=None)
            server.started, server.cpu_seconds, server.network_bytes = self._minute, 0, 0

    def _check_limits(self, sitting: Sitting) -> None:
        share, allowed = Fraction(1, SLICES), self.allowed[sitting.group]
        held = self._holdings(sitting.user)
        limits.check(allowed, held, slots=1, gpu_share=share, full_gpu=False, takes=NO_RESOURCES)

    def _holdings(self, user: str) -> Holdings:
        number = sum(one.lease.user == user for one in self.servers)
        return Holdings(containers=number, slots=number, gpu_share=Fraction(number, SLICES))

    def _begin(self, server: Server, sitting: Sitting) -> None:
        server.leaves = self._minute + sitting.stays
        server.kernel_since = None
        if server.trains_until is None:
            server.sitting = sitting

    def _live(self, server: Server) -> None:
        """Let one minute pass on a server."""
        sitting = server.sitting
        cpu, network = WORKING if server.is_used else RESTING
        if server.lease.state is LeaseState.HELD:
            if server.lease.deadline is not None and server.lease.deadline <= self.now:
                self.servers.remove(server)
            return
        server.cpu_seconds += cpu / 100 * 60
        server.network_bytes += network
        if server.leaves is not None:
            server.last_activity = self._minute
            if server.leaves <= self._minute:
                server.leaves = None
                if sitting.trains and server.trains_until is None:
                    server.trains_until = self._minute + sitting.trains
                    self.outcome.trained.append(self._minute)
                elif not sitting.trains:
                    self._leave(server)
        elif server.trains_until is not None and server.trains_until <= self._minute:
            server.trains_until = None
            self._leave(server)
        self._end_kernel(server)

    def _leave(self, server: Server) -> None:
        if server.sitting.stops:
            self.servers.remove(server)
        elif server.sitting.keeps_kernel:
            server.kernel_since = self._minute

    def _end_kernel(self, server: Server) -> None:
        longest, since = self.variant.kernel_minutes, server.kernel_since
        if longest is not None and since is not None and self._minute - since >= longest:
            server.kernel_since = None

    # the Hub ---------------------------------------------------------------------------------------

    def _ask(self, sitting: Sitting) -> None:
        allowed = self.allowed[sitting.group]
        runtime = allowed.max_runtime
        self._leases += 1
        wish = GpuWish(
            user=sitting.user,
            profile=PROFILE,
            count=1,
            requested_at=self.now,
            priority=allowed.priority,
            runs_until=None if runtime is None else self.now + runtime,
        )
        name = f"{self._leases}._.{sitting.user}"
        entry = QueueEntry(id=self._leases, wish=wish, server=name, container_name=name, entered_at=self.now)
        self.queue.append((entry, sitting))

    def _serve_queue(self) -> None:
        """Serve whom the rules serve now; whoever has waited too long gives up."""
        for entry, sitting in sorted(self.queue, key=lambda pair: pair[0].wish.rank):
            waited = round((self.now - entry.entered_at) / timedelta(minutes=1))
            slots = self._decide(entry)
            if slots:
                self._start(entry, sitting, slots)
            if slots or waited >= LONGEST_WAIT:
                self.queue.remove((entry, sitting))
                start = Start(
                    user=sitting.user,
                    group=sitting.group,
                    at=self._minute - waited,
                    waited=waited,
                    is_served=bool(slots),
                )
                self.outcome.starts.append(start)

    def _decide(self, entry: QueueEntry) -> tuple[Slot, ...]:
        runtime = self.allowed[entry.wish.user.partition("-")[0]].max_runtime
        wish = replace(entry.wish, runs_until=None if runtime is None else self.now + runtime)
        view = PoolView(
            slots=self.slots,
            taken=self._taken(),
            holdings=self._holdings(wish.user),
            queue=tuple(other for other, _ in self.queue),
        )
        try:
            return allocator.decide(
                view,
                wish,
                self.now,
                strategy=allocator.PACK,
                patience=QUEUE_PATIENCE,
                container_name=entry.container_name,
            )
        except NothingFree:
            return ()

    def _taken(self) -> frozenset[str]:
        return frozenset(uuid for one in self.servers for uuid in one.lease.slots)

    def _start(self, entry: QueueEntry, sitting: Sitting, slots: tuple[Slot, ...]) -> None:
        runtime = self.allowed[sitting.group].max_runtime
        lease = Lease(
            id=entry.id,
            nonce=str(entry.id),
            user=sitting.user,
            server=entry.server,
            container_name=entry.container_name,
            state=LeaseState.ACTIVE,
            slots=tuple(slot.uuid for slot in slots),
            share=Fraction(len(slots), SLICES),
            created_at=self.now,
            group=sitting.group,
            runs_until=None if runtime is None else self.now + runtime,
        )
        server = Server(lease=lease, watch=Watch(), sitting=sitting, started=self._minute)
        self.servers.append(server)
        self._begin(server, sitting)

    # the service -----------------------------------------------------------------------------------

    def _check(self, server: Server) -> None:
        if server.lease.state is not LeaseState.ACTIVE:
            return
        waiting = [entry for entry, _ in self.queue]
        found = lifecycle.review(
            server.lease,
            server.watch,
            self._observe(server),
            self.allowed[server.lease.group],
            demand=lifecycle.measure_demand(server.lease, self.slots, self._taken(), waiting),
            interval=timedelta(minutes=CHECK_MINUTES),
        )
        server.watch = found.watch
        for decision in found.decisions:
            self.outcome.decisions.append((self._minute, server.lease.container_name, decision))
            if decision.step is Step.STOP:
                self._stop(server, decision.cause)
            elif decision.cause is Cause.RUN_TIME:
                self._extend(server)

    def _observe(self, server: Server) -> Observation:
        has_process = server.is_used or server.kernel_since is not None
        return Observation(
            at=self.now,
            started_at=self._at(server.started),
            uses=tuple(
                SlotUse(slot=uuid, profile=PROFILE, processes=int(has_process)) for uuid in server.lease.slots
            ),
            cpu_seconds=server.cpu_seconds,
            network_bytes=round(server.network_bytes),
            shells=0,
            last_activity=self._at(server.last_activity),
        )

    def _at(self, minute: int) -> datetime:
        return MONDAY + timedelta(minutes=minute)

    def _extend(self, server: Server) -> None:
        """She reads the warning by day, and asks for more time if her training needs it."""
        end, needs = server.lease.runs_until, server.trains_until
        if not server.sitting.reads or self.now.hour not in AWAKE or end is None or needs is None:
            return
        policy = self.allowed[server.lease.group].policy
        asked = self._at(needs) - end
        if policy.max_extension is not None:
            asked = min(asked, policy.max_extension)
        if asked <= timedelta(0):
            return
        try:
            granted = lifecycle.extend(
                server.lease, server.watch, asked, policy, slots=(), reservations=(), now=self.now
            )
        except RequestRefused:
            return
        server.lease = replace(server.lease, runs_until=granted.until)
        server.watch = replace(server.watch, extensions=(*server.watch.extensions, granted))
        self.outcome.extended.append(self._minute)

    def _stop(self, server: Server, cause: Cause) -> None:
        self.outcome.stopped_at_work += cause is Cause.IDLE and server.is_used
        if server.trains_until is not None:
            self.outcome.cut.append(self._minute)
        server.leaves = server.trains_until = server.kernel_since = None
        hold = reconcile.hold_for(server.lease, self.allowed[server.lease.group])
        if hold == timedelta(0):
            self.servers.remove(server)
            return
        deadline = None if hold is None else self.now + hold
        server.lease = replace(server.lease, state=LeaseState.HELD, deadline=deadline)

    def _note(self) -> None:
        taken = [uuid for one in self.servers for uuid in one.lease.slots]
        assert len(taken) == len(set(taken)) <= len(self.slots)
        self.outcome.leased.append(len(taken))
        self.outcome.used.append(sum(len(one.lease.slots) for one in self.servers if one.is_used))
        self.outcome.waiting.append(len(self.queue))
