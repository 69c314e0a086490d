"""Reservations as the limits file writes them, and what they leave of a person's limits."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ds01_spawner.errors import LimitsBroken
from ds01_spawner.limits import LimitsFile, limits_for, load_limits, load_texts
from ds01_spawner.model import LimitsTexts, Reservation

EXAMPLE = Path(__file__).parent.parent.parent / "hub_config" / "resource-limits.yaml"
EAST = timezone(timedelta(hours=2))
WINDOW = {
    "reservation_start": "2026-03-02 09:00",
    "reservation_end": "2026-03-02 18:00",
    "reserved_gpus": "[0]",
}


def load(keys: dict[str, str], *, overrides_text: str = "") -> LimitsFile:
    lines = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return load_limits(f"user_overrides:\n  kim:\n{lines}", overrides_text=overrides_text, zone=EAST)


def read(**keys: str) -> Reservation:
    """The reservation of WINDOW with some values changed."""
    (found,) = load(WINDOW | keys).reservations
    return found


def broken(**keys: str | None) -> str:
    changed = {key: value for key, value in (WINDOW | keys).items() if value is not None}
    with pytest.raises(LimitsBroken) as refused:
        load(changed)
    return str(refused.value)


def utc(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, second, tzinfo=timezone.utc)


def test_reservation_is_read_whole() -> None:
    assert read(reason="'  paper\n    deadline '") == Reservation(
        user="kim", start=utc(2, 7), end=utc(2, 16), gpus=("0",), reason="paper deadline"
    )


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("2026-03-02 09:00", utc(2, 7)),
        ("'2026-03-02T09:00'", utc(2, 7)),
        ("2026-03-02 09:00:30", utc(2, 7, 0, 30)),
        ("2026-03-02T09:00:00Z", utc(2, 9)),
        ("'2026-03-02T09:00Z'", utc(2, 9)),
        ("2026-03-02T09:00:00-05:00", utc(2, 14)),
        ("'2026-03-02T09:00-05:00'", utc(2, 14)),
        ("2026-03-02", utc(1, 22)),
        ("' 2026-03-02 '", utc(1, 22)),
    ],
)
def test_time_is_read_in_every_spelling_and_without_a_zone_is_local(written: str, start: datetime) -> None:
    found = read(reservation_start=written).start
    assert found == start
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize("written", ["2026-03-02", "'2026-03-02'"])
def test_day_alone_ends_with_its_last_minute(written: str) -> None:
    assert read(reservation_start=written, reservation_end=written).end == utc(2, 22)


def test_time_without_a_zone_is_that_of_the_machine_where_none_is_named() -> None:
    text = f"user_overrides: {{kim: {{{', '.join(f'{key}: {value}' for key, value in WINDOW.items())}}}}}"
    (found,) = load_limits(text).reservations
    assert found.start == datetime(2026, 3, 2, 9).astimezone()
    (found,) = load_texts(LimitsTexts(path="limits.yaml", text=text)).reservations
    assert found.start == datetime(2026, 3, 2, 9).astimezone()


@pytest.mark.parametrize(
    ("written", "gpus"),
    [
        ("[0, 1]", ("0", "1")),
        ("0", ("0",)),
        ("[0:1]", ("0:1",)),
        ("'1:2'", ("1:2",)),
        ("[0, '0', '0:1']", ("0", "0:1")),
        ("GPU-5f1c0d8e-aaaa", ("GPU-5f1c0d8e-aaaa",)),
        ("[MIG-GPU-5f1c0d8e/1/0, 3]", ("MIG-GPU-5f1c0d8e/1/0", "3")),
    ],
)
def test_gpus_are_a_list_or_one(written: str, gpus: tuple[str, ...]) -> None:
    assert read(reserved_gpus=written).gpus == gpus


def test_index_with_a_colon_that_yaml_reads_as_a_time_is_still_one() -> None:
    assert read(reserved_gpus="[1:0, 1:2, 15:6, 7]").gpus == ("1:0", "1:2", "15:6", "7")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"reservation_end": None}, "`reservation_start` in user_overrides.kim needs `reservation_end`"),
        ({"reservation_start": None}, "`reservation_end` in user_overrides.kim needs `reservation_start`"),
        ({"reserved_gpus": None}, "needs `reserved_gpus` beside it"),
        ({"reservation_start": None, "reservation_end": None}, "`reserved_gpus` in user_overrides.kim needs"),
        ({"reservation_end": "null"}, "needs `reservation_end` beside it"),
    ],
)
def test_half_a_reservation_is_an_error_that_names_the_other_half(
    keys: dict[str, str | None], problem: str
) -> None:
    assert problem in broken(**keys)


@pytest.mark.parametrize("end", ["2026-03-02 09:00", "2026-03-02 08:59", "2026-03-01"])
def test_window_that_does_not_end_after_its_start_is_an_error(end: str) -> None:
    assert re.search(
        r"`reservation_end: .*` in user_overrides.kim is not after `reservation_start",
        broken(reservation_end=end),
    )


@pytest.mark.parametrize("key", ["reservation_start", "reservation_end"])
@pytest.mark.parametrize(
    "value", ["soon", "9", "true", "'2026-02-31'", "'2026-03-02 25:00'", "[2026-03-02]", "''", "2026-3"]
)
def test_time_that_is_none_is_an_error_that_names_the_key(key: str, value: str) -> None:
    message = broken(**{key: value})
    assert re.search(rf"`{key}: .*` in user_overrides.kim is not a time such as 2026-03-01", message)
    assert message.endswith("Ask your admin to mend it.")


def test_end_after_the_end_of_all_time_is_an_error() -> None:
    assert "is not a time" in broken(reservation_end="9999-12-31")


@pytest.mark.parametrize(
    "value", ["[]", "all", "true", "-1", "[0, '']", "[0, null]", "1.5", "{gpu: 0}", "'0:1:2'", "[[0]]"]
)
def test_gpus_that_are_none_are_an_error(value: str) -> None:
    assert "in user_overrides.kim is not a list of GPUs by index or UUID" in broken(reserved_gpus=value)


def test_misspelt_key_of_a_reservation_names_the_nearest() -> None:
    assert "nearest one is `reservation_start`" in broken(reservation_strat="2026-03-02")


GROUPS = "groups:\n  lab: {members: [kim], memory: 5g}\nuser_overrides:\n  kim: "


def test_reservation_alone_leaves_the_limits_of_the_group() -> None:
    keys = ", ".join(f"{key}: {value}" for key, value in WINDOW.items())
    file = load_limits(f"{GROUPS}{{{keys}, reason: paper}}")
    assert limits_for(file, "kim").group == "lab"
    assert len(file.reservations) == 1
    assert file.unused == ()


def test_reason_alone_leaves_the_limits_of_the_group() -> None:
    assert limits_for(load_limits(f"{GROUPS}{{reason: thesis}}"), "kim").group == "lab"


def test_reservation_beside_a_limit_is_an_override_with_a_reservation() -> None:
    keys = ", ".join(f"{key}: {value}" for key, value in WINDOW.items())
    file = load_limits(f"{GROUPS}{{{keys}, max_gpu_slots: 7}}")
    limits = limits_for(file, "kim")
    assert (limits.group, limits.slots, len(file.reservations)) == ("override", 7, 1)


def test_empty_override_is_still_one() -> None:
    assert limits_for(load_limits(f"{GROUPS}{{}}"), "kim").group == "override"


@pytest.mark.parametrize("section", ["defaults", "groups.lab"])
def test_reservation_of_a_group_means_nothing_and_is_listed(section: str) -> None:
    text = "defaults: {KEYS}" if section == "defaults" else "groups: {lab: {KEYS}}"
    file = load_limits(text.replace("KEYS", "reservation_start: 2026-03-02, reserved_gpus: [0], reason: x"))
    assert file.reservations == ()
    assert set(file.unused) == {
        f"{section}.{key}" for key in ("reservation_start", "reserved_gpus", "reason")
    }


def test_overrides_file_replaces_limits_and_reservation_each_for_itself() -> None:
    later = "kim: {reservation_start: 2026-04-01, reservation_end: 2026-04-02, reserved_gpus: 3}"
    file = load(WINDOW | {"memory": "5g"}, overrides_text=later)
    assert [one.gpus for one in file.reservations] == [("3",)]
    assert limits_for(file, "kim").memory == 5 * 1024**3
    file = load(WINDOW | {"memory": "5g"}, overrides_text="kim: {memory: 6g}")
    assert [one.gpus for one in file.reservations] == [("0",)]
    assert limits_for(file, "kim").memory == 6 * 1024**3


def test_overrides_file_is_named_where_its_reservation_is_wrong() -> None:
    with pytest.raises(LimitsBroken, match=r"`reserved_gpus` in user-overrides\.yaml\.kim needs"):
        load_limits("{}", overrides_text="kim: {reserved_gpus: 0}")


def test_file_without_a_reservation_has_none() -> None:
    assert load({"memory": "5g"}).reservations == ()


def test_example_in_the_shipped_file_is_a_reservation_that_leaves_the_limits() -> None:
    text = EXAMPLE.read_text()
    comment, head = text[text.index("#   kim:") :], "user_overrides:\n"
    example = "".join(line[2:] for line in comment.partition(head)[0].splitlines(keepends=True))
    file = load_limits(text.replace(head, head + example))
    (found,) = file.reservations
    assert (found.user, found.gpus, found.reason) == ("kim", ("0", "1:2"), "paper deadline")
    assert limits_for(file, "kim") == limits_for(file, "somebody")
