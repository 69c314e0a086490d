"""The keys of DS01's limits file: what each one means, and which are known but not used here.

DS01 renamed its keys over time (`max_mig_instances` became `max_gpu_slots`, `max_runtime: 48h`
became `max_runtime_h: 48`); every spelling of every generation stands here once. Each reader turns
the YAML value into that of `model.Limits` and raises ValueError with what it should have been.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction

from ds01_spawner.sizes import parse_bytes

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
MIN_MEMORY = 6 * 1024**2
"""Docker's smallest, in bytes."""
MIN_CPUS = 0.01
"""Docker's smallest."""
# The largest number that Docker and the ledger have room for.
_MOST = 2**63 - 1
_LONGEST = timedelta(days=36525)


def read_number(value: object) -> float:
    """Read a number, 0 or more."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and number >= 0:
            return number
    raise ValueError("a number such as 4, or null for unlimited")


def read_cpus(value: object) -> float:
    """Read a number of CPUs, at least 0.01 (Docker's smallest)."""
    number = read_number(value)
    if number < MIN_CPUS:
        raise ValueError("a number of CPUs such as 4 or 0.5, or null for unlimited")
    return number


def read_count(value: object) -> int:
    """Read a whole number, 0 or more."""
    number = read_number(value)
    if not number.is_integer():
        raise ValueError("a whole number such as 2, or null for unlimited")
    return int(number)


def read_pids(value: object) -> int:
    """Read a number of processes, at least 1 (Docker reads 0 as unlimited)."""
    count = read_count(value)
    if not 1 <= count <= _MOST:
        raise ValueError("a number of processes such as 4096, or null for unlimited")
    return count


def read_size(value: object) -> int:
    """Read a size in bytes, at least 1."""
    try:
        size = parse_bytes(value) if isinstance(value, (str, int)) else 0
    except (ValueError, OverflowError):
        size = 0
    if not 1 <= size <= _MOST:
        raise ValueError("a size such as 32g, or null for unlimited")
    return size


def read_memory(value: object) -> int:
    """Read a size of memory in bytes, at least 6 MiB (Docker's smallest)."""
    size = read_size(value)
    if size < MIN_MEMORY:
        raise ValueError("a size of at least 6m, or null for unlimited")
    return size


def read_memory_swap(value: object) -> int | None:
    """Read memory plus swap in bytes; -1 is Docker's word for unlimited."""
    return None if value in (-1, "-1") else read_memory(value)


def read_share(value: object) -> Fraction:
    """Read a sum of GPU shares; a rounded one (0.571) is the fraction that was meant (4/7)."""
    if isinstance(value, str) and re.fullmatch(r"\d+/[1-9]\d*", value.strip()):
        return Fraction(value.strip())
    return Fraction(str(read_number(value))).limit_denominator(100)


def read_switch(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def read_priority(value: object) -> int:
    """Read a priority; there is no unlimited one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number such as 50")
    return value


def read_hours(value: object) -> timedelta:
    """Read a number of hours."""
    return as_duration(read_number(value), 3600)


def read_duration(value: object) -> timedelta:
    """Read a time with a unit, `30m` or `0.5h`; a bare number is hours, as in DS01."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return as_duration(float(match[1]), _UNIT_SECONDS[match[2].lower()])
    try:
        return read_hours(value)
    except ValueError:
        raise ValueError("a time such as 30m, 48h or 7d, or null for unlimited") from None


def as_duration(number: float, unit_seconds: int) -> timedelta:
    """Return so many units as a time, which is a hundred years at most: a date must not overflow."""
    seconds = number * unit_seconds
    if seconds > _LONGEST.total_seconds():
        raise ValueError("a shorter time, or null for unlimited")
    return timedelta(seconds=seconds)


Reader = Callable[[object], object]

LIMIT_KEYS: dict[str, tuple[str, Reader]] = {
    "max_cpus": ("cpus", read_cpus),
    "cpus": ("cpus", read_cpus),
    "memory": ("memory", read_memory),
    "memory_swap": ("memory_swap", read_memory_swap),
    "shm_size": ("shm_size", read_size),
    "pids_limit": ("pids_limit", read_pids),
    "storage_tmp": ("storage_tmp", read_size),
    "max_mig_instances": ("slots", read_count),
    "max_gpus_per_user": ("slots", read_count),
    "max_gpu_slots": ("slots", read_count),
    "max_gpu_equivalents": ("gpu_share", read_share),
    "max_mig_per_container": ("slots_per_container", read_count),
    "max_gpus_per_container": ("slots_per_container", read_count),
    "max_gpu_slots_per_container": ("slots_per_container", read_count),
    "allow_full_gpu": ("allow_full_gpu", read_switch),
    "max_containers_per_user": ("containers", read_count),
    "priority": ("priority", read_priority),
    "idle_timeout": ("idle_timeout", read_duration),
    "idle_timeout_h": ("idle_timeout", read_hours),
    "max_runtime": ("max_runtime", read_duration),
    "max_runtime_h": ("max_runtime", read_hours),
    "gpu_hold_after_stop": ("gpu_hold_after_stop", read_duration),
    "gpu_hold_after_stop_h": ("gpu_hold_after_stop", read_hours),
    "container_hold_after_stop": ("container_hold_after_stop", read_duration),
    "container_hold_after_stop_h": ("container_hold_after_stop", read_hours),
}
"""Key in the file -> (field of `Limits`, reader). Two keys of one field are two spellings of it."""

NEVER_NULL = frozenset({"allow_full_gpu", "priority"})

RESERVATION_KEYS = frozenset({"reason", "reservation_end", "reservation_start", "reserved_gpus"})
"""Keys of one person that say nothing about her limits; for a group or for all they mean nothing."""

SYSTEM_KEYS = frozenset({"io_read_bps", "io_write_bps", "max_tasks", "storage_data", "storage_workspace"})
"""Known keys that only systemd or the filesystem can enforce."""

UNUSED_LIMIT_KEYS = (
    RESERVATION_KEYS
    | SYSTEM_KEYS
    | {"gpu_memory", "gpu_time_limit", "gpus", "max_concurrent_containers", "ulimit_nofile"}
)
UNUSED_ALLOCATION_KEYS = frozenset(
    {
        "allocation_method",
        "allow_multi_gpu",
        "enable_mig",
        "mig_gpus",
        "mig_instances_per_gpu",
        "mig_profile",
        "mig_strategy",
        "pin_gpu",
        "respect_reservations",
        "slots_per_gpu",
    }
)
UNUSED_SECTIONS = frozenset(
    {
        "access_control",
        "advanced",
        "bare_metal_access",
        "container_types",
        "enforcement",
        "monitoring",
        "wizard",
    }
)
SECTIONS = frozenset({"defaults", "default_group", "groups", "user_overrides", "gpu_allocation", "policies"})

STRATEGIES = ("pack", "least_allocated", "round_robin", "priority_aware")
