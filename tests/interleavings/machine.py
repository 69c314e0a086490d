"""Everything that can happen to leases, one thing after another, in an order that Hypothesis chooses.

A step is a deed of a student, an admin, the Hub, the service or the machine itself (`deeds`); what
our processes do may be interrupted at any of their calls (`line`). After each step what must always hold
is looked at, after each undisturbed reconciling what must hold then, and at the end everything goes:
nothing may be left, and everybody can start again.
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import timedelta
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from hypothesis.strategies import SearchStrategy

from ds01_spawner.errors import EngineUnavailable
from ds01_spawner.model import ALL_DEVICES, FULL_GPU, NO_GPU

from . import deeds, ours
from .hardware import LAYOUTS, MIDDLE, SMALL
from .hub import ALL_STEPS, NO_GPU_WANTED, Hub, Order
from .line import ANY, OF_DOCKER, OF_LEDGER, Kill, Killed, Moment, NoAnswer
from .oracle import find_disagreements, find_faults
from .world import SERVERS, UIDS, Process, World

T = TypeVar("T")


def mix(*parts: tuple[int, SearchStrategy[T]]) -> SearchStrategy[T]:
    """Return what draws from each part as often as its weight says."""
    weighted = [strategy for weight, strategy in parts for _ in range(weight)]
    return st.integers(0, len(weighted) - 1).flatmap(weighted.__getitem__)


# The first more often than the others, so that what happens happens to the same ones.
NUMBERS = st.sampled_from((0, 0, 0, 1, 2, 3, 4))
SERVER = st.sampled_from((SERVERS[0], SERVERS[0], SERVERS[0], *SERVERS))
ANY_NAME = st.one_of(st.none(), SERVER)
USER = st.sampled_from(tuple(UIDS))
CARD = st.sampled_from((0, 1))
GPU_WISHES = ((SMALL, 1), (SMALL, 1), (SMALL, 2), (FULL_GPU, 1), (MIDDLE, 1))
AS_LAST_TIME = st.none()
ORDER = mix(
    (1, AS_LAST_TIME),
    (
        1,
        st.builds(
            lambda wish, make: Order(profile=wish[0], count=wish[1], make=make),
            st.sampled_from((*GPU_WISHES, (NO_GPU, 0))),
            st.sampled_from("ab"),
        ),
    ),
)
STEPS = st.integers(1, ALL_STEPS)
DEVICES = st.sampled_from(
    (None, None, (), ("0:0",), ("0",), ("1",), ("GPU-0",), ("GPU-1",), ("1:1", "0:1"), (ALL_DEVICES,))
)

START = st.builds(ours.StartServer, SERVER, ORDER)
GO_ON = st.builds(ours.GoOn, SERVER, ORDER, STEPS)
GO_ON_WITH_ALL = st.builds(ours.GoOnWithAll, STEPS)
STOP = st.builds(ours.StopServer, SERVER)
POLL = st.just(ours.Poll())
RECONCILE = st.builds(ours.Reconcile, st.booleans())
LOOK = st.just(ours.Look())
RELEASE = st.builds(ours.Release, NUMBERS, st.booleans())
KILL = st.one_of(st.builds(ours.KillHub, st.booleans()), st.just(ours.KillService()))
OURS = mix(
    (4, START), (2, GO_ON), (2, GO_ON_WITH_ALL), (4, STOP), (2, POLL), (3, RECONCILE), (2, LOOK), (2, RELEASE)
)

USE = st.one_of(
    st.builds(deeds.Start, NUMBERS), st.builds(deeds.Stop, NUMBERS), st.builds(deeds.Remove, NUMBERS)
)
RENAME = st.builds(deeds.Rename, NUMBERS, ANY_NAME)
RUN = st.one_of(st.builds(deeds.Run, DEVICES, ANY_NAME), st.builds(deeds.Run, DEVICES, ANY_NAME, NUMBERS))
CLOCK = st.builds(deeds.MoveClock, st.sampled_from((1, 4, 6, 20, 20, 60, 180, 13 * 60, 10 * 24 * 60, -2)))
LOSE_DOCKER = st.builds(deeds.LoseDocker, st.integers(1, 4), st.booleans())
REPARTITION = st.builds(deeds.Repartition, CARD, st.sampled_from(tuple(LAYOUTS)))
BREAK = st.builds(deeds.Break, CARD, st.sampled_from(("fault", "lost", "unreadable", "xid")))
MEND = st.just(deeds.Mend())
DRAIN = st.builds(deeds.Drain, st.sampled_from(("0", "1", "0:0", "1:0")))
ALLOCATE = st.builds(
    lambda user, wish, minutes: deeds.Allocate(user, *wish, minutes),
    USER,
    st.sampled_from(GPU_WISHES),
    st.sampled_from((5, 30)),
)
RESERVE = st.builds(
    deeds.Reserve,
    USER,
    st.sampled_from(("0", "1", "0:1")),
    st.sampled_from((-10, 10, 300)),
    st.sampled_from((30, 600)),
)
OTHERS = mix(
    (10, USE),
    (1, RENAME),
    (3, RUN),
    (6, CLOCK),
    (2, LOSE_DOCKER),
    (1, REPARTITION),
    (1, BREAK),
    (2, MEND),
    (1, DRAIN),
    (2, ALLOCATE),
    (1, RESERVE),
    (2, KILL),
)
INTERRUPTION = mix(
    (3, st.just(Kill())),
    (3, st.builds(NoAnswer, st.integers(1, 5))),
    (2, OURS),
    (2, OTHERS),
    (1, st.just(ours.Overtake())),
)
MOMENT = mix(
    (
        3,
        st.builds(
            Moment,
            call=st.sampled_from((*OF_DOCKER, *OF_LEDGER)),
            deed=INTERRUPTION,
            nth=st.sampled_from((1, 1, 2, 3)),
            after=st.booleans(),
        ),
    ),
    (2, st.builds(Moment, call=st.just(ANY), deed=INTERRUPTION, nth=st.integers(1, 40), after=st.booleans())),
)
MOMENTS = st.lists(MOMENT, min_size=1, max_size=4).map(tuple)
UNDISTURBED = st.just(())
STEP = mix(
    (2, st.tuples(START, UNDISTURBED)),
    (3, st.tuples(RECONCILE, UNDISTURBED)),
    (2, st.tuples(OURS, UNDISTURBED)),
    (6, st.tuples(OURS, MOMENTS)),
    (5, st.tuples(OTHERS, UNDISTURBED)),
)


class Interleavings(RuleBasedStateMachine):
    """One rule, so that each kind of step comes as often as is good; `ran` counts them over all examples."""

    ran: ClassVar[Counter[str]] = Counter()

    @initialize(shared_containers_block=st.booleans())
    def begin(self, shared_containers_block: bool) -> None:
        self.world = World(shared_containers_block=shared_containers_block)
        self.world.hub = Hub(self.world, self.world.begin("hub"))

    @rule(step=STEP)
    def take(self, step: tuple[deeds.Deed, tuple[Moment, ...]]) -> None:
        """Take one step: a deed, and what happens in the middle of it."""
        deed, moments = step
        self.ran[f"{type(deed).__name__}{', interrupted' if moments else ''}"] += 1
        self.world.pass_step()
        if isinstance(deed, ours.Reconcile) and not moments:
            self.reconcile(deed.begin(self.world))
        else:
            self.do(deed, moments)
        expect_nothing(find_faults(self.world))

    def do(self, deed: deeds.Deed, moments: tuple[Moment, ...]) -> None:
        process = deed.begin(self.world)
        if process is None:
            deed.do(self.world)
            return
        try:
            with process.line.interrupted(moments):
                deed.do(self.world, process)
        except Killed:
            self.world.replace(process)

    def reconcile(self, process: Process) -> None:
        """Reconcile undisturbed, and see that all is well then."""
        before = self.world.ledger.epoch()
        try:
            process.upkeep.reconcile()
        except EngineUnavailable:
            assert self.world.daemon.is_down
            assert self.world.ledger.epoch() == before, "the ledger changed, and nobody could ask Docker"
        else:
            expect_nothing(find_disagreements(self.world, process))

    # the end ---------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.wind_down()
        finally:
            self.world.close()

    def wind_down(self) -> None:
        """Let everything end, and see that nothing is left and everybody can start again."""
        world = self.world
        world.daemon.is_down = False
        world.hardware.mend()
        world.reservations = ()
        world.replace(world.hub.process, forgets=True)
        for container in world.daemon.list_all():
            if container.id in world.daemon.made:
                world.daemon.stop(container.id)
            else:
                world.daemon.remove(container.id)
        world.service.upkeep.reconcile()
        world.move_clock(timedelta(days=1))
        world.look(world.service)
        hub = world.hub
        for server in SERVERS:
            hub.stop(hub.process, server)
        expect_nothing(find_disagreements(world, world.service))
        assert world.ledger.live_leases() == ()
        assert world.ledger.queue() == ()
        assert world.daemon.list_all() == []
        for server in SERVERS[::2]:
            hub.spawn(hub.process, server, NO_GPU_WANTED, ALL_STEPS)
            assert server in hub.running, f"{server.user} cannot start again"
        expect_nothing(find_disagreements(world, world.service))


def expect_nothing(faults: list[str]) -> None:
    if faults:
        raise AssertionError("\n".join(faults))
