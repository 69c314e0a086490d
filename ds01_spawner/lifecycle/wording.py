"""What a student reads about the time of her server."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..model import Cause, Lease, Notice, Policy, Watch

_ALL = 100


def describe(notice: Notice, watch: Watch, policy: Policy, now: datetime) -> str:
    """Return a warning as the student reads it: when the server ends, why, and what she can do."""
    end = show_time(notice.ends_at, now)
    if notice.cause is Cause.IDLE:
        since = "" if watch.idle_since is None else f" since {show_time(watch.idle_since, now)}"
        sooner = ", sooner than usual since others want its GPU" if notice.is_sooner else ""
        said = f"Your server has been idle{since} and will be stopped at {end}{sooner}."
        return f"{said} {_say_how_to_keep(policy)}"
    longer = ", or give it more time" if may_extend(watch, policy) else ""
    used = "The" if notice.percent == _ALL else f"More than {notice.percent} % of the"
    return (
        f"{used} run time of your server is over: it will be stopped at {end}. "
        f"Save your work by then{longer}."
    )


def explain_stop(cause: Cause, lease: Lease, watch: Watch, now: datetime) -> str:
    """Return why a server is stopped now, and how she goes on."""
    if cause is Cause.IDLE and watch.idle_since is not None:
        why = f"it has been idle since {show_time(watch.idle_since, now)}"
    elif lease.runs_until is not None:
        why = f"its run time of {show_span(lease.runs_until - lease.created_at)} is over"
    else:
        why = "its time is over"
    return f"Your server is stopped now: {why}. Your files are kept; start a server again to go on."


def name_warning(notice: Notice) -> str:
    """Return the slug of a warning: `idle-warning`, `run-time-80`."""
    return "idle-warning" if notice.cause is Cause.IDLE else f"{notice.cause.value}-{notice.percent}"


def may_extend(watch: Watch, policy: Policy) -> bool:
    """Whether her run time may be extended once more, for some time at least."""
    has_one_left = policy.max_extensions is None or len(watch.extensions) < policy.max_extensions
    return has_one_left and policy.max_extension != timedelta(0)


def show_time(moment: datetime, now: datetime) -> str:
    """Return a moment in the machine's local time, with its day where that is not today."""
    local = moment.astimezone()
    same_day = local.date() == now.astimezone().date()
    return f"{local:%H:%M}" if same_day else f"{local:%H:%M on %Y-%m-%d}"


def show_span(span: timedelta) -> str:
    """Return how long: `24 h`, `1 h 30 min`, or seconds where it is less than a minute."""
    minutes = round(span.total_seconds() / 60)
    if not minutes:
        return f"{max(0, round(span.total_seconds()))} s"
    parts = ((minutes // 60, "h"), (minutes % 60, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _say_how_to_keep(policy: Policy) -> str:
    if policy.keep_alive == timedelta(0):
        return "Use it to keep it."
    for_long = "" if policy.keep_alive is None else f" for {show_span(policy.keep_alive)}"
    return f"Use it to keep it, or create the file `.keep-alive` in your workspace, which counts{for_long}."
