"""More run time: how much, how often, and never into somebody else's reservation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ds01_spawner.errors import LimitExceeded, RequestRefused
from ds01_spawner.lifecycle import extend
from ds01_spawner.lifecycle.wording import show_time
from ds01_spawner.model import Extension, Policy, Reservation, Watch
from tests.unit.pools import HOUR, MINUTE, NOW, mig, reserve
from tests.unit.servers import HERS, SLICE, Scene, Server, lease_of

LEASE = lease_of(SLICE, hours=10)
BUSY = Scene(processes=1)
DAY = 24 * 60


def ask(
    hours: float,
    *,
    policy: Policy = Policy(),  # noqa: B008  it is frozen
    watch: Watch = Watch(),  # noqa: B008
    reservations: Sequence[Reservation] = (),
    now: datetime = NOW + 9 * HOUR,
) -> datetime:
    """Return the new end of the run time, which was at ten hours."""
    slots = [mig("0:1")]
    return extend(LEASE, watch, hours * HOUR, policy, slots=slots, reservations=reservations, now=now).until


def extended(times: int) -> Watch:
    granted = Extension(at=NOW, until=NOW + 9 * HOUR, who="ada")
    return Watch(extensions=(granted,) * times)


def hour(hours: float) -> str:
    return show_time(NOW + hours * HOUR, NOW + 9 * HOUR)


def test_extension_begins_at_the_end_of_the_run_time() -> None:
    granted = extend(
        LEASE, Watch(), 2 * HOUR, Policy(), slots=[mig("0:1")], reservations=(), now=NOW + 5 * HOUR
    )
    assert granted == Extension(at=NOW + 5 * HOUR, until=NOW + 12 * HOUR, who="ada")


def test_no_more_at_once_than_allowed() -> None:
    assert ask(4) == NOW + 14 * HOUR
    with pytest.raises(LimitExceeded, match="You ask for 4 h 30 min more; your limit is 4 h at once"):
        ask(4.5)
    assert ask(400, policy=Policy(max_extension=None)) == NOW + 410 * HOUR


def test_no_more_often_than_allowed() -> None:
    assert ask(1, watch=extended(1)) == NOW + 11 * HOUR
    with pytest.raises(LimitExceeded) as refused:
        ask(1, watch=extended(2))
    assert str(refused.value) == (
        f"You gave this server more time 2 times already; your limit is 2. It ends at {hour(10)}: "
        "save your work by then."
    )
    assert ask(1, watch=extended(9), policy=Policy(max_extensions=None)) == NOW + 11 * HOUR


def test_group_may_have_no_extension_at_all() -> None:
    with pytest.raises(LimitExceeded, match="Your group may not extend run time"):
        ask(1, policy=Policy(max_extensions=0))
    with pytest.raises(LimitExceeded, match="Your group may not extend run time"):
        ask(1, policy=Policy(max_extension=timedelta(0)))


@pytest.mark.parametrize("hours", [0, -1])
def test_no_time_at_all_is_no_extension(hours: float) -> None:
    with pytest.raises(RequestRefused, match="Ask for more"):
        ask(hours)


def test_more_time_than_a_calendar_has_is_refused() -> None:
    with pytest.raises(RequestRefused, match="more time than there is"):
        ask(1e8, policy=Policy(max_extension=None))


def test_server_without_an_end_has_nothing_to_extend() -> None:
    with pytest.raises(RequestRefused, match="may run without an end"):
        extend(lease_of(SLICE), Watch(), HOUR, Policy(), slots=(), reservations=(), now=NOW)


def test_what_would_be_over_already_is_refused() -> None:
    assert ask(2, now=NOW + 11 * HOUR) == NOW + 12 * HOUR
    with pytest.raises(RequestRefused, match="is over"):
        ask(1, now=NOW + 11 * HOUR)


@pytest.mark.parametrize("device", ["MIG-0:1", "GPU-0"])
def test_reservation_of_somebody_else_is_never_run_into(device: str) -> None:
    theirs = reserve("kim", 11.5, 20, device)
    assert ask(1.5, reservations=[theirs]) == NOW + 11.5 * HOUR
    with pytest.raises(RequestRefused) as refused:
        ask(2, reservations=[theirs])
    assert str(refused.value) == (
        f"From {hour(11.5)} on your GPU is reserved for somebody else, so your server cannot run until "
        f"{hour(12)}. Ask for at most 1 h 30 min."
    )


def test_reservation_that_begins_at_the_end_leaves_nothing_to_ask_for() -> None:
    with pytest.raises(RequestRefused, match=r"Save your work by then\.$"):
        ask(1, reservations=[reserve("kim", 10, 20, SLICE)])


@pytest.mark.parametrize(
    "reservation",
    [
        reserve("ada", 10, 20, SLICE),
        reserve("kim", 10, 20, "MIG-0:2"),
        reserve("kim", 2, 10, SLICE),
        reserve("kim", 12, 20, SLICE),
    ],
    ids=["her own", "of another slot", "over when hers ends", "after the new end"],
)
def test_other_reservations_are_in_nobodys_way(reservation: Reservation) -> None:
    assert ask(2, reservations=[reservation]) == NOW + 12 * HOUR


def grant(server: Server, hours: float) -> None:
    """Extend the run time of a server as the service does."""
    granted = extend(
        server.lease, server.watch, hours * HOUR, Policy(), slots=(), reservations=(), now=server.clock
    )
    server.lease = replace(server.lease, runs_until=granted.until)
    server.watch = replace(server.watch, extensions=(*server.watch.extensions, granted))


def test_extension_counts_and_the_new_end_is_warned_of_anew() -> None:
    server = Server(lease=LEASE, limits=HERS)
    server.play((500, BUSY))
    grant(server, 4)
    server.live(DAY, BUSY)
    assert server.told == [
        (480, "run-time-80"),
        (672, "run-time-80"),
        (798, "run-time-95"),
        (840, "run-time"),
    ]


def test_extension_in_the_last_minute_counts() -> None:
    server = Server(lease=LEASE, limits=HERS)
    server.play((599, BUSY))
    grant(server, 4)
    server.live(DAY, BUSY)
    assert server.told[-1] == (840, "run-time")


def test_extension_is_remembered_across_a_stop_and_a_resume() -> None:
    server = Server(lease=LEASE, limits=HERS)
    server.play((500, BUSY))
    grant(server, 4)
    server.pass_time(30 * MINUTE)
    server.started_at, server.cpu_seconds, server.network_bytes = server.clock, 0, 0
    server.live(60, BUSY)
    assert len(server.watch.extensions) == 1
    server.live(DAY, BUSY)
    assert server.told[-1] == (840, "run-time")
