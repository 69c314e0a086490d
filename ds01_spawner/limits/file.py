"""Reading DS01's `resource-limits.yaml`.

What it guarantees: a key that nobody knows is an error that names the nearest known one, a key that
DS01 knows and we do not use is listed in `LimitsFile.unused`, an empty section means nothing, and
`null` means unlimited.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

import yaml

from ds01_spawner.errors import LimitsBroken
from ds01_spawner.limits.aggregate import AGGREGATE_KEYS, SLICE_KEYS
from ds01_spawner.limits.keys import (
    LIMIT_KEYS,
    NEVER_NULL,
    RESERVATION_KEYS,
    SECTIONS,
    STRATEGIES,
    SYSTEM_KEYS,
    UNUSED_ALLOCATION_KEYS,
    UNUSED_LIMIT_KEYS,
    UNUSED_SECTIONS,
    Reader,
)
from ds01_spawner.limits.policies import NEVER_NULL_POLICIES, POLICY_KEYS, UNUSED_POLICY_KEYS
from ds01_spawner.limits.reservations import read_reservation
from ds01_spawner.model import LimitsTexts, Reservation

DEFAULT_GROUP = "student"
GROUP_NAME = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one section says: `values` by field of `Limits`, `written` as the file spells them.

    `policy` is by field of `Policy`. `unenforced` are the keys that only systemd or the filesystem can
    enforce, as the file spells them, None for null. `aggregate` has its values by field of `Resources`, and
    `gpu_share`; it is None where there is no such section.
    """

    values: Mapping[str, object]
    written: Mapping[str, str]
    policy: Mapping[str, object] = field(default_factory=dict)
    unenforced: Mapping[str, str | None] = field(default_factory=dict)
    aggregate: Section | None = None


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
    aggregate = None
    if "aggregate" in keys:
        aggregate = _read_aggregate(keys.pop("aggregate"), f"{where}.aggregate", unused)
    known = (*LIMIT_KEYS, *POLICY_KEYS, "policies", "aggregate")
    _check_keys(keys, known, UNUSED_LIMIT_KEYS.union(also_known), where)
    unused += [f"{where}.{key}" for key in keys if key in UNUSED_LIMIT_KEYS]
    values, written = _read_values(keys.items(), LIMIT_KEYS, where)
    policy, _ = _read_values((*keys.items(), *policies), POLICY_KEYS, where)
    unenforced = {key: _spell(keys[key]) for key in keys if key in SYSTEM_KEYS}
    return Section(values=values, written=written, policy=policy, unenforced=unenforced, aggregate=aggregate)


def _read_aggregate(content: object, where: str, unused: list[str]) -> Section:
    """Return an `aggregate`; where nothing stands in it, nothing is limited."""
    keys = _as_mapping(content, where)
    _check_keys(keys, AGGREGATE_KEYS, SLICE_KEYS, where)
    unused += [f"{where}.{key}" for key in keys if key in SLICE_KEYS]
    values, written = _read_values(keys.items(), AGGREGATE_KEYS, where)
    unenforced = {f"aggregate.{key}": _spell(keys[key]) for key in keys if key in SLICE_KEYS}
    return Section(values=values, written=written, unenforced=unenforced)


def _spell(value: object) -> str | None:
    return None if value is None else str(value).strip()


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
