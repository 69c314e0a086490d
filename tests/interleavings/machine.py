"""Everything that can happen to leases, one thing after another, in an order that Hypothesis chooses.

Each rule is something that a student, an admin, the Hub, the service or the machine itself does. What
our processes do may be interrupted at any of their calls (`line`). After each step what must always hold
is looked at, after each undisturbed reconciling what must hold then, and at the end everything goes:
nothing may be left, and everybody can start again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ds01_spawner.errors import EngineUnavailable
from ds01_spawner.model import ALL_DEVICES, FULL_GPU, NO_GPU

from . import deeds
from .hardware import LAYOUTS, MIDDLE, SMALL
from .hub import ALL_STEPS, Hub, Order
from .line import Kill, Killed, Moment, NoAnswer
from .oracle import find_disagreements, find_faults
from .world import SERVERS, UIDS, Process, Server, World

NUMBERS = st.integers(0, 7)
SERVER = st.sampled_from(SERVERS)
ANY_NAME = st.one_of(st.none(), SERVER)
USER = st.sampled_from(tuple(UIDS))
CARD = st.sampled_from((0, 1))
GPU_WISHES = ((SMALL, 1), (SMALL, 1), (SMALL, 2), (FULL_GPU, 1), (MIDDLE, 1))
ORDER = st.builds(
    lambda wish, make: Order(profile=wish[0], count=wish[1], make=make),
    st.sampled_from((*GPU_WISHES, (NO_GPU, 0))),
    st.sampled_from("ab"),
)
STEPS = st.integers(1, ALL_STEPS)
DEVICES = st.sampled_from(
    (None, (), ("0:0",), ("0",), ("1",), ("GPU-0",), ("GPU-1",), ("1:1", "0:1"), (ALL_DEVICES,))
)
MINUTES = st.sampled_from((1, 4, 6, 20, 60, 13 * 60, 10 * 24 * 60, -2))

OF_PEOPLE = st.one_of(
    st.builds(deeds.Start, NUMBERS),
    st.builds(deeds.Stop, NUMBERS),
    st.builds(deeds.Remove, NUMBERS),
    st.builds(deeds.Rename, NUMBERS, ANY_NAME),
    st.builds(deeds.Run, DEVICES, ANY_NAME),
    st.builds(deeds.Run, DEVICES, ANY_NAME, NUMBERS),
)
OF_MACHINE = st.one_of(
    st.builds(deeds.LoseDocker, st.integers(1, 5), st.booleans()),
    st.builds(deeds.Repartition, CARD, st.sampled_from(tuple(LAYOUTS))),
    st.builds(deeds.Break, CARD, st.sampled_from(("fault", "lost", "unreadable", "xid"))),
)
OF_ADMIN = st.one_of(
    st.just(deeds.Mend()),
    st.builds(deeds.Drain, st.sampled_from(("0", "1", "0:0", "1:0"))),
    st.builds(
        lambda user, wish, minutes: deeds.Allocate(user, *wish, minutes),
        USER,
        st.sampled_from(GPU_WISHES),
        st.sampled_from((5, 30)),
    ),
    st.builds(deeds.Reserve, USER, st.sampled_from(("0", "1", "0:1")), MINUTES, st.sampled_from((30, 600))),
)
OF_HUB = st.one_of(
    st.builds(deeds.GoOn, SERVER, ORDER, STEPS),
    st.builds(deeds.GoOnWithAll, STEPS),
    st.builds(deeds.GiveUp, SERVER),
    st.just(deeds.Poll()),
)
OF_SERVICE = st.one_of(st.just(deeds.Look()), st.builds(deeds.Release, NUMBERS, st.booleans()))
KILLS = st.one_of(st.builds(deeds.KillHub, st.booleans()), st.just(deeds.KillService()))
CLOCK = st.builds(deeds.MoveClock, MINUTES)
MOMENT = st.builds(
    Moment,
    at=st.one_of(st.integers(1, 8), st.integers(1, 40)),
    # `one_of` takes each of these as often as any other, however they are nested.
    deed=st.one_of(
        *[st.just(Kill())] * 4,
        *[st.builds(NoAnswer, st.integers(1, 5))] * 4,
        CLOCK,
        OF_HUB,
        OF_SERVICE,
        OF_PEOPLE,
        OF_MACHINE,
        OF_ADMIN,
    ),
    after=st.booleans(),
)
MOMENTS = st.one_of(st.just(()), st.lists(MOMENT, min_size=1, max_size=3).map(tuple))


class Interleavings(RuleBasedStateMachine):
    """The rules; `ran` counts how often each was taken, over all examples."""

    ran: ClassVar[Counter[str]] = Counter()

    @initialize(shared_containers_block=st.booleans())
    def begin(self, shared_containers_block: bool) -> None:
        self.world = World(shared_containers_block=shared_containers_block)
        self.world.hub = Hub(self.world, self.world.begin("hub"))

    @rule(server=SERVER, order=ORDER)
    def start(self, server: Server, order: Order) -> None:
        """Start a server undisturbed, after the service looked at the GPUs, as it does every minute."""
        with self.step("a server is started"):
            self.world.look(self.world.service)
            self.world.hub.spawn(self.world.hub.process, server, order, ALL_STEPS)

    @rule(in_hub=st.booleans())
    def reconcile(self, in_hub: bool) -> None:
        """Reconcile undisturbed, and see that all is well then."""
        world = self.world
        process = world.hub.process if in_hub else world.service
        with self.step("everything is reconciled and compared"):
            before = world.ledger.epoch()
            try:
                process.upkeep.reconcile()
            except EngineUnavailable:
                assert world.daemon.is_down
                assert world.ledger.epoch() == before, "the ledger changed, and nobody could ask Docker"
            else:
                expect_nothing(find_disagreements(world, process))

    @rule(deed=OF_HUB, moments=MOMENTS)
    def hub_does(self, deed: Any, moments: tuple[Moment, ...]) -> None:
        self.do("Hub", self.world.hub.process, deed, moments)

    @rule(deed=OF_SERVICE, moments=MOMENTS)
    def service_does(self, deed: Any, moments: tuple[Moment, ...]) -> None:
        self.do("service", self.world.service, deed, moments)

    @rule(deed=st.one_of(OF_PEOPLE, OF_MACHINE, OF_ADMIN, CLOCK, KILLS))
    def happens(self, deed: Any) -> None:
        with self.step(type(deed).__name__):
            deed.do(self.world)

    def do(self, who: str, process: Process, deed: Any, moments: tuple[Moment, ...]) -> None:
        how = ", interrupted" if moments else ""
        with self.step(f"{who}: {type(deed).__name__}{how}", process, moments):
            deed.do(self.world, process)

    # the frame of each step ------------------------------------------------------------------------

    @contextmanager
    def step(
        self, name: str, process: Process | None = None, moments: tuple[Moment, ...] = ()
    ) -> Iterator[None]:
        """Let moments happen while a process does something; if that kills it, another one follows."""
        self.ran[name] += 1
        self.world.pass_step()
        if process is None:
            yield
        else:
            try:
                with process.line.interrupted(moments):
                    yield
            except Killed:
                self.world.replace(process)
        expect_nothing(find_faults(self.world))

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
        world.now += timedelta(days=1)
        world.look(world.service)
        hub = world.hub
        for server in SERVERS:
            hub.stop(hub.process, server)
        expect_nothing(find_disagreements(world, world.service))
        assert world.ledger.live_leases() == ()
        assert world.ledger.queue() == ()
        assert world.daemon.list_all() == []
        for server in SERVERS[::2]:
            hub.spawn(hub.process, server, Order(profile=NO_GPU, count=0), ALL_STEPS)
            assert server in hub.running, f"{server.user} cannot start again"
        expect_nothing(find_disagreements(world, world.service))


def expect_nothing(faults: list[str]) -> None:
    if faults:
        raise AssertionError("\n".join(faults))
