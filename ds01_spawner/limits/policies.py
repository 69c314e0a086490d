"""The keys of DS01's `policies`: when a server counts as idle, and how its time ends.

Where a key has a unit in its name, a bare number is of that unit; the older spelling has it in the value.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from ds01_spawner.limits.keys import (
    Reader,
    as_duration,
    read_count,
    read_duration,
    read_hours,
    read_number,
)

_T = TypeVar("_T")


def read_minutes(value: object) -> timedelta:
    """Read a number of minutes; there is no unlimited one."""
    return _insist(lambda: as_duration(read_number(value), 60), "a number of minutes such as 10")


def read_seconds(value: object) -> timedelta:
    """Read a number of seconds; there is no unlimited one."""
    return _insist(lambda: as_duration(read_number(value), 1), "a number of seconds such as 60")


def read_grace(value: object) -> timedelta:
    """Read a time as `read_duration` does; there is no unlimited one."""
    return _insist(lambda: read_duration(value), "a time such as 30m")


def read_percent(value: object) -> float:
    """Read a number of percent, 0 or more (100 is one CPU, or one whole GPU)."""
    return _insist(lambda: read_number(value), "a number of percent such as 5")


def read_traffic(value: object) -> int:
    """Read a number of bytes, 0 or more."""
    return _insist(lambda: read_count(value), "a number of bytes such as 1048576")


def read_window(value: object) -> int:
    """Read a number of checks, at least 1."""
    count = _insist(lambda: read_count(value), "a number of checks such as 3")
    if count < 1:
        raise ValueError("a number of checks such as 3")
    return count


def read_part(value: object) -> float:
    """Read a part of a whole, from 0 to 1."""
    part = _insist(lambda: read_number(value), "a number from 0 to 1 such as 0.8")
    if part > 1:
        raise ValueError("a number from 0 to 1 such as 0.8")
    return part


def _insist(read: Callable[[], _T], meant: str) -> _T:
    """Read a value of which no kind is unlimited; `meant` is what it should have been."""
    try:
        return read()
    except ValueError:
        raise ValueError(meant) from None


POLICY_KEYS: dict[str, tuple[str, Reader]] = {
    "gpu_idle_threshold": ("gpu_idle_percent", read_percent),
    "cpu_idle_threshold": ("cpu_idle_percent", read_percent),
    "network_idle_threshold": ("network_idle_bytes", read_traffic),
    "idle_detection_window": ("idle_window", read_window),
    "grace_period": ("grace", read_grace),
    "grace_period_m": ("grace", read_minutes),
    "high_demand_threshold": ("high_demand_share", read_part),
    "high_demand_idle_reduction": ("high_demand_factor", read_part),
    "keepalive_max_duration": ("keep_alive", read_duration),
    "keepalive_max_duration_h": ("keep_alive", read_hours),
    "sigterm_grace_s": ("stop_grace", read_seconds),
    "sigterm_grace_seconds": ("stop_grace", read_seconds),
    "warning_lead_m": ("warning_lead", read_minutes),
    "max_extension_h": ("max_extension", read_hours),
    "max_extensions": ("max_extensions", read_count),
}
"""Key in the file -> (field of `Policy`, reader); they stand in a section, or in `policies` of it or of the
file. The last three are not DS01's."""

NEVER_NULL_POLICIES = frozenset(POLICY_KEYS) - {
    "high_demand_threshold",
    "keepalive_max_duration",
    "keepalive_max_duration_h",
    "max_extension_h",
    "max_extensions",
}

UNUSED_POLICY_KEYS = frozenset(
    {
        "auto_stop_idle",
        "checkpoint_warning",
        "created_container_timeout",
        "created_container_timeout_m",
        "enforce_storage_quotas",
        "gpu_hold_after_manual_stop",
        "gpu_hold_after_manual_stop_m",
        "graceful_errors",
        "require_workspace_mount",
        "soft_limit_threshold",
        "suggest_alternatives",
    }
)
