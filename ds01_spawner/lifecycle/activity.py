"""What one check says of a server: in use, quiet, or nothing at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ..model import FULL_GPU, Activity, Cause, Lease, Observation, Policy, SlotUse, Watch

# In planned times between two checks: what is further apart than the one was not watched in between, and
# what is closer together than the other shows no average.
_LONGEST_GAP = 5
_SHORTEST_GAP = 0.5


def judge(lease: Lease, watch: Watch, seen: Observation, policy: Policy, interval: timedelta) -> Activity:
    """Return what a check found; `interval` is the planned time between two of them.

    CPU and network are averages since the last check that saw everything. A slot of the lease that
    `seen` does not have was not seen.
    """
    uses = {use.slot: use for use in seen.uses}
    works = [_is_used(uses[slot], policy) if slot in uses else None for slot in lease.slots]
    if seen.started_at is not None and seen.at < seen.started_at + policy.grace:
        return Activity.STARTING
    if True in works:
        return Activity.GPU
    if seen.shells:
        return Activity.SHELL
    if None in works or seen.shells is None:
        return Activity.UNKNOWN
    return _judge_counters(watch, seen, policy, interval)


def _is_used(use: SlotUse, policy: Policy) -> bool | None:
    """Whether a slot is used; None is for not knowing."""
    if use.profile != FULL_GPU:
        return None if use.processes is None else use.processes > 0
    used = use.utilisation_percent
    return None if used is None else used >= policy.gpu_idle_percent


def _judge_counters(watch: Watch, seen: Observation, policy: Policy, interval: timedelta) -> Activity:
    if (
        seen.started_at is None
        or seen.cpu_seconds is None
        or seen.network_bytes is None
        or seen.last_activity is None
    ):
        return Activity.UNKNOWN
    if watch.checked_at is None or watch.cpu_seconds is None or watch.network_bytes is None:
        return Activity.UNWATCHED
    gap = seen.at - watch.checked_at
    used_seconds = seen.cpu_seconds - watch.cpu_seconds
    moved_bytes = seen.network_bytes - watch.network_bytes
    is_restarted = seen.started_at > watch.checked_at or used_seconds < 0 or moved_bytes < 0
    if is_restarted or not _is_next(seen.at, watch.checked_at, interval):
        return Activity.UNWATCHED
    if gap < _SHORTEST_GAP * interval:
        return Activity.TOO_SOON
    if 100 * used_seconds / gap.total_seconds() > policy.cpu_idle_percent:
        return Activity.CPU
    if 60 * moved_bytes / gap.total_seconds() > policy.network_idle_bytes:
        return Activity.NETWORK
    if watch.idle_since is not None and seen.last_activity > watch.idle_since:
        return Activity.HUB
    return Activity.QUIET


def _is_next(now: datetime, last: datetime | None, interval: timedelta) -> bool:
    """Whether nothing was missed between two checks, and the clock was not set meanwhile."""
    return last is not None and timedelta(0) <= now - last <= _LONGEST_GAP * interval


def follow(watch: Watch, seen: Observation, activity: Activity, interval: timedelta) -> Watch:
    """Return what to remember after a check; one that did not see everything says nothing of idleness."""
    if watch.watched_since is None or not _is_next(seen.at, watch.looked_at, interval):
        watch = replace(watch, watched_since=seen.at)
    watch = replace(watch, looked_at=seen.at)
    if activity in (Activity.UNKNOWN, Activity.TOO_SOON):
        return watch
    is_same_file = seen.keep_alive == watch.keep_alive
    watch = replace(
        watch,
        checked_at=seen.at,
        cpu_seconds=seen.cpu_seconds,
        network_bytes=seen.network_bytes,
        keep_alive=seen.keep_alive,
        keep_alive_seen_at=watch.keep_alive_seen_at if is_same_file else seen.at,
    )
    if activity is Activity.QUIET:
        return replace(watch, idle_since=watch.idle_since or seen.at, idle_checks=watch.idle_checks + 1)
    watch = replace(
        watch,
        idle_since=None,
        idle_checks=0,
        notices=tuple(notice for notice in watch.notices if notice.cause is not Cause.IDLE),
    )
    if activity is Activity.HUB and seen.last_activity is not None:
        # The Hub tells late what it saw; since then it was quiet.
        return replace(watch, idle_since=min(seen.last_activity, seen.at), idle_checks=1)
    return watch
