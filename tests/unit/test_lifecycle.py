"""When a server is warned and stopped, on a simulated clock: minutes since its start, checks each minute."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ds01_spawner.lifecycle import measure_demand, review
from ds01_spawner.lifecycle.wording import show_time
from ds01_spawner.model import (
    Activity,
    Container,
    Demand,
    Lease,
    LeaseState,
    Limits,
    Policy,
    QueueEntry,
    Step,
)
from ds01_spawner.reconcile import Action, Rules, hold_for, plan_lease
from tests.unit.pools import HOUR, MINUTE, NOW, gpu, mig, waits
from tests.unit.servers import FEW, GPU, HERS, QUIET, SLICE, WANTED, Scene, Server, lease_of, play

# With the grace of 30 minutes after the start, an hour of idleness ends at 90; it is told 10 minutes before.
STOPPED = [(80, "idle-warning"), (90, "idle")]
LONG = 24 * 60


def with_policy(**changes: object) -> Limits:
    return replace(HERS, policy=replace(Policy(), **changes))


# idle or not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "scene", "told"),
    [
        ((SLICE,), QUIET, STOPPED),
        ((), QUIET, STOPPED),
        ((GPU,), QUIET, STOPPED),
        ((GPU,), Scene(utilisation=4.9), STOPPED),
        ((GPU,), Scene(utilisation=5), []),
        ((GPU,), Scene(utilisation=100), []),
        ((GPU,), Scene(processes=3, utilisation=1), STOPPED),
        ((SLICE,), Scene(processes=1), []),
        ((SLICE,), Scene(utilisation=100), STOPPED),
        ((SLICE, GPU), Scene(utilisation=50), []),
        ((SLICE,), Scene(cpu=100), []),
        ((SLICE,), Scene(cpu=2.1), []),
        ((SLICE,), Scene(cpu=1.99), STOPPED),
        ((SLICE,), Scene(network=2**20 + 1), []),
        ((SLICE,), Scene(network=2**20), STOPPED),
        ((SLICE,), Scene(shells=1), []),
        ((SLICE,), Scene(hub=True), []),
    ],
    ids=[
        "nothing happens on a slice",
        "nothing happens on a server without a GPU",
        "nothing happens on a full GPU",
        "full GPU under the threshold",
        "full GPU at the threshold",
        "full GPU that trains",
        "full GPU with processes that do nothing",
        "slice with a process",
        "slice without a process, whatever it says of its use",
        "one of two works",
        "closed tab with a long cell on the CPU",
        "more than a little CPU",
        "a little CPU",
        "a download",
        "a little network",
        "a shell over SSH",
        "somebody at the browser",
    ],
)
def test_what_is_used_is_kept_and_what_is_idle_is_stopped(
    slots: tuple[str, ...], scene: Scene, told: list[tuple[float, str]]
) -> None:
    assert play((LONG, scene), server=Server(lease=lease_of(*slots))) == told


@pytest.mark.parametrize("silent", ["nvml", "docker", "hub"])
def test_who_gives_no_answer_makes_nothing_idle(silent: str) -> None:
    server = Server()
    assert server.play((LONG, Scene(silent=silent))) == []
    assert server.review is not None
    assert server.review.activity is Activity.UNKNOWN


def test_slot_of_the_lease_that_was_not_seen_makes_nothing_idle() -> None:
    server = Server()
    server.play((40, QUIET))
    seen = replace(server.observe(QUIET), at=server.clock + MINUTE)
    found = review(lease_of(SLICE, GPU), server.watch, seen, HERS, demand=FEW, interval=MINUTE)
    assert found.activity is Activity.UNKNOWN


def test_gpu_that_works_counts_though_nobody_else_answers() -> None:
    server = Server(lease=lease_of(GPU))
    server.play((60, QUIET))
    server.pass_time(MINUTE)
    assert server.look(Scene(utilisation=90, silent="docker")).activity is Activity.GPU
    assert server.watch.idle_since is None


def test_silence_between_two_quiet_checks_neither_counts_as_a_check_nor_loses_the_time() -> None:
    # Asked every minute; one in four answers.
    silent = Scene(silent="nvml")
    scenes = [scene for _ in range(60) for scene in ((3, silent), (1, QUIET))]
    told = play((30, QUIET), *scenes)
    assert [reason for _, reason in told] == ["idle-warning", "idle"]
    assert 90 <= told[-1][0] <= 96


def test_silence_for_longer_than_five_checks_begins_anew() -> None:
    told = play((70, QUIET), (6, Scene(silent="hub")), (LONG, QUIET))
    # The check at 77 sees where the counters are, the one at 78 that they stand still.
    assert told == [(128, "idle-warning"), (138, "idle")]


def test_closed_tab_with_a_long_cell_is_kept_and_stopped_once_the_cell_is_done() -> None:
    cell = Scene(processes=1, cpu=100)
    assert play((30, Scene(hub=True)), (600, cell), (LONG, QUIET)) == [
        (681, "idle-warning"),
        (691, "idle"),
    ]


def test_one_busy_check_begins_anew_and_takes_a_warning_back() -> None:
    server = Server()
    told = server.play((85, QUIET), (1, Scene(processes=1)), (LONG, QUIET))
    assert told == [(80, "idle-warning"), (137, "idle-warning"), (147, "idle")]


def test_click_in_the_browser_takes_a_warning_back() -> None:
    server = Server()
    server.play((85, QUIET), (1, Scene(hub=True)))
    assert server.review is not None
    assert server.review.activity is Activity.HUB
    assert server.review.time_left.warnings == ()
    assert server.review.time_left.idle_until == NOW + 146 * MINUTE


def test_what_the_hub_tells_late_counts_from_when_it_was() -> None:
    server = Server()
    server.play((60, QUIET))
    server.last_activity = NOW + 56 * MINUTE
    server.live(LONG)
    assert server.told == [(106, "idle-warning"), (116, "idle")]


def test_checks_in_a_row_are_needed_before_anything_is_said() -> None:
    limits = replace(with_policy(idle_window=30), idle_timeout=MINUTE)
    assert play((LONG, QUIET), server=Server(limits=limits)) == [(59, "idle-warning"), (69, "idle")]


def test_two_checks_close_together_count_once() -> None:
    server = Server()
    server.play((40, QUIET))
    before = server.watch.idle_checks
    for _ in range(20):
        server.pass_time(timedelta(seconds=1), Scene(cpu=50))
        assert server.look().activity is Activity.TOO_SOON
    assert server.watch.idle_checks == before


def test_container_that_was_started_again_begins_anew() -> None:
    server = Server()
    server.play((85, QUIET))
    server.started_at, server.cpu_seconds, server.network_bytes = server.clock, 0, 0
    server.live(LONG)
    assert server.told == [(80, "idle-warning"), (165, "idle-warning"), (175, "idle")]


def test_container_that_was_started_again_without_a_grace_begins_anew_too() -> None:
    server = Server(limits=with_policy(grace=timedelta(0)))
    server.play((40, QUIET))
    server.started_at = server.clock + MINUTE / 2
    server.live(1)
    assert server.review is not None
    assert server.review.activity is Activity.UNWATCHED


@pytest.mark.parametrize("counter", ["cpu_seconds", "network_bytes"])
def test_counter_that_fell_shows_nothing_of_the_time_before(counter: str) -> None:
    server = Server()
    server.play((85, QUIET))
    setattr(server, counter, 0)
    server.live(LONG)
    assert server.told == [(80, "idle-warning"), (137, "idle-warning"), (147, "idle")]


def test_where_no_warning_is_wanted_the_end_is_the_end() -> None:
    server = running(10, warning_lead=timedelta(0))
    server.play((300, BUSY))
    server.pass_time(400 * MINUTE)
    server.live(LONG, BUSY)
    assert server.told == [(701, "run-time")]
    assert play((LONG, QUIET), server=Server(limits=with_policy(warning_lead=timedelta(0)))) == [
        (90, "idle-warning"),
        (91, "idle"),
    ]


def test_no_idle_timeout_is_no_end_though_it_is_seen_that_it_is_idle() -> None:
    server = Server(limits=replace(HERS, idle_timeout=None))
    assert server.play((LONG, QUIET)) == []
    assert server.review is not None
    assert server.review.time_left.idle_until is None
    assert server.review.time_left.idle_since == NOW + 30 * MINUTE


def test_timeout_that_is_shorter_than_the_warning_ends_after_the_warning() -> None:
    server = Server(limits=replace(HERS, idle_timeout=2 * MINUTE))
    assert server.play((LONG, QUIET)) == [(32, "idle-warning"), (42, "idle")]


def test_admin_may_let_it_be_idle_for_a_while() -> None:
    server = Server()
    server.watch = replace(server.watch, paused_until=NOW + 300 * MINUTE)
    assert server.play((LONG, QUIET)) == [(290, "idle-warning"), (300, "idle")]


# demand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demand", "told"),
    [
        (Demand(total=10, taken=7), STOPPED),
        (Demand(total=10, taken=8), [(50, "idle-warning"), (60, "idle")]),
        (Demand(total=10, taken=1, waiting=1), [(50, "idle-warning"), (60, "idle")]),
        (Demand(), STOPPED),
    ],
)
def test_high_demand_shortens_the_timeout(demand: Demand, told: list[tuple[float, str]]) -> None:
    assert play((LONG, Scene(demand=demand))) == told


def test_demand_that_comes_late_still_gives_the_whole_warning() -> None:
    assert play((75, QUIET), (LONG, WANTED)) == [(76, "idle-warning"), (86, "idle")]


def test_demand_that_goes_takes_the_warning_back() -> None:
    told = play((55, WANTED), (LONG, QUIET))
    assert told == [(50, "idle-warning"), (80, "idle-warning"), (90, "idle")]


def test_demand_that_comes_after_the_warning_changes_nothing() -> None:
    assert play((82, QUIET), (LONG, WANTED)) == STOPPED


def test_without_a_threshold_demand_is_never_high() -> None:
    scene = Scene(demand=Demand(total=1, taken=1, waiting=9))
    assert play((LONG, scene), server=Server(limits=with_policy(high_demand_share=None))) == STOPPED


def test_demand_is_that_for_slots_of_the_same_kind() -> None:
    slots = [mig("0:1"), mig("0:2"), replace(mig("0:3"), fault="lost"), gpu("1"), gpu("2")]
    queue: list[QueueEntry] = [waits("kim", 5, profile="full"), waits("eve", 5)]
    taken = {"MIG-0:1", "GPU-1", "GPU-2"}
    assert measure_demand(lease_of("MIG-0:1"), slots, taken, queue) == Demand(total=2, taken=1, waiting=1)
    assert measure_demand(lease_of(GPU), slots, taken, queue) == Demand(total=2, taken=2, waiting=1)
    assert measure_demand(lease_of(), slots, taken, queue) == Demand()


# .keep-alive ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenes", "told"),
    [
        ([(60, QUIET), (3000, Scene(keep_alive=60))], [(1490, "idle-warning"), (1500, "idle")]),
        ([(3000, Scene(keep_alive=-1400))], STOPPED),
        ([(3000, Scene(keep_alive=-3000))], STOPPED),
        (
            [(85, QUIET), (10, Scene(keep_alive=85)), (3000, QUIET)],
            [(80, "idle-warning"), (96, "idle-warning"), (106, "idle")],
        ),
        (
            [(1000, Scene(keep_alive=0)), (3000, Scene(keep_alive=1000))],
            [(2430, "idle-warning"), (2440, "idle")],
        ),
        ([(3000, Scene(keep_alive=50_000))], [(1430, "idle-warning"), (1440, "idle")]),
    ],
    ids=[
        "counts for a day and ends",
        "ends before the timeout does",
        "is too old",
        "comes after the warning, and is taken away again",
        "is touched again",
        "was dated into the future",
    ],
)
def test_keep_alive_counts_and_ends(scenes: list[tuple[float, Scene]], told: list[tuple[float, str]]) -> None:
    assert play(*scenes) == told


def test_keep_alive_has_no_end_where_the_admin_sets_none() -> None:
    server = Server(limits=with_policy(keep_alive=None))
    assert server.play((LONG, Scene(keep_alive=1))) == []
    assert server.review is not None
    assert server.review.time_left.idle_until is None


# clocks and crashes --------------------------------------------------------------------------------


def test_time_in_which_the_service_was_dead_does_not_count_as_idle() -> None:
    server = Server()
    server.play((70, QUIET))
    server.pass_time(3 * HOUR)
    server.live(LONG)
    assert server.told == [(302, "idle-warning"), (312, "idle")]


def test_service_that_is_back_within_five_checks_loses_nothing() -> None:
    server = Server()
    server.play((70, QUIET))
    server.pass_time(4 * MINUTE)
    server.live(LONG)
    assert server.told == STOPPED


@pytest.mark.parametrize("jump", [-50 * MINUTE, -2 * MINUTE, 10 * MINUTE, 10 * HOUR, 5000 * HOUR])
def test_clock_that_was_set_stops_nobody_early(jump: timedelta) -> None:
    server = Server()
    server.play((85, QUIET))
    server.clock += jump
    server.live(LONG)
    assert server.told == [(80, "idle-warning"), (137, "idle-warning"), (147, "idle")]


def test_server_that_starts_only_later_by_a_clock_that_was_set_back_is_kept_until_then() -> None:
    server = Server()
    server.play((85, QUIET))
    server.clock -= 10 * HOUR
    server.live(LONG)
    assert server.told == [(80, "idle-warning"), (680, "idle-warning"), (690, "idle")]


def test_clock_that_was_set_back_and_forth_stops_nobody_early() -> None:
    server = Server()
    server.play((85, QUIET))
    server.clock -= 10 * HOUR
    server.live(20)
    server.clock += 10 * HOUR
    server.live(LONG)
    assert server.told == [(80, "idle-warning"), (157, "idle-warning"), (167, "idle")]


def test_hub_whose_clock_is_ahead_keeps_a_server() -> None:
    server = Server()
    server.last_activity = NOW + 200 * MINUTE
    server.play((LONG, QUIET))
    assert server.told == [(250, "idle-warning"), (260, "idle")]


@pytest.mark.parametrize("moment", [20, 29, 33, 78, 81, 89])
def test_crash_of_the_service_at_any_moment_never_makes_it_earlier(moment: float) -> None:
    server = Server()
    server.play((moment, QUIET))
    server.pass_time(20 * MINUTE)
    server.live(LONG)
    warned = max(at for at, reason in server.told if reason == "idle-warning")
    assert server.told[-1] == (warned + 10, "idle")
    assert server.told[-1][0] >= max(30, moment + 20) + 60


# run time ------------------------------------------------------------------------------------------

BUSY = Scene(processes=1)


def running(hours: float, **policy: object) -> Server:
    return Server(lease=lease_of(SLICE, hours=hours), limits=with_policy(**policy))


def test_run_time_is_warned_of_at_80_and_95_percent_and_ends() -> None:
    server = running(10)
    assert server.play((LONG, BUSY)) == [(480, "run-time-80"), (570, "run-time-95"), (600, "run-time")]
    assert [decision.ends_at for decision in server.decisions] == [NOW + 10 * HOUR] * 3


def test_run_time_ends_though_the_gpu_works_and_nobody_answers() -> None:
    assert running(10).play((500, BUSY), (LONG, Scene(silent="docker"))) == [
        (480, "run-time-80"),
        (570, "run-time-95"),
        (600, "run-time"),
    ]


def test_short_run_time_ends_a_whole_warning_after_it_was_told() -> None:
    server = running(0.5)
    assert server.play((LONG, BUSY)) == [(24, "run-time-80"), (29, "run-time-95"), (34, "run-time")]
    assert {decision.ends_at for decision in server.decisions} == {NOW + 34 * MINUTE}


def test_end_that_came_while_the_service_was_dead_is_told_first() -> None:
    server = running(10)
    server.play((300, BUSY))
    server.pass_time(400 * MINUTE, BUSY)
    server.live(LONG, BUSY)
    assert server.told == [(701, "run-time-100"), (711, "run-time")]


def test_who_was_warned_before_the_service_died_has_the_time_of_a_warning_when_it_is_back() -> None:
    server = running(10)
    server.play((500, BUSY))
    server.pass_time(200 * MINUTE, BUSY)
    server.live(LONG, BUSY)
    assert server.told == [(480, "run-time-80"), (701, "run-time-95"), (711, "run-time")]


def test_clock_that_is_set_forward_ends_no_run_time_without_a_warning() -> None:
    server = running(10)
    server.play((595, BUSY))
    server.clock += 5 * HOUR
    server.live(LONG, BUSY)
    assert server.told[-1] == (606, "run-time")


def test_warning_of_a_clock_that_was_wrong_is_forgotten() -> None:
    server = running(10)
    server.play((60, BUSY))
    server.clock += 30 * HOUR
    server.live(3, BUSY)
    server.clock -= 30 * HOUR
    server.live(LONG, BUSY)
    assert server.told == [
        (61, "run-time-100"),
        (480, "run-time-80"),
        (570, "run-time-95"),
        (600, "run-time"),
    ]


def test_run_time_counts_on_when_the_container_was_held_and_resumed() -> None:
    server = running(10)
    server.play((200, BUSY))
    server.pass_time(100 * MINUTE)
    server.started_at, server.cpu_seconds, server.network_bytes = server.clock, 0, 0
    server.live(LONG, BUSY)
    assert server.told == [(480, "run-time-80"), (570, "run-time-95"), (600, "run-time")]


def test_end_that_was_moved_to_an_earlier_time_is_told_anew() -> None:
    server = running(10)
    server.play((500, BUSY))
    server.lease = replace(server.lease, runs_until=NOW + 505 * MINUTE)
    server.live(LONG, BUSY)
    assert server.told == [(480, "run-time-80"), (501, "run-time-95"), (511, "run-time")]


def test_stop_is_decided_again_until_it_is_done() -> None:
    server = Server()
    server.play((LONG, QUIET))
    for _ in range(3):
        server.pass_time(MINUTE)
        (decision,) = server.look().decisions
        assert (decision.step, decision.reason) == (Step.STOP, "idle")


def test_run_time_that_is_over_is_the_reason_of_a_server_that_is_idle_too() -> None:
    server = Server(lease=lease_of(SLICE, hours=1.5))
    assert server.play((LONG, QUIET))[-1] == (90, "run-time")
    assert [decision.step for decision in server.decisions].count(Step.STOP) == 1


# what she reads ------------------------------------------------------------------------------------


def hour(minute: float, now: float) -> str:
    return show_time(NOW + minute * MINUTE, NOW + now * MINUTE)


def test_warning_of_idleness_says_when_and_how_to_keep_the_server() -> None:
    server = Server()
    server.play((80, QUIET))
    assert server.decisions[0].sentence == (
        f"Your server has been idle since {hour(30, 80)} and will be stopped at {hour(90, 80)}. "
        "Use it to keep it, or create the file `.keep-alive` in your workspace, which counts for 24 h."
    )


def test_warning_in_high_demand_says_why_it_is_sooner() -> None:
    server = Server()
    server.play((50, WANTED))
    assert f"at {hour(60, 50)}, sooner than usual since others want its GPU." in server.decisions[0].sentence


def test_warning_of_the_run_time_says_when_and_offers_more_time_where_there_is_some() -> None:
    server = running(2)
    server.play((96, BUSY))
    assert server.decisions[0].sentence == (
        f"More than 80 % of the run time of your server is over: it will be stopped at {hour(120, 96)}. "
        "Save your work by then, or give it more time."
    )
    server = running(2, max_extensions=0)
    server.play((96, BUSY))
    assert server.decisions[0].sentence.endswith("Save your work by then.")


@pytest.mark.parametrize(
    ("server", "scene", "why"),
    [
        (Server(), QUIET, f"it has been idle since {hour(30, 90)}"),
        (running(1.5), BUSY, "its run time of 1 h 30 min is over"),
    ],
)
def test_stop_says_why_and_how_to_go_on(server: Server, scene: Scene, why: str) -> None:
    server.play((LONG, scene))
    assert server.decisions[-1].sentence == (
        f"Your server is stopped now: {why}. Your files are kept; start a server again to go on."
    )


def test_time_on_another_day_is_shown_with_its_day() -> None:
    server = running(100)
    server.play((4800, BUSY))
    end = (NOW + 100 * HOUR).astimezone()
    assert f"stopped at {end:%H:%M on %Y-%m-%d}." in server.decisions[0].sentence


# after the stop ------------------------------------------------------------------------------------


def test_server_that_is_idle_is_warned_stopped_held_and_removed_in_this_order() -> None:
    server = Server()
    limits = replace(HERS, gpu_hold_after_stop=15 * MINUTE, container_hold_after_stop=30 * MINUTE)
    rules = Rules(hold_of=lambda lease: hold_for(lease, limits))
    history = server.play((LONG, QUIET))
    container = Container(id="c", name="jupyter._.1001", image="", state="exited", labels={})
    lease: Lease = server.lease
    for minute in range(round(server.minute), 200):
        now = NOW + minute * MINUTE
        for repair in plan_lease(lease, [container], now, rules=rules):
            history.append((minute, repair.action.value))
            if repair.action is Action.HOLD:
                lease = replace(lease, state=LeaseState.HELD, deadline=repair.until)
            if repair.action is Action.RELEASE:
                lease = replace(lease, state=LeaseState.RELEASED)
        if lease.state is LeaseState.RELEASED:
            break
    assert history == [*STOPPED, (90, "hold"), (105, "end"), (105, "remove"), (105, "release")]
