"""What the home page says of one server, from the Hub's word and from its lease."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fractions import Fraction
from types import SimpleNamespace

import pytest

from ds01_spawner.core.servers import ServerView
from ds01_spawner.model import Lease, LeaseState, Slot, TimeLeft
from ds01_spawner.spawner.home import HomeServer, count_down, describe_server, judge_state

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
PROFILES = {"small": "A small slice"}
SLOT = Slot(
    uuid="MIG-1",
    index="0:1",
    profile="1g.10gb",
    gpu_uuid="GPU-1",
    gpu_name="H100",
    memory_mib=9728,
    share=Fraction(1, 7),
)


def make_view(state: LeaseState = LeaseState.ACTIVE, deadline: datetime | None = None) -> ServerView:
    lease = Lease(
        id=1,
        nonce="n",
        user="ada",
        server="thesis",
        container_name="thesis._.1001",
        state=state,
        slots=("MIG-1",),
        share=Fraction(1, 7),
        created_at=NOW,
        deadline=deadline,
    )
    left = TimeLeft(run_until=NOW + timedelta(hours=2, minutes=40))
    return ServerView(
        lease=lease, name="thesis", slots=(SLOT,), time_left=left, warnings=("Soon.",), may_extend=True
    )


def describe(view: ServerView | None, *, name: str = "thesis", **known: object) -> HomeServer:
    given = {"name": name, "display_name": "", "user_options": {"profile": "small"}, "pending": None}
    return describe_server(SimpleNamespace(**(given | {"ready": False} | known)), view, PROFILES, NOW)


@pytest.mark.parametrize(
    ("pending", "is_ready", "state"),
    [
        ("spawn", False, "starting"),
        ("stop", True, "stopping"),
        (None, True, "running"),
        (None, False, "stopped"),
    ],
)
def test_the_state_is_what_the_hub_says(pending: str | None, is_ready: bool, state: str) -> None:
    assert judge_state(pending, is_ready, None) == state


def test_a_running_server_shows_its_profile_its_slice_and_what_is_left() -> None:
    shown = describe(make_view(), ready=True)
    assert (shown.state, shown.profile, shown.slots) == ("running", "A small slice", "1g.10gb 0:1")
    assert shown.run_time is not None
    assert shown.run_time.words.startswith("2 h 40 min left, until ")
    assert shown.run_time.until == "2026-03-02T14:40:00+00:00"
    assert shown.warnings == ("Soon.",)
    assert shown.may_extend


def test_a_held_server_shows_until_when_it_is_kept_and_no_run_time() -> None:
    shown = describe(make_view(LeaseState.HELD, deadline=NOW + timedelta(minutes=15)))
    assert shown.state == "held"
    assert shown.held is not None
    assert shown.held.words.startswith("15 min left, until ")
    assert (shown.run_time, shown.warnings, shown.may_extend) == (None, (), False)


def test_without_a_lease_to_read_the_hub_says_what_it_knows() -> None:
    shown = describe(None, ready=True, display_name="My thesis")
    assert (shown.title, shown.state, shown.name, shown.slots) == ("My thesis", "running", "thesis", "")


def test_a_name_that_no_container_can_have_and_options_of_any_shape_do_not_break_the_page() -> None:
    assert describe(None, name="jupyter").name == ""
    assert describe(None, ready=True, user_options="odd").profile == ""
    assert describe(None, ready=True, user_options={"profile": "gone"}).profile == "gone"


def test_an_end_that_is_past_counts_no_time_below_zero() -> None:
    found = count_down(NOW - timedelta(minutes=5), NOW)
    assert found is not None
    assert found.words.startswith("0 s left")
