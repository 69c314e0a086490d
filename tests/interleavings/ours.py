"""What our processes do: as a step that may be interrupted, or whole in the middle of another's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ds01_spawner.errors import DS01Error

from .deeds import Deed
from .hub import ALL_STEPS, Hub, Order
from .world import START_DEADLINE, Process, Server, World


class HubDeed(Deed):
    """What the Hub does."""

    __slots__ = ()

    def begin(self, world: World) -> Process:
        return world.hub.process

    def do(self, world: World, process: Process | None = None) -> None:
        self.do_in(world, world.hub, process or world.beside(world.hub.process))

    def do_in(self, world: World, hub: Hub, process: Process) -> None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class StartServer(HubDeed):
    """A server is started from its first step to its last; the service has just looked at the GPUs."""

    server: Server
    order: Order | None

    def do_in(self, world: World, hub: Hub, process: Process) -> None:
        world.look(world.beside(world.service))
        hub.spawn(process, self.server, self.order, ALL_STEPS)


@dataclass(frozen=True, slots=True)
class GoOn(HubDeed):
    """The start of a server begins, or goes on, by some steps."""

    server: Server
    order: Order | None
    steps: int

    def do_in(self, world: World, hub: Hub, process: Process) -> None:
        hub.spawn(process, self.server, self.order, self.steps)


@dataclass(frozen=True, slots=True)
class GoOnWithAll(HubDeed):
    """All starts that are under way go on."""

    steps: int

    def do_in(self, world: World, hub: Hub, process: Process) -> None:
        for server in list(hub.spawns):
            hub.spawn(process, server, None, self.steps)


@dataclass(frozen=True, slots=True)
class StopServer(HubDeed):
    """A server is stopped, or its start cancelled."""

    server: Server

    def do_in(self, world: World, hub: Hub, process: Process) -> None:
        hub.stop(process, self.server)


@dataclass(frozen=True, slots=True)
class Poll(HubDeed):
    """All servers are asked for, and what could not be ended is tried again."""

    def do_in(self, world: World, hub: Hub, process: Process) -> None:
        for server in sorted(hub.running):
            hub.poll(process, server)
        hub.retry(process)


@dataclass(frozen=True, slots=True)
class Reconcile(Deed):
    """The service reconciles; or the Hub does it, as before each start."""

    in_hub: bool

    def begin(self, world: World) -> Process:
        return world.hub.process if self.in_hub else world.service

    def do(self, world: World, process: Process | None = None) -> None:
        with suppress(DS01Error):
            (process or world.beside(self.begin(world))).upkeep.reconcile()


@dataclass(frozen=True, slots=True)
class Look(Deed):
    """The service looks at everything, and has the Hub start the servers that run without its knowledge."""

    def begin(self, world: World) -> Process:
        return world.service

    def do(self, world: World, process: Process | None = None) -> None:
        process, hub = process or world.beside(world.service), world.hub
        world.look(process)
        known = {(server.user, server.name) for server in (*hub.running, *hub.spawns)}
        with suppress(DS01Error):
            for lease in process.upkeep.find_forgotten(lambda: known):
                server = Server(lease.user, lease.server)
                hub.spawn(world.beside(hub.process), server, None, ALL_STEPS)


@dataclass(frozen=True, slots=True)
class Overtake(Deed):
    """All that is being started takes too long, and the service sees it."""

    def do(self, world: World, process: Process | None = None) -> None:
        world.move_clock(START_DEADLINE)
        world.look(world.beside(world.service))


@dataclass(frozen=True, slots=True)
class Release(Deed):
    """`ds01 gpu release`, in a process of its own."""

    which: int
    force: bool

    def begin(self, world: World) -> Process:
        return world.begin("cli")

    def do(self, world: World, process: Process | None = None) -> None:
        leases = world.ledger.live_leases()
        if leases:
            process = process or self.begin(world)
            with suppress(DS01Error):
                name = str(leases[self.which % len(leases)].id)
                process.admin.release(name, who="root", force=self.force)
            world.replace(process)


@dataclass(frozen=True, slots=True)
class KillHub(Deed):
    """Another Hub follows, which knows the servers of the old one, or has forgotten them."""

    forgets: bool

    def do(self, world: World, process: Process | None = None) -> None:
        world.replace(world.hub.process, forgets=self.forgets)


@dataclass(frozen=True, slots=True)
class KillService(Deed):
    """Another service follows."""

    def do(self, world: World, process: Process | None = None) -> None:
        world.replace(world.service)
