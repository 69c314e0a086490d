"""Reading DS01's `resource-limits.yaml`, and finding what it gives one user.

What it guarantees: a key that nobody knows is an error that names the nearest known one, a key that
DS01 knows and we do not use is listed in `LimitsFile.unused`, an empty section means nothing, and
`null` means unlimited. A key that stands nowhere has the default that DS01's own reader has for it.

As in DS01, a user override stands directly on `defaults`: the groups of that user do not count, and
her group is called `override`. One that has nothing but a reservation is no override: her groups
count. Of two spellings of one key, the one in the nearer section holds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import yaml

from ds01_spawner.errors import LimitsBroken
from ds01_spawner.limits.keys import (
    LIMIT_KEYS,
    NEVER_NULL,
    RESERVATION_KEYS,
    SECTIONS,
    STRATEGIES,
    UNUSED_ALLOCATION_KEYS,
    UNUSED_LIMIT_KEYS,
    UNUSED_SECTIONS,
    Reader,
)
from ds01_spawner.limits.policies import NEVER_NULL_POLICIES, POLICY_KEYS, UNUSED_POLICY_KEYS
from ds01_spawner.limits.reservations import read_reservation
from ds01_spawner.model import Limits, LimitsTexts, Policy, Reservation

OVERRIDE_GROUP = "override"
DEFAULT_GROUP = "student"
GROUP_NAME = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one section says: `values` by field of `Limits`, `written` as the file spells them.

    `policy` is by field of `Policy`.
    """

    values: Mapping[str, object]
    written: Mapping[str, str]
    policy: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsFile:
    """A limits file that was read and checked, with the files beside it.

    `groups` are in the file's order, which decides between several groups of one user. `unused`
    names what is ignored: the keys that DS01 knows and we do not use (`groups.student.storage_data`),
    and user names without quotes that YAML reads as numbers (`groups.student.members.2041`), which
    in DS01 too are nobody's. `strategy` is `gpu_allocation.strategy`, None where it is not set.
    `reservations` are in the file's order, past ones too, without their devices. `policy` is what
    `policies` says for everybody, by field of `Policy`.
    """

    policy: Mapping[str, object]
    defaults: Section
    groups: Mapping[str, Section]
    members: Mapping[str, frozenset[str]]
    overrides: Mapping[str, Section]
    default_group: str
    strategy: str | None
    unused: tuple[str, ...]
    reservations: tuple[Reservation, ...] = ()


def load_limits(
    text: str,
    *,
    overrides_text: str = "",
    members: Mapping[str, Iterable[str]] | None = None,
    zone: tzinfo | None = None,
) -> LimitsFile:
    """Return the limits that `resource-limits.yaml` and the files beside it give.

    `overrides_text` is `user-overrides.yaml`; what it says of a user's limits, or of her reservation,
    replaces what `user_overrides` says. `members` are the names in each `groups/NAME.members`, in
    addition to those in the file itself; those of a group that the file does not have are ignored.
    `zone` is that of a reservation's times without one, None for the machine's own.

    Raises:
        LimitsBroken: says which line, key or value, and what it should be.
    """
    whole = _parse_yaml(text, "resource-limits.yaml")
    if whole is None:
        raise _broken("resource-limits.yaml is empty")
    top = _as_mapping(whole, "resource-limits.yaml")
    _check_keys(top, SECTIONS, UNUSED_SECTIONS, "the top level")
    unused = [key for key in top if key in UNUSED_SECTIONS]
    defaults = _read_section(top.get("defaults"), "defaults", unused)
    policies = _list_policies(top.get("policies"), "policies", unused)
    groups, found = _read_groups(_as_mapping(top.get("groups"), "groups"), unused)
    overrides, reservations = _read_people(
        {
            "user_overrides": top.get("user_overrides"),
            "user-overrides.yaml": _parse_yaml(overrides_text, "user-overrides.yaml"),
        },
        unused,
        zone,
    )
    default_group = top.get("default_group")
    if default_group is not None and groups and default_group not in groups:
        known = difflib.get_close_matches(str(default_group), groups, n=1) or sorted(groups)
        raise _broken(f"default_group names {default_group!r}, which is no group: did you mean {known[0]!r}?")
    return LimitsFile(
        policy=_read_values(policies, POLICY_KEYS, "policies")[0],
        defaults=defaults,
        groups=groups,
        members={name: found[name].union((members or {}).get(name, ())) for name in groups},
        overrides=overrides,
        default_group=_check_group_name(DEFAULT_GROUP if default_group is None else default_group),
        strategy=_read_strategy(_as_mapping(top.get("gpu_allocation"), "gpu_allocation"), unused),
        unused=tuple(unused),
        reservations=reservations,
    )


