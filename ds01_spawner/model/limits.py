"""What a user may have, and the admin's files that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

from .lifecycle import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """CPUs, memory in bytes, and processes, of one server or of several together.

    None is no limit, or one that nobody knows; what is added to it is None as well.
    """

    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None

    def __add__(self, other: Resources) -> Resources:
        cpus = None if self.cpus is None or other.cpus is None else self.cpus + other.cpus
        return Resources(
            # A billionth is Docker's smallest part of a CPU, and no sum of such parts has a rest.
            cpus=None if cpus is None else round(cpus, 9),
            memory=None if self.memory is None or other.memory is None else self.memory + other.memory,
            pids=None if self.pids is None or other.pids is None else self.pids + other.pids,
        )


UNLIMITED = Resources()
NO_RESOURCES = Resources(cpus=0, memory=0, pids=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one user may have, after groups and overrides were applied; None means unlimited.

    `cpus`, `memory`, `memory_swap`, `shm_size`, `pids_limit` and `storage_tmp` are per container;
    `slots` counts GPUs and MIG instances over all containers of the user, `gpu_share` sums their
    shares, `slots_per_container` is per container. `memory_swap` is Docker's: memory plus swap.
    `aggregate` is what all containers together may take.
    `policy` is how the time of her servers is looked after.
    `written` keeps the limits file's own spelling of a value by field name (`1024m`, not `1g`).
    """

    group: str
    cpus: float | None = None
    memory: int | None = None
    memory_swap: int | None = None
    shm_size: int | None = None
    pids_limit: int | None = None
    storage_tmp: int | None = None
    slots: int | None = None
    gpu_share: Fraction | None = None
    slots_per_container: int | None = None
    allow_full_gpu: bool = True
    containers: int | None = None
    priority: int = 0
    idle_timeout: timedelta | None = None
    max_runtime: timedelta | None = None
    gpu_hold_after_stop: timedelta | None = timedelta(0)
    container_hold_after_stop: timedelta | None = timedelta(0)
    aggregate: Resources = UNLIMITED
    policy: Policy = field(default_factory=Policy)
    written: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def per_container(self) -> Resources:
        """What one container takes at most."""
        return Resources(cpus=self.cpus, memory=self.memory, pids=self.pids_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsTexts:
    """DS01's limits: the file, `user-overrides.yaml` and `groups/NAME.members` beside it."""

    path: str
    text: str
    overrides: str = ""
    members: Mapping[str, str] = field(default_factory=dict)
