"""Times as an admin writes and reads them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest

from ds01_spawner.cli.times import make_reader, parse_since, parse_until, show_time, write_time

# A Saturday; on the next morning the clocks of Berlin go one hour ahead.
NOW = datetime(2026, 3, 28, 11, 30, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(day: int, hour: int, minute: int = 0, *, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("+4h", utc(28, 15, 30)),
        ("+1h30m", utc(28, 13)),
        ("+90min", utc(28, 13)),
        ("+2d", utc(30, 11, 30)),
        ("+1w1d", utc(5, 11, 30, month=4)),
        ("18:00", utc(28, 17)),
        ("12:31", utc(28, 11, 31)),
        # Midday has passed here, and tomorrow it comes an hour sooner.
        ("12:00", utc(29, 10)),
        ("12:30", utc(29, 10, 30)),
        ("9:05", utc(29, 7, 5)),
        ("2026-03-28", utc(28, 23)),
        ("2026-03-29", utc(29, 22)),
        ("2026-03-29T18:00", utc(29, 16)),
        ("2026-03-29 18:00", utc(29, 16)),
        ("2026-03-29T18:00:00Z", utc(29, 18)),
        ("2026-03-29T18:00+05:00", utc(29, 13)),
        (" 2026-03-29 ", utc(29, 22)),
    ],
)
def test_an_end_is_read_as_it_is_written(text: str, until: datetime) -> None:
    assert parse_until(text, NOW) == until


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("7d", utc(21, 11, 30)),
        ("12h", utc(27, 23, 30)),
        ("18:00", utc(27, 17)),
        ("12:30", utc(28, 11, 30)),
        ("2026-03-28", utc(27, 23)),
        ("2026-03-28T12:00", utc(28, 11)),
        ("2026-03-28T12:00Z", utc(28, 12)),
    ],
)
def test_a_beginning_is_read_as_it_is_written(text: str, since: datetime) -> None:
    assert parse_since(text, NOW) == since


@pytest.mark.parametrize("reader", [make_reader(parse_until, "+4h"), make_reader(parse_since, "7d")])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "soon",
        "4",
        "+4",
        "+4x",
        "-4h",
        "25:00",
        "18:60",
        "2026-02-30",
        "2026-03",
        "2026-W10-1",
        "1h2d",
    ],
)
def test_what_is_no_time_is_refused(text: str, reader: Callable[[str], datetime]) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time; write"):
        reader(text)


def test_a_span_without_a_plus_is_no_end() -> None:
    with pytest.raises(ValueError, match="not a moment"):
        parse_until("4h", NOW)


def test_who_writes_no_time_is_told_what_to_write() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'0001-01-01' is no time; write 18:00"):
        make_reader(parse_since, "18:00")("0001-01-01")


def test_a_moment_of_today_is_shown_without_its_day() -> None:
    assert show_time(utc(28, 17), NOW) == "18:00"
    assert show_time(utc(28, 23), NOW) == "2026-03-29 00:00"
    assert show_time(None, NOW) == ""


def test_json_has_times_in_utc() -> None:
    moment = datetime(2026, 3, 28, 12, 30, 59, 999, tzinfo=timezone(timedelta(hours=1)))
    assert write_time(moment) == "2026-03-28T11:30:59+00:00"
    assert write_time(None) is None
