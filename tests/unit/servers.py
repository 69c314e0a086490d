"""A server on a simulated clock, checked each minute: what its tests tell, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction

from pydantic import TypeAdapter

from ds01_spawner.lifecycle import review
from ds01_spawner.model import (
    FULL_GPU,
    Decision,
    Demand,
    Lease,
    LeaseState,
    Limits,
    Observation,
    Review,
    SlotUse,
    Step,
    Watch,
)
from tests.unit.pools import HOUR, MINUTE, NOW

WATCH = TypeAdapter(Watch)
SLICE, GPU = "MIG-0:1", "GPU-1"

HERS = Limits(group="student", idle_timeout=HOUR)
"""An hour of idleness, a grace of 30 minutes, warnings 10 minutes before: from DS01's defaults."""


FEW = Demand(total=7, taken=1)
MANY = Demand(total=7, taken=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a server is like for a while; nothing happens unless said.

    `cpu` is percent of one CPU, `network` bytes a minute. `keep_alive` is the minute in which `.keep-alive`
    was touched. Who is `silent` gives no answer: `nvml`, `docker` or `hub`.
    """

    processes: int = 0
    utilisation: float = 0
    cpu: float = 1
    network: int = 2000
    shells: int = 0
    hub: bool = False
    keep_alive: float | None = None
    silent: str = ""
    demand: Demand = FEW


QUIET = Scene()
WANTED = Scene(demand=MANY)


def lease_of(*slots: str, hours: float | None = None) -> Lease:
    """A lease that began NOW, perhaps with so much run time."""
    return Lease(
        id=1,
        nonce="n",
        user="ada",
        server="",
        container_name="jupyter._.1001",
        state=LeaseState.ACTIVE,
        slots=slots,
        share=Fraction(len(slots), 7),
        created_at=NOW,
        container_id="c",
        runs_until=None if hours is None else NOW + hours * HOUR,
    )


@dataclass(slots=True, kw_only=True)
class Server:
    """A server that started NOW. `clock` is what the machine's clock shows, `passed` what really passed.

    What it has to remember goes through JSON at each check, as if the service had been started anew.
    """

    lease: Lease = field(default_factory=lambda: lease_of(SLICE))
    limits: Limits = HERS
    watch: Watch = field(default_factory=Watch)
    clock: datetime = NOW
    passed: timedelta = timedelta(0)
    started_at: datetime = NOW
    cpu_seconds: float = 0
    network_bytes: int = 0
    last_activity: datetime = NOW
    interval: timedelta = MINUTE
    review: Review | None = None
    told: list[tuple[float, str]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def pass_time(self, span: timedelta, scene: Scene = QUIET) -> None:
        """Let time pass in which nobody checks."""
        self.clock += span
        self.passed += span
        self.cpu_seconds += scene.cpu / 100 * span.total_seconds()
        self.network_bytes += round(scene.network / 60 * span.total_seconds())
        if scene.hub:
            self.last_activity = self.clock

    def look(self, scene: Scene = QUIET) -> Review:
        """Check it once."""
        found = review(
            self.lease,
            WATCH.validate_json(WATCH.dump_json(self.watch)),
            self.observe(scene),
            self.limits,
            demand=scene.demand,
            interval=self.interval,
        )
        self.review, self.watch = found, found.watch
        self.told += [(self.minute, decision.reason) for decision in found.decisions]
        self.decisions += found.decisions
        return found

    def live(self, minutes: float, scene: Scene = QUIET) -> None:
        """Check it each minute for so long, or until it is stopped."""
        for _ in range(round(minutes * MINUTE / self.interval)):
            self.pass_time(self.interval, scene)
            if any(decision.step is Step.STOP for decision in self.look(scene).decisions):
                return

    def play(self, *scenes: tuple[float, Scene]) -> list[tuple[float, str]]:
        """Live through scenes of so many minutes; returns the reasons of all decisions with their minutes."""
        self.look(scenes[0][1])
        for minutes, scene in scenes:
            self.live(minutes, scene)
            if self.is_stopped:
                break
        return self.told

    @property
    def minute(self) -> float:
        """Minutes that really passed."""
        return self.passed / MINUTE

    @property
    def is_stopped(self) -> bool:
        return any(decision.step is Step.STOP for decision in self.decisions)

    def observe(self, scene: Scene) -> Observation:
        """Return what there is to see now."""
        seen = Observation(
            at=self.clock,
            started_at=self.started_at,
            uses=tuple(_use(slot, scene) for slot in self.lease.slots),
            cpu_seconds=self.cpu_seconds,
            network_bytes=self.network_bytes,
            shells=scene.shells,
            last_activity=self.last_activity,
            keep_alive=None if scene.keep_alive is None else NOW + scene.keep_alive * MINUTE,
        )
        if scene.silent == "docker":
            return Observation(at=self.clock, uses=seen.uses, last_activity=self.last_activity)
        return replace(seen, last_activity=None) if scene.silent == "hub" else seen


def _use(slot: str, scene: Scene) -> SlotUse:
    is_silent, is_full = scene.silent == "nvml", slot.startswith("GPU-")
    return SlotUse(
        slot=slot,
        profile=FULL_GPU if is_full else "1g.10gb",
        processes=None if is_silent else scene.processes,
        utilisation_percent=scene.utilisation if is_full and not is_silent else None,
    )


def play(*scenes: tuple[float, Scene], server: Server | None = None) -> list[tuple[float, str]]:
    """Return what a server of hers is told and when, from its start through the scenes."""
    return (server or Server()).play(*scenes)
