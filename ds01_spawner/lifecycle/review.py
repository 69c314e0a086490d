"""One check of one server: what to remember, what to do now, and how much time is left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..model import (
    Activity,
    Cause,
    Decision,
    Demand,
    Lease,
    Limits,
    Notice,
    Observation,
    Policy,
    Review,
    Step,
    TimeLeft,
    Watch,
)
from .activity import follow, judge
from .demand import is_high
from .wording import describe, explain_stop, name_warning

_PERCENTS = (80, 95)
_ALL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """An end that comes at `at` (None: none), the warnings of it that hold, and whether it is there."""

    at: datetime | None = None
    notices: tuple[Notice, ...] = ()
    is_here: bool = False


def review(
    lease: Lease,
    watch: Watch,
    seen: Observation,
    limits: Limits,
    *,
    demand: Demand,
    interval: timedelta,
) -> Review:
    """Return what a check of a running server comes to; `watch` is what the last one left.

    `limits` are hers as they are now, `demand` is that for her slots, `interval` the planned time between
    two checks. A stop stands alone among the decisions, and is decided again until the server has stopped.
    """
    policy, told = limits.policy, watch.notices
    activity = judge(lease, watch, seen, policy, interval)
    watch = follow(watch, seen, activity, interval)
    run_time = _find_run_end(lease, watch, seen.at, policy)
    idleness = _find_idle_end(watch, activity, seen.at, limits, demand)
    watch = replace(watch, notices=(*run_time.notices, *idleness.notices))
    decisions: tuple[Decision, ...]
    if run_time.is_here:
        decisions = (_stop(Cause.RUN_TIME, run_time.at, lease, watch, seen.at),)
    elif idleness.is_here:
        decisions = (_stop(Cause.IDLE, idleness.at, lease, watch, seen.at),)
    else:
        new = (notice for notice in watch.notices if notice not in told)
        decisions = tuple(_warn(notice, watch, policy, seen.at) for notice in new)
    left = TimeLeft(
        run_until=run_time.at,
        idle_since=watch.idle_since,
        idle_until=idleness.at,
        warnings=watch.notices,
    )
    return Review(activity=activity, watch=watch, decisions=decisions, time_left=left)


def _find_run_end(lease: Lease, watch: Watch, now: datetime, policy: Policy) -> _End:
    """Return the end of the run time, which moves only where nobody was warned in time."""
    end = lease.runs_until
    if end is None:
        return _End()
    # Those of an end that was moved since, or given before the clock was set back, hold no more.
    valid = tuple(
        notice
        for notice in watch.notices
        if notice.cause is Cause.RUN_TIME
        and notice.at <= now
        and end <= notice.ends_at <= max(end, notice.at + policy.warning_lead)
    )
    at = max(end, now + policy.warning_lead)
    if valid:
        # Who was warned before a gap, or before the clock was set, may not have had the time she was told.
        at = max(valid[0].ends_at, (watch.watched_since or now) + policy.warning_lead)
    if at <= now:
        return _End(at=at, notices=valid, is_here=True)
    percents = _PERCENTS if valid else (*_PERCENTS, _ALL)
    length, passed = end - lease.created_at, now - lease.created_at
    percent = max((one for one in percents if _ALL * passed >= one * length), default=0)
    if percent > max((notice.percent for notice in valid), default=0):
        valid = (*valid, Notice(cause=Cause.RUN_TIME, at=now, ends_at=at, percent=percent))
    return _End(at=at if valid else end, notices=valid)


def _find_idle_end(watch: Watch, activity: Activity, now: datetime, limits: Limits, demand: Demand) -> _End:
    """Return when idleness ends a server that is quiet; only a check that saw it quiet warns or stops."""
    policy, is_short = limits.policy, is_high(demand, limits.policy)
    due = _find_due(watch, limits, is_short)
    if due is None:
        return _End()
    is_idle = activity is Activity.QUIET and watch.idle_checks >= policy.idle_window
    # One whose end has moved away (less demand, a longer timeout) is taken back, and given again later.
    told = [one for one in watch.notices if one.cause is Cause.IDLE and one.ends_at >= due]
    if told:
        return _End(at=told[0].ends_at, notices=(told[0],), is_here=is_idle and told[0].ends_at <= now)
    at = max(due, now + policy.warning_lead)
    if not is_idle or now < due - policy.warning_lead:
        return _End(at=at)
    return _End(at=at, notices=(Notice(cause=Cause.IDLE, at=now, ends_at=at, is_sooner=is_short),))


def _find_due(watch: Watch, limits: Limits, is_short: bool) -> datetime | None:
    """Return when its idle time is over, None for never or not idle."""
    policy, timeout = limits.policy, limits.idle_timeout
    if watch.idle_since is None or timeout is None:
        return None
    ends = [watch.idle_since + timeout * (policy.high_demand_factor if is_short else 1)]
    if watch.paused_until is not None:
        ends.append(watch.paused_until)
    if watch.keep_alive is not None and watch.keep_alive_seen_at is not None:
        if policy.keep_alive is None:
            return None
        # A file that was dated into the future holds for as long as one that was touched when it was seen.
        ends.append(min(watch.keep_alive, watch.keep_alive_seen_at) + policy.keep_alive)
    return max(ends)


def _stop(cause: Cause, at: datetime | None, lease: Lease, watch: Watch, now: datetime) -> Decision:
    return Decision(
        step=Step.STOP,
        cause=cause,
        ends_at=at or now,
        reason=cause.value,
        sentence=explain_stop(cause, lease, watch, now),
    )


def _warn(notice: Notice, watch: Watch, policy: Policy, now: datetime) -> Decision:
    return Decision(
        step=Step.WARN,
        cause=notice.cause,
        ends_at=notice.ends_at,
        reason=name_warning(notice),
        sentence=describe(notice, watch, policy, now),
    )
