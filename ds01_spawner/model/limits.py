"""What a user may have, and the admin's files that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

from .lifecycle import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one user may have, after groups and overrides were applied; None means unlimited.

    `cpus`, `memory`, `memory_swap`, `shm_size`, `pids_limit` and `storage_tmp` are per container;
    `slots` counts GPUs and MIG instances over all containers of the user, `gpu_share` sums their
    shares, `slots_per_container` is per container. `memory_swap` is Docker's: memory plus swap.
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
    policy: Policy = field(default_factory=Policy)
    written: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsTexts:
    """DS01's limits: the file, `user-overrides.yaml` and `groups/NAME.members` beside it."""

    path: str
    text: str
    overrides: str = ""
    members: Mapping[str, str] = field(default_factory=dict)
