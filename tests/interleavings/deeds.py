"""What people, the machine and other processes do: as a step of its own, or in the middle of another.

Each deed is a value. What cannot be done at that moment is left.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from ds01_spawner.errors import DS01Error
from ds01_spawner.model import Reservation

from .hub import ALL_STEPS, Hub, Order
from .world import START_DEADLINE, Process, Server, World

_MOST_FOREIGN = 3
_XID_OF_BROKEN_MEMORY = 48


class Deed:
    """Something to do in a world; `process` is the one of ours that does it, None for everybody else."""

    __slots__ = ()

    def begin(self, world: World) -> Process | None:
        """Return the process of ours that does such a thing."""
        return None

    def do(self, world: World, process: Process | None = None) -> None:
        """Do it, by a `process` that may be interrupted; without one, whole and beside all others."""
        raise NotImplementedError


# people with Docker's socket ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start(Deed):
    """`mlc start`, of any container; `which` picks one, as in all that follow."""

    which: int

    def do(self, world: World, process: Process | None = None) -> None:
        container = world.pick(self.which)
        if container is not None and not world.daemon.is_down:
            with suppress(DS01Error):
                world.daemon.start(container.id)


@dataclass(frozen=True, slots=True)
class Stop(Deed):
    """`mlc stop`, or its program ends: that it does without Docker as well."""

    which: int

    def do(self, world: World, process: Process | None = None) -> None:
        container = world.pick(self.which)
        if container is not None:
            world.daemon.stop(container.id)


@dataclass(frozen=True, slots=True)
class Remove(Deed):
    """`mlc remove`."""

    which: int

    def do(self, world: World, process: Process | None = None) -> None:
        container = world.pick(self.which)
        if container is not None and not world.daemon.is_down:
            world.daemon.remove(container.id)


@dataclass(frozen=True, slots=True)
class Rename(Deed):
    """`docker rename`, to what a server's container is called, or to anything."""

    which: int
    to: Server | None

    def do(self, world: World, process: Process | None = None) -> None:
        container = world.pick(self.which)
        if container is not None and not world.daemon.is_down and world.is_recorded(container):
            name = self.to.container_name if self.to else f"renamed-{next(world.numbers)}"
            with suppress(DS01Error):
                world.daemon.rename(container.id, name)


@dataclass(frozen=True, slots=True)
class Run(Deed):
    """`docker run` with devices in anybody's words, perhaps under the name of a server's container.

    `origin` picks a container that is committed first: the new one has all its labels, the nonce too.
    `devices` None are what that one has.
    """

    devices: tuple[str, ...] | None
    name: Server | None
    origin: int | None = None

    def do(self, world: World, process: Process | None = None) -> None:
        daemon = world.daemon
        foreign = [one for one in daemon.list_all() if one.id not in daemon.made]
        if daemon.is_down or len(foreign) >= _MOST_FOREIGN:
            return
        origin = None if self.origin is None else world.pick(self.origin)
        if origin is not None and not world.is_recorded(origin):
            return
        name = self.name.container_name if self.name else f"foreign-{next(world.numbers)}"
        labels = origin.labels if origin else {}
        devices = (origin.devices if origin else ()) if self.devices is None else self.devices
        with suppress(DS01Error):
            daemon.start(daemon.create(name, labels=labels, devices=devices).id)


# the machine ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoseDocker(Deed):
    """Docker is away for some steps; `ends_all` is whether it takes its containers with it."""

    steps: int
    ends_all: bool

    def do(self, world: World, process: Process | None = None) -> None:
        world.daemon.is_down = True
        world.steps_without_docker = self.steps
        for container in world.daemon.list_all() if self.ends_all else ():
            world.daemon.stop(container.id)


@dataclass(frozen=True, slots=True)
class Repartition(Deed):
    """`nvidia-smi mig`: all slots of a GPU go, and others come."""

    card: int
    layout: str

    def do(self, world: World, process: Process | None = None) -> None:
        world.hardware.repartition(self.card, self.layout)


@dataclass(frozen=True, slots=True)
class Break(Deed):
    """A GPU has a fault or is lost; or NVML answers nothing at all."""

    card: int
    how: str

    def do(self, world: World, process: Process | None = None) -> None:
        card = world.hardware.cards[self.card]
        if self.how == "fault":
            card.fault = "it is too hot"
        elif self.how == "lost":
            card.is_lost = True
        elif self.how == "unreadable":
            world.hardware.is_readable = False
        else:
            world.beside(world.service).upkeep.note_xid(card.uuid, _XID_OF_BROKEN_MEMORY)


@dataclass(frozen=True, slots=True)
class MoveClock(Deed):
    """Time passes, or the clock is set back."""

    minutes: int

    def do(self, world: World, process: Process | None = None) -> None:
        world.move_clock(timedelta(minutes=self.minutes))


# the admin ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mend(Deed):
    """All GPUs are well again, and in use."""

    def do(self, world: World, process: Process | None = None) -> None:
        world.hardware.mend()
        admin = world.beside(world.service).admin
        for gpu in ("0", "1"):
            with suppress(DS01Error):
                admin.undrain(gpu, who="root")


@dataclass(frozen=True, slots=True)
class Drain(Deed):
    """`ds01 gpu drain`."""

    gpu: str

    def do(self, world: World, process: Process | None = None) -> None:
        admin = world.beside(world.service).admin
        with suppress(DS01Error):
            admin.drain(self.gpu, who="root")


@dataclass(frozen=True, slots=True)
class Allocate(Deed):
    """`ds01 gpu allocate`: a lease without a server."""

    user: str
    profile: str
    count: int
    minutes: int

    def do(self, world: World, process: Process | None = None) -> None:
        until = world.now + timedelta(minutes=self.minutes)
        admin = world.beside(world.service).admin
        with suppress(DS01Error):
            admin.allocate(self.user, self.profile, self.count, until=until, who="root")


@dataclass(frozen=True, slots=True)
class Reserve(Deed):
    """A window in the limits file, in place of an older one."""

    user: str
    gpu: str
    begins_in_minutes: int
    minutes: int

    def do(self, world: World, process: Process | None = None) -> None:
        start = world.now + timedelta(minutes=self.begins_in_minutes)
        end = start + timedelta(minutes=self.minutes)
        window = Reservation(user=self.user, start=start, end=end, gpus=(self.gpu,))
        world.reservations = (*world.reservations[-1:], window)


# processes of ours ----------------------------------------------------------------------------------


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
