"""Limits: what a user may have, as DS01's `resource-limits.yaml` says, and whether a request fits.

`file` reads the file, `person` finds a user's limits in it, `measure` holds a request against them, `docker`
writes them as Docker understands them. All of it is pure: texts and values in, values out.
"""

from ds01_spawner.limits.docker import DEFAULT_SLICE_PATTERN, create_limits, docker_args
from ds01_spawner.limits.file import LimitsFile, load_limits, load_texts, parse_members
from ds01_spawner.limits.measure import bound, check, lower
from ds01_spawner.limits.person import limits_for, list_unenforced

__all__ = [
    "DEFAULT_SLICE_PATTERN",
    "LimitsFile",
    "bound",
    "check",
    "create_limits",
    "docker_args",
    "limits_for",
    "list_unenforced",
    "load_limits",
    "load_texts",
    "lower",
    "parse_members",
]