def load_texts(texts: LimitsTexts) -> LimitsFile:
    """Return the limits that an admin's files give; an error's detail names the file."""
    members = {name: parse_members(text) for name, text in texts.members.items()}
    try:
        return load_limits(texts.text, overrides_text=texts.overrides, members=members)
    except LimitsBroken as exc:
        raise LimitsBroken(exc.message, detail=f"in {texts.path} or beside it: {exc.detail or exc}") from exc


def parse_members(text: str) -> tuple[str, ...]:
    """Return the names in a `groups/NAME.members` file: one a line, `#` begins a comment."""
    names = (line.partition("#")[0].strip() for line in text.removeprefix("\ufeff").splitlines())
    return tuple(name for name in names if name)


def limits_for(file: LimitsFile, user: str, hub_groups: Iterable[str] = ()) -> Limits:
    """Return the limits of one user.

    The first that has her: a user override, a group of the file, a group of the file that has the
    name of one of her JupyterHub groups, the default group. What it leaves open comes from
    `defaults`, then from `policies`, then from DS01's own defaults.
    """
    group, section = _find_section(file, user, frozenset(hub_groups))
    values: dict[str, Any] = {**_BUILT_IN, **file.defaults.values, **section.values}
    written = {**file.defaults.written, **section.written}
    if "memory_swap" not in values:
        values["memory_swap"] = values["memory"]
        if "memory" in written:
            written["memory_swap"] = written["memory"]
    if "slots" not in values and "gpu_share" not in values:
        values["slots"] = _BUILT_IN_SLOTS
    policy: dict[str, Any] = {**file.policy, **file.defaults.policy, **section.policy}
    return Limits(group=group, written=written, policy=Policy(**policy), **values)


def _find_section(file: LimitsFile, user: str, hub_groups: frozenset[str]) -> tuple[str, Section]:
    if user in file.overrides:
        return OVERRIDE_GROUP, file.overrides[user]
    by_file = (name for name in file.groups if user in file.members[name])
    by_hub = (name for name in file.groups if name in hub_groups)
    group = next(by_file, None) or next(by_hub, None) or file.default_group
    return group, file.groups.get(group, Section(values={}, written={}))


def _read_groups(
    groups: Mapping[str, object], unused: list[str]
) -> tuple[dict[str, Section], dict[str, frozenset[str]]]:
    sections, members = {}, {}
    for name, content in groups.items():
        where = f"groups.{_check_group_name(name)}"
        keys = dict(_as_mapping(content, where))
        members[name] = _read_members(keys.pop("members", None), where, unused)
        sections[name] = _read_section(keys, where, unused, also_known=("members",))
    return sections, members


def _read_people(
    sections: Mapping[str, object], unused: list[str], zone: tzinfo | None
) -> tuple[dict[str, Section], tuple[Reservation, ...]]:
    overrides, reservations = {}, {}
    for where, content in sections.items():
        for user, section in _as_mapping(_drop_numbers(content, where, unused), where).items():
            keys = _as_mapping(section, f"{where}.{user}")
            limits = {key: value for key, value in keys.items() if key not in RESERVATION_KEYS}
            if limits or not keys:
                overrides[user] = _read_section(limits, f"{where}.{user}", unused)
            try:
                reservation = read_reservation(user, keys, f"{where}.{user}", zone)
            except ValueError as exc:
                raise _broken(str(exc)) from exc
            if reservation is not None:
                reservations[user] = reservation
    return overrides, tuple(reservations.values())


def _read_members(names: object, where: str, unused: list[str]) -> frozenset[str]:
    if names is None:
        return frozenset()
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise _broken(f"`members` in {where} is not a list of user names")
    unused += [f"{where}.members.{name}" for name in names if isinstance(name, int)]
    return frozenset(name for name in names if isinstance(name, str))


