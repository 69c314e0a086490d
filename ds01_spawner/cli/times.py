"""Times on the command line: read as a person writes them, in the machine's local time, and shown so."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone

_SPAN = re.compile(r"(?:(\d{1,4})w)?(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m(?:in)?)?")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}.*")


def parse_until(text: str, now: datetime) -> datetime:
    """Return the moment that `text` means as an end: `+4h`, `18:00` (the next), `2026-03-06`, or ISO 8601.

    A day alone is meant whole, so its end is the midnight after it. Raises ValueError.
    """
    text = text.strip()
    if text.startswith("+"):
        return now + parse_span(text[1:])
    if (clock := _find_clock(text)) is not None:
        today = _on(_today(now), clock)
        return today if today > now else _on(_today(now) + timedelta(days=1), clock)
    if _DAY.fullmatch(text):
        return _on(date.fromisoformat(text) + timedelta(days=1), time())
    return _parse_moment(text)


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that `text` means as a beginning: `7d` ago, `18:00` (the last), a day, or ISO 8601.

    Raises ValueError.
    """
    text = text.strip()
    if (clock := _find_clock(text)) is not None:
        today = _on(_today(now), clock)
        return today if today <= now else _on(_today(now) - timedelta(days=1), clock)
    if _DAY.fullmatch(text):
        return _on(date.fromisoformat(text), time())
    if _MOMENT.fullmatch(text):
        return _parse_moment(text)
    return now - parse_span(text)


def parse_span(text: str) -> timedelta:
    """Return how long `text` means: `30d`, `12h`, `1w2d`, `90m`. Raises ValueError."""
    found = _SPAN.fullmatch(text)
    if not text or found is None:
        raise ValueError("not a span of time")
    weeks, days, hours, minutes = (int(part or 0) for part in found.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes)


def make_reader(parse: Callable[[str, datetime], datetime], forms: str) -> Callable[[str], datetime]:
    """Return a `type` for argparse; `forms` says what may be written."""

    def read(text: str) -> datetime:
        try:
            return parse(text, datetime.now(timezone.utc))
        except (ValueError, OverflowError) as exc:
            raise argparse.ArgumentTypeError(f"{text!r} is no time; write {forms}") from exc

    return read


def show_time(moment: datetime | None, now: datetime) -> str:
    """Return a moment in local time, with its day where that is not today; "" for none."""
    if moment is None:
        return ""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == _today(now) else f"{local:%Y-%m-%d %H:%M}"


def write_time(moment: datetime | None) -> str | None:
    """Return a moment in ISO 8601, in UTC and to the second, for JSON."""
    return None if moment is None else moment.astimezone(timezone.utc).isoformat(timespec="seconds")


def _parse_moment(text: str) -> datetime:
    if not _MOMENT.fullmatch(text):
        raise ValueError("not a moment")
    # Python 3.10 does not know the Z.
    return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).astimezone(timezone.utc)


def _find_clock(text: str) -> time | None:
    found = _CLOCK.fullmatch(text)
    return None if found is None else time(int(found[1]), int(found[2]))


def _today(now: datetime) -> date:
    return now.astimezone().date()


def _on(day: date, clock: time) -> datetime:
    # Without a zone, `astimezone` takes the machine's, with the summer time of that very day.
    return datetime.combine(day, clock).astimezone(timezone.utc)
