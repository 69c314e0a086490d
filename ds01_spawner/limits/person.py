"""What the limits file gives one user.

It guarantees DS01's order. A user override stands directly on `defaults`: the groups of that user do not
count, and her group is called `override`. One that has nothing but a reservation is no override: her
groups count. Of two spellings of one key, the one in the nearer section holds. An `aggregate` section counts
as a whole: that of her override, else of her group, which an override does not hide here, else of `defaults`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ds01_spawner.limits.file import LimitsFile, Section
from ds01_spawner.model import Limits, Policy, Resources

OVERRIDE_GROUP = "override"

# Where a key stands nowhere: `get_resource_limits.py` and DS01's allocator put these in its place.
_BUILT_IN: Mapping[str, Any] = {
    "cpus": 16.0,
    "memory": 32 * 1024**3,
    "shm_size": 16 * 1024**3,
    "pids_limit": 4096,
    "allow_full_gpu": False,
    "containers": 3,
    "priority": 10,
}
_BUILT_IN_SLOTS = 1
_NOTHING = Section(values={}, written={})


def limits_for(file: LimitsFile, user: str, hub_groups: Iterable[str] = ()) -> Limits:
    """Return the limits of one user, as they are written.

    The first that has her: a user override, a group of the file, a group of the file that has the
    name of one of her JupyterHub groups, the default group. What it leaves open comes from
    `defaults`, then from `policies`, then from DS01's own defaults.
    """
    by_group = _find_group(file, user, frozenset(hub_groups))
    group = OVERRIDE_GROUP if user in file.overrides else by_group
    section = file.overrides.get(user) or _section_of(file, by_group)
    values: dict[str, Any] = {**_BUILT_IN, **file.defaults.values, **section.values}
    written = {**file.defaults.written, **section.written}
    if "memory_swap" not in values:
        values["memory_swap"] = values["memory"]
        if "memory" in written:
            written["memory_swap"] = written["memory"]
    if "slots" not in values and "gpu_share" not in values:
        values["slots"] = _BUILT_IN_SLOTS
    together: dict[str, Any] = dict(_find_aggregate(file, user, by_group).values)
    shares = (values.get("gpu_share"), together.pop("gpu_share", None))
    values["gpu_share"] = min((share for share in shares if share is not None), default=None)
    policy: dict[str, Any] = {**file.policy, **file.defaults.policy, **section.policy}
    return Limits(
        group=group, written=written, policy=Policy(**policy), aggregate=Resources(**together), **values
    )


def list_unenforced(file: LimitsFile, user: str, hub_groups: Iterable[str] = ()) -> dict[str, str]:
    """Return the keys, and their values as written, that mean something to the user and that only systemd
    or the filesystem can enforce.
    """
    by_group = _find_group(file, user, frozenset(hub_groups))
    section = file.overrides.get(user) or _section_of(file, by_group)
    aggregate = _find_aggregate(file, user, by_group)
    found = {**file.defaults.unenforced, **section.unenforced, **aggregate.unenforced}
    return {key: value for key, value in found.items() if value is not None}


def _find_group(file: LimitsFile, user: str, hub_groups: frozenset[str]) -> str:
    by_file = (name for name in file.groups if user in file.members[name])
    by_hub = (name for name in file.groups if name in hub_groups)
    return next(by_file, None) or next(by_hub, None) or file.default_group


def _section_of(file: LimitsFile, group: str) -> Section:
    return file.groups.get(group, _NOTHING)


def _find_aggregate(file: LimitsFile, user: str, group: str) -> Section:
    sections = (file.overrides.get(user, _NOTHING), _section_of(file, group), file.defaults)
    return next((one.aggregate for one in sections if one.aggregate is not None), _NOTHING)