def _drop_numbers(users: object, where: str, unused: list[str]) -> object:
    if not isinstance(users, dict):
        return users
    unused += [f"{where}.{name}" for name in users if isinstance(name, int)]
    return {name: section for name, section in users.items() if not isinstance(name, int)}


def _read_section(
    content: object, where: str, unused: list[str], *, also_known: Iterable[str] = ()
) -> Section:
    keys = dict(_as_mapping(content, where))
    policies = _list_policies(keys.pop("policies", None), f"{where}.policies", unused)
    _check_keys(keys, (*LIMIT_KEYS, *POLICY_KEYS, "policies"), UNUSED_LIMIT_KEYS.union(also_known), where)
    unused += [f"{where}.{key}" for key in keys if key in UNUSED_LIMIT_KEYS]
    values, written = _read_values(keys.items(), LIMIT_KEYS, where)
    policy, _ = _read_values((*keys.items(), *policies), POLICY_KEYS, where)
    return Section(values=values, written=written, policy=policy)


def _list_policies(content: object, where: str, unused: list[str]) -> tuple[tuple[str, object], ...]:
    keys = _as_mapping(content, where)
    _check_keys(keys, POLICY_KEYS, UNUSED_POLICY_KEYS, where)
    unused += [f"{where}.{key}" for key in keys if key in UNUSED_POLICY_KEYS]
    return tuple(keys.items())


def _read_values(
    keys: Iterable[tuple[str, object]], table: Mapping[str, tuple[str, Reader]], where: str
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the values of the keys that are in `table`, by their fields, and as they are written."""
    values: dict[str, object] = {}
    written: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for key, value in keys:
        if key not in table:
            continue
        name, read = table[key]
        if name in spelled:
            raise _broken(f"`{spelled[name]}` and `{key}` in {where} are two names of one limit; keep one")
        spelled[name] = key
        if value is None and key not in NEVER_NULL | NEVER_NULL_POLICIES:
            values[name] = None
            continue
        try:
            values[name] = read(value)
        except ValueError as exc:
            raise _broken(f"`{key}: {str(value)[:40]}` in {where} is not {exc}") from exc
        written[name] = str(value).strip()
    return values, written


def _read_strategy(keys: Mapping[str, object], unused: list[str]) -> str | None:
    _check_keys(keys, {"strategy"}, UNUSED_ALLOCATION_KEYS, "gpu_allocation")
    unused += [f"gpu_allocation.{key}" for key in keys if key in UNUSED_ALLOCATION_KEYS]
    strategy = keys.get("strategy")
    if strategy is None:
        return None
    if strategy not in STRATEGIES:
        raise _broken(
            f"`strategy: {str(strategy)[:40]}` in gpu_allocation is not one of {', '.join(STRATEGIES)}"
        )
    return str(strategy)


def _parse_yaml(text: str, name: str) -> object:
    try:
        content: object = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise _broken(f"line {line} of {name} is not YAML ({exc.problem})") from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise _broken(f"{name} is not YAML ({' '.join(str(exc).split())[:200]})") from exc
    return content


def _as_mapping(content: object, where: str) -> Mapping[str, object]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _broken(f"{where} is not a section of `key: value` lines")
    for key in content:
        if not isinstance(key, str):
            raise _broken(f"`{key}` in {where} is not a name (a name of digits needs quotes)")
    return content


def _check_keys(keys: Iterable[str], used: Iterable[str], unused: Iterable[str], where: str) -> None:
    known = sorted({*used, *unused})
    for key in keys:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise _broken(f"there is no key `{key[:40]}` in {where}; the nearest one is `{nearest}`")


def _check_group_name(name: object) -> str:
    if not isinstance(name, str) or len(name) > 64 or not GROUP_NAME.fullmatch(name):
        raise _broken(f"{str(name)[:40]!r} is not a group name of letters, digits, `_`, `.` and `-`")
    return name


def _broken(why: str) -> LimitsBroken:
    return LimitsBroken(
        f"The limits cannot be read, so no server can start: {why}. Ask your admin to mend it."
    )
