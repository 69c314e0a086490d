"""Limits: what a user may have, as DS01's `resource-limits.yaml` says, and whether a request fits.

`file` reads the file and finds a user's limits, `measure` holds a request against them, `docker`
writes them as Docker understands them. All of it is pure: texts and values in, values out.
"""

from ds01_spawner.limits.docker import DEFAULT_SLICE_PATTERN, create_limits, docker_args
from ds01_spawner.limits.file import LimitsFile, limits_for, load_limits, load_texts, parse_members
from ds01_spawner.limits.measure import check, lower

__all__ = [
    "DEFAULT_SLICE_PATTERN",
    "LimitsFile",
    "check",
    "create_limits",
    "docker_args",
    "limits_for",
    "load_limits",
    "load_texts",
    "lower",
    "parse_members",
]
