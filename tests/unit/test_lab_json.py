"""The lab as JSON: who sees what of it, and that it stays the same while nothing changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ds01_spawner.allocator import slot_states
from ds01_spawner.core.overview import Overview, Waiting
from ds01_spawner.core.servers import ServerView
from ds01_spawner.errors import InventoryUnavailable, RequestRefused
from ds01_spawner.model import Event, Lease, LeaseState, Mark, MarkKind, QueueEntry, SlotUse, TimeLeft
from ds01_spawner.service.web.answers import MoreTime, read_more_time, read_reason
from ds01_spawner.service.web.desk import Uses
from ds01_spawner.service.web.gpus import LabView, Sight, write_lab
from tests.unit.pools import HOUR, MINUTE, NOW, gpu, mark, mig, waits
from tests.unit.servers import lease_of

HERS, HIS, WHOLE, OUT = mig("0:0"), mig("0:1"), gpu("1"), mig("0:2", "2g.20gb", 2)
SLOTS = (HERS, HIS, OUT, WHOLE)
ADA, BOB = lease_of(HERS.uuid, hours=6), replace(lease_of(HIS.uuid), id=2, user="bob")
DRAINED = mark(OUT, MarkKind.DRAINED, why="fan", who="root")
EVENT = Event(id=9, at=NOW, kind="activated", who="bob", why="ab" * 32, lease_id=2, slots=(HIS.uuid, "MIG-x"))

STUDENT = Sight(login="ada")
NAMING = Sight(login="ada", names=True)
ADMIN = Sight(login="eve", everything=True, manages=True)
SERVICE = Sight(login="")


def view(
    *leases: Lease,
    marks: tuple[Mark, ...] = (DRAINED,),
    queue: tuple[QueueEntry, ...] = (),
    expected: timedelta | None = None,
    uses: tuple[SlotUse, ...] = (),
) -> LabView:
    return LabView(
        seen=Overview(
            at=NOW,
            slots=slot_states(SLOTS, leases, marks, (), NOW),
            queue=tuple(
                Waiting(entry=entry, position=place, expected_at=None if expected is None else NOW + expected)
                for place, entry in enumerate(queue, start=1)
            ),
            problem=None,
            marks=marks,
        ),
        servers={
            lease.id: ServerView(
                lease=lease, name="jupyter", slots=(), time_left=TimeLeft(), warnings=(), may_extend=True
            )
            for lease in leases
        },
        uses={use.slot: use for use in uses},
        events=(replace(EVENT, id=8, why=""), EVENT),
        known={slot.uuid: slot for slot in SLOTS},
    )


def write(sight: Sight, lab: LabView | None = None) -> dict[str, Any]:
    return write_lab(lab or view(ADA, BOB), sight)


def slots_of(written: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {slot["id"]: slot for one in written["gpus"] for slot in one["slots"]}


# who sees what


def test_everybody_sees_each_slot_by_its_gpu_with_its_state() -> None:
    written = write(SERVICE)
    assert [(one["id"], one["name"], len(one["slots"])) for one in written["gpus"]] == [
        ("0", "A100", 3),
        ("1", "A100", 1),
    ]
    assert {name: slot["state"] for name, slot in slots_of(written).items()} == {
        "0:0": "leased",
        "0:1": "leased",
        "0:2": "drained",
        "1": "free",
    }
    assert written["count"] == {"slots": 4, "free": 1, "mine": 0}


def test_what_others_have_is_told_to_a_student_without_a_word_about_them() -> None:
    slots = slots_of(write(STUDENT))
    assert slots["0:1"] == {
        "id": "0:1",
        "uuid": HIS.uuid,
        "profile": "1g.10gb",
        "memory_mib": 9728,
        "share": 0.1429,
        "state": "leased",
        "mine": False,
        "user": None,
        "origin": None,
        "why": "",
        "lease": None,
        "use": None,
        "marks": [],
    }
    assert "fan" not in str(write(STUDENT))
    assert "bob" not in str(write(STUDENT, view(ADA, BOB, queue=(waits("bob", 1),))))


def test_what_is_her_own_is_told_whole() -> None:
    slot = slots_of(write(STUDENT))["0:0"]
    assert (slot["mine"], slot["user"]) == (True, "ada")
    assert slot["lease"] == {
        "id": 1,
        "server": "",
        "name": "jupyter",
        "container": "jupyter._.1001",
        "ending": "",
        "since": "2026-03-02T12:00:00+00:00",
        "until": "2026-03-02T18:00:00+00:00",
        "idle_since": None,
        "may_stop": True,
        "may_extend": True,
    }


def test_an_admin_sees_who_has_what_and_why_it_is_so() -> None:
    written = write(ADMIN)
    slots = slots_of(written)
    assert (slots["0:1"]["user"], slots["0:1"]["origin"], slots["0:1"]["lease"]["id"]) == ("bob", "hub", 2)
    assert slots["0:1"]["lease"]["may_stop"]
    assert (slots["0:2"]["why"], slots["0:2"]["marks"]) == ("drained by root: fan", ["drained"])
    assert [one["id"] for one in written["events"]] == [9, 8]
    assert written["events"][0]["slots"] == ["0:1", "MIG-x"]
    assert written["events"][0]["why"] == "abababababab"


def test_who_only_sees_everything_may_change_nothing() -> None:
    written = write(Sight(login="", everything=True))
    lease = slots_of(written)["0:1"]["lease"]
    assert (written["may_manage"], lease["may_stop"], lease["may_extend"]) == (False, False, False)


def test_where_the_site_says_so_names_are_for_all_and_nothing_but_the_names() -> None:
    written = write(NAMING, view(ADA, BOB, queue=(waits("bob", 1),)))
    slot = slots_of(written)["0:1"]
    assert (slot["user"], slot["lease"], slot["use"]) == ("bob", None, None)
    (place,) = written["queue"]["places"]
    assert (place["user"], place["name"]) == ("bob", "")
    assert written["events"] == []


def test_a_service_owns_nothing_even_of_a_lease_without_a_user() -> None:
    assert not slots_of(write(SERVICE, view(replace(ADA, user=""))))["0:0"]["mine"]


@pytest.mark.parametrize(
    ("lease", "marks", "origin"),
    [
        (ADA, (), "hub"),
        (replace(ADA, server="#allocated-1", state=LeaseState.HELD), (), "allocated"),
        (None, (mark(HERS, MarkKind.EXTERNAL),), "foreign"),
        (None, (), None),
    ],
)
def test_an_admin_sees_where_it_comes_from(
    lease: Lease | None, marks: tuple[Mark, ...], origin: str | None
) -> None:
    lab = view(*([lease] if lease else []), marks=marks)
    assert slots_of(write(ADMIN, lab))["0:0"]["origin"] == origin


def test_what_is_held_ends_with_its_hold_and_gets_no_more_time() -> None:
    held = replace(ADA, state=LeaseState.HELD, deadline=NOW + HOUR)
    lease = slots_of(write(STUDENT, view(held)))["0:0"]["lease"]
    assert (lease["until"], lease["may_extend"]) == ("2026-03-02T13:00:00+00:00", False)


def test_what_is_being_ended_is_not_stopped_once_more() -> None:
    lease = slots_of(write(STUDENT, view(replace(ADA, ending="stopped"))))["0:0"]["lease"]
    assert (lease["ending"], lease["may_stop"]) == ("stopped", False)


# the queue


def test_of_the_queue_a_student_sees_its_length_and_her_own_places() -> None:
    lab = view(queue=(waits("bob", 2), waits("ada", 1)), expected=HOUR)
    assert write(STUDENT, lab)["queue"] == {
        "length": 2,
        "places": [
            {
                "id": 0,
                "position": 2,
                "mine": True,
                "user": "ada",
                "name": "jupyter",
                "profile": "1g.10gb",
                "count": 1,
                "since": "2026-03-02T11:59:00+00:00",
                "expected_at": "2026-03-02T13:00:00+00:00",
            }
        ],
    }


# the same while nothing changed


def test_seconds_and_small_steps_are_no_change() -> None:
    def write_all(seconds: float, percent: float, memory: int) -> dict[str, Any]:
        use = SlotUse(
            slot=WHOLE.uuid,
            profile="full",
            processes=1,
            utilisation_percent=percent,
            memory_used_mib=memory,
        )
        expected = timedelta(seconds=seconds)
        return write(ADMIN, view(ADA, queue=(waits("bob", 1),), expected=expected, uses=(use,)))

    first = write_all(10, 41, 1030)
    assert first == write_all(50, 42, 1000)
    assert slots_of(first)["1"]["use"] == {
        "processes": 1,
        "utilisation_percent": 40,
        "memory_used_mib": 1024,
    }
    assert first["queue"]["places"][0]["expected_at"] == "2026-03-02T12:01:00+00:00"
    assert first != write_all(70, 41, 1030)


# how slots are used


def test_many_pages_cost_one_reading_and_no_nvml_is_no_error() -> None:
    readings = []

    def read() -> tuple[SlotUse, ...]:
        readings.append(1)
        return (SlotUse(slot="MIG-a", profile="1g.10gb"),)

    uses = Uses(read)
    assert [list(uses.read()) for _ in range(5)] == [["MIG-a"]] * 5
    assert len(readings) == 1

    def fail() -> tuple[SlotUse, ...]:
        raise InventoryUnavailable("no driver")

    assert Uses(fail).read() == {}


# reasons


def test_a_reason_is_one_line_without_its_edges() -> None:
    assert (
        read_reason('{"reason": " a \u202efan\u200f <b> "}'.encode(), is_required=True)
        == "a \u202efan\u200f <b>"
    )
    assert read_reason(b"", is_required=False) == ""
    assert read_more_time(b'{"hours": 2, "reason": "paper"}', is_required=True) == MoreTime(
        time=2 * HOUR, reason="paper"
    )
    assert read_more_time(b'{"hours": 0.5}', is_required=False).time == 30 * MINUTE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"reason": "  "}',
        b'{"reason": 5}',
        b'{"reason": null}',
        b'{"reason": "a\\nb"}',
        b'{"reason": "a\\u2028b"}',
        b'{"reason": "a\\u0000b"}',
        b'{"reason": "\\ud800"}',
        b'{"reason": "fan", "who": "bob"}',
        b'["fan"]',
        b'{"reason": "' + b"a" * 201 + b'"}',
        b"\xff",
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused):
        read_reason(body, is_required=True)


@pytest.mark.parametrize(
    "body", [b"", b'{"hours": 0, "reason": "a"}', b'{"reason": "a"}', b'{"hours": 1, "reason": "a\\nb"}']
)
def test_more_time_is_refused_without_hours_or_with_a_reason_of_lines(body: bytes) -> None:
    with pytest.raises(RequestRefused):
        read_more_time(body, is_required=False)
