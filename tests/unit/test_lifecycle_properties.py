"""What holds of every server's time, whatever is seen of it, however late, and by whatever clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_spawner.lifecycle import is_high
from ds01_spawner.model import Activity, Cause, Limits, Policy, Step
from tests.unit.pools import HOUR, MINUTE, NOW
from tests.unit.servers import GPU, MANY, QUIET, SLICE, WANTED, Scene, Server, lease_of

UNTIMED = settings(deadline=None)  # the machine may be busy

LEAD = 5 * MINUTE
POLICY = Policy(warning_lead=LEAD, grace=3 * MINUTE, idle_window=2, keep_alive=HOUR, high_demand_factor=0.5)

SCENES = st.sampled_from(
    [
        *[QUIET] * 6,
        *[WANTED] * 2,
        Scene(processes=1, utilisation=80),
        Scene(processes=1, utilisation=80, silent="docker"),
        Scene(cpu=90),
        Scene(network=2**24),
        Scene(shells=1),
        Scene(hub=True),
        Scene(keep_alive=5),
        Scene(keep_alive=90_000),
        Scene(silent="nvml"),
        Scene(silent="docker", demand=MANY),
        Scene(silent="hub"),
    ]
)
# What passes unwatched before the checks of a scene, and how the clock is set. A clock that is set forward by
# less than five checks may shorten an idle time by as much: nobody can tell it from a late check.
GAPS = st.sampled_from([0, 0, 0, 3, 4, 10, 240])
JUMPS = st.sampled_from([*[0] * 5, -600, -31, -2, 6, 45, 3000])


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    minutes: int
    scene: Scene
    gap: int = 0
    jump: int = 0


EPISODES = st.lists(
    st.builds(Episode, minutes=st.integers(1, 30), scene=SCENES, gap=GAPS, jump=JUMPS), max_size=12
)
SERVERS = st.builds(
    lambda slots, hours, idle: Server(
        lease=lease_of(*slots, hours=hours),
        limits=Limits(group="student", idle_timeout=idle, policy=POLICY),
    ),
    st.sampled_from([(SLICE,), (GPU,), (SLICE, GPU), ()]),
    st.sampled_from([None, 0.05, 1, 2, 24]),
    st.sampled_from([None, MINUTE, 20 * MINUTE, 40 * MINUTE]),
)


@dataclass(slots=True)
class Witness:
    """What somebody with a perfect clock saw of a server."""

    quiet_since: timedelta | None = None
    warned_at: timedelta | None = None

    def miss(self, minutes: int) -> None:
        """Note that by the server's clock nobody looked for so long."""
        if not 0 <= minutes <= 5:
            self.quiet_since = self.warned_at = None

    def see(self, server: Server, scene: Scene) -> None:
        """Check what the last review decided."""
        assert server.review is not None
        if _is_used(server, scene) or server.clock < server.started_at + POLICY.grace:
            self.quiet_since = self.warned_at = None
        elif not _is_blind(server, scene) and (self.quiet_since is None or scene.hub):
            # What the Hub saw was at this very moment.
            self.quiet_since, self.warned_at = server.passed, None
        for decision in server.review.decisions:
            if decision.cause is Cause.RUN_TIME:
                self._see_run_time(server, decision.step)
            elif decision.step is Step.WARN:
                self.warned_at = server.passed
                assert decision.ends_at >= server.clock + LEAD
            else:
                self._see_idle_stop(server, scene)

    def _see_idle_stop(self, server: Server, scene: Scene) -> None:
        timeout = server.limits.idle_timeout
        assert timeout is not None
        assert not _is_blind(server, scene)
        assert self.quiet_since is not None
        idle = server.passed - self.quiet_since
        assert idle >= timeout * (POLICY.high_demand_factor if is_high(scene.demand, POLICY) else 1)
        assert self.warned_at is not None
        assert self.warned_at >= self.quiet_since
        assert server.passed - self.warned_at >= LEAD

    def _see_run_time(self, server: Server, step: Step) -> None:
        told = [at for at, reason in server.told if reason.startswith("run-time-")]
        if step is Step.STOP:
            assert server.lease.runs_until is not None
            assert server.clock >= server.lease.runs_until
            assert told
            assert server.minute - told[0] >= LEAD / MINUTE


