"""Reservations as DS01's limits file writes them, in the section of the person who gets the GPUs.

A time without a zone is local. A day alone begins the window with its first moment, or ends it with
its last one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from ds01_spawner.model import Reservation

_NEEDED = ("reservation_start", "reservation_end", "reserved_gpus")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_INDEX = re.compile(r"\d{1,2}(?::\d{1,2})?")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z_./:-]{1,100}")


def read_reservation(
    user: str, keys: Mapping[str, object], where: str, zone: tzinfo | None = None
) -> Reservation | None:
    """Return the reservation in the section `where` of `user`, None where it has none.

    `zone` is that of times without one, None for the machine's own. `gpus` are indexes and UUIDs as
    text, each of them once.

    Raises:
        ValueError: says what is missing or wrong in which section.
    """
    given = [key for key in _NEEDED if keys.get(key) is not None]
    if not given:
        return None
    missing = [key for key in _NEEDED if key not in given]
    if missing:
        raise ValueError(f"`{given[0]}` in {where} needs `{missing[0]}` beside it")
    start = _read_time(keys, "reservation_start", where, zone)
    end = _read_time(keys, "reservation_end", where, zone, days_later=1)
    if start >= end:
        raise ValueError(
            f"`reservation_end: {keys['reservation_end']}` in {where} is not after "
            f"`reservation_start: {keys['reservation_start']}`"
        )
    reason = keys.get("reason")
    return Reservation(
        user=user,
        start=start,
        end=end,
        gpus=_read_gpus(keys, where),
        reason="" if reason is None else " ".join(str(reason).split()),
    )


def _read_time(
    keys: Mapping[str, object], key: str, where: str, zone: tzinfo | None, *, days_later: int = 0
) -> datetime:
    """Return a time in UTC; a day alone is its midnight, or that of `days_later`."""
    value = keys[key]
    try:
        moment = _parse_time(value, days_later)
        if moment.tzinfo is None:
            moment = moment.astimezone() if zone is None else moment.replace(tzinfo=zone)
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"`{key}: {str(value)[:40]}` in {where} is not a time such as 2026-03-01 or 2026-03-01 09:00"
        ) from None


def _parse_time(value: object, days_later: int) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        text = value.strip()
        if not _DAY.fullmatch(text):
            # Python 3.10 knows no Z.
            return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
        value = date.fromisoformat(text)
    if not isinstance(value, date):
        raise ValueError
    return datetime.combine(value + timedelta(days=days_later), time())


def _read_gpus(keys: Mapping[str, object], where: str) -> tuple[str, ...]:
    value = keys["reserved_gpus"]
    listed = value if isinstance(value, list) else [value]
    gpus = tuple(dict.fromkeys(_spell_gpu(item) for item in listed))
    if not gpus or "" in gpus:
        raise ValueError(
            f"`reserved_gpus: {str(value)[:40]}` in {where} is not a list of GPUs by index or UUID, "
            "such as [0, '1:2']"
        )
    return gpus


def _spell_gpu(item: object) -> str:
    """Return an index or UUID as text, "" for what is neither."""
    if isinstance(item, int) and not isinstance(item, bool) and item >= 60:
        # YAML reads an unquoted 1:2 as minutes and seconds, 62; no machine has that many GPUs.
        item = f"{item // 60}:{item % 60}"
    text = "" if isinstance(item, bool) else str(item).strip()
    return text if _INDEX.fullmatch(text) or _UUID.fullmatch(text) else ""
