"""More run time for one server, within what the admin allows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ..errors import LimitExceeded, RequestRefused
from ..model import Extension, Lease, Policy, Reservation, Slot, Watch
from .wording import may_extend, show_span, show_time


def extend(
    lease: Lease,
    watch: Watch,
    asked: timedelta,
    policy: Policy,
    *,
    slots: Iterable[Slot],
    reservations: Iterable[Reservation],
    now: datetime,
) -> Extension:
    """Return `asked` more run time, from the end that the server has now on.

    `slots` are those of the lease. Whose reservation begins before the new end is not hers, so she gets
    no time of it.

    Raises:
        RequestRefused: there is nothing to extend, or a reservation is in the way.
        LimitExceeded: longer than one may extend at once, or as often as one may.
    """
    end = lease.runs_until
    if end is None:
        raise RequestRefused("Your server may run without an end, so there is nothing to extend.")
    if asked <= timedelta(0):
        raise RequestRefused("Ask for more than no time at all.")
    _check_policy(watch, asked, policy, end, now)
    try:
        until = end + asked
    except OverflowError as exc:
        raise RequestRefused("You ask for more time than there is. Ask for less.") from exc
    if until <= now:
        raise RequestRefused("The run time of your server is over. Start it again to go on.")
    start = _find_reservation(lease.user, slots, reservations, end, until)
    if start is not None:
        advice = f"Ask for at most {show_span(start - end)}." if start > end else "Save your work by then."
        raise RequestRefused(
            f"From {show_time(start, now)} on your GPU is reserved for somebody else, so your server cannot "
            f"run until {show_time(until, now)}. {advice}"
        )
    return Extension(at=now, until=until, who=lease.user)


def _check_policy(watch: Watch, asked: timedelta, policy: Policy, end: datetime, now: datetime) -> None:
    number, most, longest = len(watch.extensions), policy.max_extensions, policy.max_extension
    if not may_extend(watch, policy):
        times = f"{number} {'time' if number == 1 else 'times'} already; your limit is {most}"
        said = f"You gave this server more time {times}." if number else "Your group may not extend run time."
        raise LimitExceeded(f"{said} It ends at {show_time(end, now)}: save your work by then.")
    if longest is not None and asked > longest:
        raise LimitExceeded(
            f"You ask for {show_span(asked)} more; your limit is {show_span(longest)} at once. Ask for less."
        )


def _find_reservation(
    user: str, slots: Iterable[Slot], reservations: Iterable[Reservation], end: datetime, until: datetime
) -> datetime | None:
    """Return since or from when somebody else has one of the slots in the time from `end` to `until`."""
    members = tuple(slots)
    starts = (
        max(one.start, end)
        for one in reservations
        if one.user != user and one.start < until and end < one.end and any(map(one.covers, members))
    )
    return min(starts, default=None)
