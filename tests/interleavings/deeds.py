"""What people, the machine and other processes do: as a step of its own, or in the middle of another.

Each deed is a value with a `do(world)`, done whole. What cannot be done at that moment is left.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from ds01_spawner.errors import DS01Error
from ds01_spawner.model import NO_GPU, Reservation

from .hub import ALL_STEPS, Order
from .world import Process, Server, World

_MOST_FOREIGN = 3
_XID_OF_BROKEN_MEMORY = 48


# people with Docker's socket ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """`mlc start`, of any container; `which` picks one, as in all that follow."""

    which: int

    def do(self, world: World) -> None:
        container = world.pick(self.which)
        if container is not None and not world.daemon.is_down:
            with suppress(DS01Error):
                world.daemon.start(container.id)


@dataclass(frozen=True, slots=True)
class Stop:
    """`mlc stop`, or its program ends: that it does without Docker as well."""

    which: int

    def do(self, world: World) -> None:
        container = world.pick(self.which)
        if container is not None:
            world.daemon.stop(container.id)


@dataclass(frozen=True, slots=True)
class Remove:
    """`mlc remove`."""

    which: int

    def do(self, world: World) -> None:
        container = world.pick(self.which)
        if container is not None and not world.daemon.is_down:
            world.daemon.remove(container.id)


@dataclass(frozen=True, slots=True)
class Rename:
    """`docker rename`, to what a server's container is called, or to anything."""

    which: int
    to: Server | None

    def do(self, world: World) -> None:
        container = world.pick(self.which)
        if container is not None and not world.daemon.is_down and world.is_recorded(container):
            name = self.to.container_name if self.to else f"renamed-{next(world.numbers)}"
            with suppress(DS01Error):
                world.daemon.rename(container.id, name)


@dataclass(frozen=True, slots=True)
class Run:
    """`docker run` with devices in anybody's words, perhaps under the name of a server's container.

    `origin` picks a container that is committed first: the new one has all its labels, the nonce too.
    `devices` None are what that one has.
    """

    devices: tuple[str, ...] | None
    name: Server | None
    origin: int | None = None

    def do(self, world: World) -> None:
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
class LoseDocker:
    """Docker is away for some steps; `ends_all` is whether it takes its containers with it."""

    steps: int
    ends_all: bool

    def do(self, world: World) -> None:
        world.daemon.is_down = True
        world.steps_without_docker = self.steps
        for container in world.daemon.list_all() if self.ends_all else ():
            world.daemon.stop(container.id)


@dataclass(frozen=True, slots=True)
class Repartition:
    """`nvidia-smi mig`: all slots of a GPU go, and others come."""

    card: int
    layout: str

    def do(self, world: World) -> None:
        world.hardware.repartition(self.card, self.layout)


@dataclass(frozen=True, slots=True)
class Break:
    """A GPU has a fault or is lost; or NVML answers nothing at all."""

    card: int
    how: str

    def do(self, world: World) -> None:
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
class MoveClock:
    minutes: int

    def do(self, world: World) -> None:
        world.now += timedelta(minutes=self.minutes)


# the admin ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mend:
    """All GPUs are well again, and in use."""

    def do(self, world: World) -> None:
        world.hardware.mend()
        admin = world.beside(world.service).admin
        for gpu in ("0", "1"):
            with suppress(DS01Error):
                admin.undrain(gpu, who="root")


@dataclass(frozen=True, slots=True)
class Drain:
    gpu: str

    def do(self, world: World) -> None:
        admin = world.beside(world.service).admin
        with suppress(DS01Error):
            admin.drain(self.gpu, who="root")


@dataclass(frozen=True, slots=True)
class Allocate:
    """`ds01 gpu allocate`: a lease without a server."""

    user: str
    profile: str
    count: int
    minutes: int

    def do(self, world: World) -> None:
        until = world.now + timedelta(minutes=self.minutes)
        admin = world.beside(world.service).admin
        with suppress(DS01Error):
            admin.allocate(self.user, self.profile, self.count, until=until, who="root")


@dataclass(frozen=True, slots=True)
class Reserve:
    """A window in the limits file, in place of an older one."""

    user: str
    gpu: str
    begins_in_minutes: int
    minutes: int

    def do(self, world: World) -> None:
        start = world.now + timedelta(minutes=self.begins_in_minutes)
        end = start + timedelta(minutes=self.minutes)
        window = Reservation(user=self.user, start=start, end=end, gpus=(self.gpu,))
        world.reservations = (*world.reservations[-1:], window)


# processes of ours ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """The service looks at everything, and has the Hub start the servers that run without its knowledge."""

    def do(self, world: World, process: Process | None = None) -> None:
        process, hub = process or world.beside(world.service), world.hub
        world.look(process)
        known = {(server.user, server.name) for server in (*hub.running, *hub.spawns)}
        with suppress(DS01Error):
            for lease in process.upkeep.find_forgotten(lambda: known):
                order = Order(profile=NO_GPU, count=0)
                server = Server(lease.user, lease.server)
                hub.spawn(world.beside(hub.process), server, order, ALL_STEPS)


@dataclass(frozen=True, slots=True)
class GoOn:
    """The Hub begins the start of a server, or goes on with it, by some steps."""

    server: Server
    order: Order
    steps: int

    def do(self, world: World, process: Process | None = None) -> None:
        process = process or world.beside(world.hub.process)
        world.hub.spawn(process, self.server, self.order, self.steps)


@dataclass(frozen=True, slots=True)
class GoOnWithAll:
    """The Hub goes on with all starts that are under way."""

    steps: int

    def do(self, world: World, process: Process | None = None) -> None:
        process = process or world.beside(world.hub.process)
        for server, spawn in list(world.hub.spawns.items()):
            world.hub.spawn(process, server, spawn.order, self.steps)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The Hub stops a server, or cancels its start."""

    server: Server

    def do(self, world: World, process: Process | None = None) -> None:
        world.hub.stop(process or world.beside(world.hub.process), self.server)


@dataclass(frozen=True, slots=True)
class Poll:
    """The Hub asks for all its servers, and tries again to end what it could not."""

    def do(self, world: World, process: Process | None = None) -> None:
        process = process or world.beside(world.hub.process)
        for server in sorted(world.hub.running):
            world.hub.poll(process, server)
        world.hub.retry(process)


@dataclass(frozen=True, slots=True)
class Release:
    """`ds01 gpu release`, in a process of its own."""

    which: int
    force: bool

    def do(self, world: World, process: Process | None = None) -> None:
        leases = world.ledger.live_leases()
        admin = (process or world.beside(world.service)).admin
        with suppress(DS01Error):
            if leases:
                admin.release(str(leases[self.which % len(leases)].id), who="root", force=self.force)


@dataclass(frozen=True, slots=True)
class KillHub:
    """Another Hub follows, which knows the servers of the old one, or has forgotten them."""

    forgets: bool

    def do(self, world: World) -> None:
        world.replace(world.hub.process, forgets=self.forgets)


@dataclass(frozen=True, slots=True)
class KillService:
    def do(self, world: World) -> None:
        world.replace(world.service)
