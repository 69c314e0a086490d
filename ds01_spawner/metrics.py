"""What Prometheus is told: each metric with its name, its unit and its labels, in this one place.

What happens is counted where it happens, in the Hub's process (the Hub shows it at its own `/hub/metrics`)
or in the service's. What there is now, the `Family` values below, the service reads from the ledger each
time it is asked. No label is the name of a person, a server, a container or a GPU: what they are worth to
others is none of a metric's business, and there is no end of them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ParamSpec, TypeVar

from prometheus_client import Counter, Histogram

P = ParamSpec("P")
T = TypeVar("T")

_STEP_BUCKETS = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1200, 3600)
_WAIT_BUCKETS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400)
_BUILD_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1200, 2400, 3600)


class SpawnStep(str, Enum):
    """The steps of a start that are timed; `queue` is getting the lease, with the wait for it."""

    IMAGE = "image"
    QUEUE = "queue"
    CREATE = "create"
    START = "start"
    ANSWER = "answer"


class Asked(str, Enum):
    """What was asked for where something is refused."""

    START = "start"
    EXTENSION = "extension"


# what happens ---------------------------------------------------------------------------------------

SPAWN_STEPS = Histogram(
    "ds01_spawn_step_seconds",
    "Time that a step of a start took, where it went well",
    ("step",),
    buckets=_STEP_BUCKETS,
)
QUEUE_WAITS = Histogram(
    "ds01_queue_wait_seconds",
    "Time that a start waited in the queue, by the GPU profile it waited for and by what came of it",
    ("profile", "outcome"),
    buckets=_WAIT_BUCKETS,
)
START_IMAGES = Counter(
    "ds01_start_images", "Images of starts: found, as somebody built the same before, or built", ("source",)
)
BUILDS = Histogram(
    "ds01_build_seconds",
    "Time that a build of an image took, each once however many waited for it",
    ("outcome",),
    buckets=_BUILD_BUCKETS,
)
BUILD_STEPS = Counter(
    "ds01_build_steps", "Steps of all builds: reused from Docker's build cache, or run", ("source",)
)
REFUSALS = Counter("ds01_refusals", "What was asked for and refused, by the reason", ("asked", "reason"))
REPAIRS = Counter(
    "ds01_repairs", "Steps taken where ledger, Docker and GPUs did not agree, by what was done", ("action",)
)
LIFETIME_STEPS = Counter(
    "ds01_lifetime_steps",
    "Servers that were warned or stopped, as idle or at the end of their run time",
    ("step", "reason"),
)

for _step in SpawnStep:
    # A series that is only there after the first time cannot be told from one that is away.
    SPAWN_STEPS.labels(_step.value)
for _source in ("found", "built"):
    START_IMAGES.labels(_source)
for _source in ("reused", "run"):
    BUILD_STEPS.labels(_source)


def timed(
    step: SpawnStep,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Time an async function as a step of a start; one that fails or is cancelled does not count."""

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            began = time.monotonic()
            result = await function(*args, **kwargs)
            SPAWN_STEPS.labels(step.value).observe(time.monotonic() - began)
            return result

        return call

    return decorate


@contextmanager
def timing_wait(profile: str) -> Iterator[None]:
    """Time a wait for a slot of `profile`, however it ends."""
    began, outcome = time.monotonic(), "given up"
    try:
        yield
        outcome = "served"
    finally:
        QUEUE_WAITS.labels(profile, outcome).observe(time.monotonic() - began)


# what there is --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A gauge that is computed when it is asked for."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


LEDGER_UP = Family(
    name="ds01_ledger_up", help="1 if the ledger could be read; without it nothing else is known of leases"
)
INVENTORY_AGE = Family(
    name="ds01_inventory_age_seconds",
    help="Time since the GPUs were looked at; past inventory_max_age_seconds no GPU is handed out",
)
SLOTS = Family(
    name="ds01_slots", help="GPUs and MIG instances, by what they are now", labels=("profile", "state")
)
LEASES = Family(
    name="ds01_leases",
    help="Live leases, with or without slots: of a server of the Hub, or allocated by an admin",
    labels=("group", "origin", "state"),
)
SLOTS_IN_USE = Family(
    name="ds01_slots_in_use",
    help="Slots in a live lease, and those that a container without one uses (origin foreign, no group)",
    labels=("group", "origin", "profile"),
)
QUEUE_LENGTH = Family(
    name="ds01_queue_length",
    help="Starts that wait for a slot, by the profile they want",
    labels=("profile",),
)
QUEUE_OLDEST = Family(
    name="ds01_queue_oldest_seconds",
    help="Time for which the start that waits longest has waited",
    labels=("profile",),
)
IDLE_SLOTS = Family(
    name="ds01_idle_leased_slots",
    help="Leased slots whose server runs and is idle; summed up over time it is what idleness costs",
    labels=("group", "profile"),
)
IDLE_SECONDS = Family(
    name="ds01_idle_leased_seconds",
    help="Time for which these slots have been idle, added up over them",
    labels=("group", "profile"),
)
FAMILIES = (
    LEDGER_UP,
    INVENTORY_AGE,
    SLOTS,
    LEASES,
    SLOTS_IN_USE,
    QUEUE_LENGTH,
    QUEUE_OLDEST,
    IDLE_SLOTS,
    IDLE_SECONDS,
)