def _is_blind(server: Server, scene: Scene) -> bool:
    return scene.silent in ("docker", "hub") or (scene.silent == "nvml" and bool(server.lease.slots))


def _is_used(server: Server, scene: Scene) -> bool:
    works = [
        scene.utilisation >= 5 if slot.startswith("GPU-") else scene.processes > 0
        for slot in server.lease.slots
    ]
    is_seen = any(works) and scene.silent != "nvml"
    return is_seen or scene.shells > 0 or scene.cpu > 2 or scene.network > 2**20


def live(server: Server, episodes: list[Episode]) -> Witness:
    """Live through the episodes, and let a witness look at each decision."""
    witness = Witness()
    server.look()
    witness.see(server, QUIET)
    for episode in episodes:
        server.pass_time(episode.gap * MINUTE)
        server.clock += episode.jump * MINUTE
        witness.miss(episode.gap + episode.jump + 1)
        for _ in range(episode.minutes):
            server.pass_time(MINUTE, episode.scene)
            server.look(episode.scene)
            witness.see(server, episode.scene)
            if server.is_stopped:
                return witness
    return witness


@settings(UNTIMED, max_examples=400)
@given(SERVERS, EPISODES)
def test_nobody_is_stopped_early_unwarned_or_at_work(server: Server, episodes: list[Episode]) -> None:
    live(server, episodes)


@UNTIMED
@given(SERVERS, EPISODES)
def test_time_left_is_what_the_decisions_come_to(server: Server, episodes: list[Episode]) -> None:
    live(server, episodes)
    assert server.review is not None
    left, decisions = server.review.time_left, server.review.decisions
    for decision in decisions:
        shown = left.run_until if decision.cause is Cause.RUN_TIME else left.idle_until
        assert shown == decision.ends_at
        assert (decision.step is Step.STOP) == (decision.ends_at <= server.clock)
    if server.lease.runs_until is None:
        assert left.run_until is None
    else:
        assert left.run_until is not None
        assert left.run_until >= server.lease.runs_until
    assert (left.idle_since is None) <= (left.idle_until is None)
    assert set(left.warnings) == set(server.watch.notices)


@UNTIMED
@given(SERVERS, EPISODES)
def test_gpu_that_works_is_never_idle(server: Server, episodes: list[Episode]) -> None:
    busy = [replace(one, scene=Scene(processes=1, utilisation=50)) for one in episodes]
    live(server, busy)
    assert server.review is not None
    if server.lease.slots and episodes:
        assert server.review.activity in (Activity.GPU, Activity.STARTING)
        assert not any(decision.cause is Cause.IDLE for decision in server.decisions)


@UNTIMED
@given(SERVERS, EPISODES)
def test_whatever_happened_before_an_idle_server_is_stopped_in_the_end(
    server: Server, episodes: list[Episode]
) -> None:
    calm = [replace(one, jump=0) for one in episodes]
    live(server, calm)
    before = server.passed
    timeout = server.limits.idle_timeout
    if timeout is None or server.is_stopped:
        return
    # A file that was touched at the end of the episodes counts for an hour more.
    server.live(3 * 60)
    assert server.is_stopped
    run_end = server.lease.runs_until
    if run_end is None or run_end > NOW + server.passed:
        assert server.passed - before <= timeout + LEAD + (POLICY.idle_window + 1) * MINUTE + HOUR


@UNTIMED
@given(SERVERS, EPISODES)
def test_same_checks_give_the_same_decisions(server: Server, episodes: list[Episode]) -> None:
    twin = Server(lease=server.lease, limits=server.limits)
    live(server, episodes)
    live(twin, episodes)
    assert twin.told == server.told
