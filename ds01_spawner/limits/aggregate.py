"""The keys of DS01's `aggregate`: what all servers of a user may take together, in systemd's words.

DS01 writes them into a slice per user. Here they bound the sum of what her servers may take, each by its own
limits, whatever they use of it. What only a slice can do (`memory_high`) is known and not enforced.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ds01_spawner.limits.keys import Reader, read_cpus, read_memory, read_pids, read_share

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_INFINITY = "infinity"
_UNLIMITED = "unlimited"


def read_quota(value: object) -> float:
    """Read a number of CPUs, as percent of one."""
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        return read_cpus(float(match[1]) / 100 if match else None)
    except ValueError:
        raise ValueError('a quota of CPUs such as "800%" for 8, or null for unlimited') from None


def read_memory_max(value: object) -> int | None:
    """Read a size of memory in bytes; `infinity` is systemd's word for unlimited."""
    return None if value == _INFINITY else read_memory(value)


def read_tasks(value: object) -> int | None:
    """Read a number of processes; `infinity` is systemd's word for unlimited."""
    return None if value == _INFINITY else read_pids(value)


def read_gpu_limit(value: object) -> Fraction | None:
    """Read a sum of GPU shares; `unlimited` is DS01's word for that."""
    return None if value == _UNLIMITED else read_share(value)


AGGREGATE_KEYS: dict[str, tuple[str, Reader]] = {
    "cpu_quota": ("cpus", read_quota),
    "memory_max": ("memory", read_memory_max),
    "tasks_max": ("pids", read_tasks),
    "gpu_limit": ("gpu_share", read_gpu_limit),
}
"""Key in the file -> (field of `Resources`, reader); `gpu_share` is that of `Limits`."""

SLICE_KEYS = frozenset({"memory_high"})
"""Known keys that only a slice of systemd can enforce."""
