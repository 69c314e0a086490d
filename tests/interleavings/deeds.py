"""What people, admins and the machine itself do: as a step of its own, or in the middle of another.

Each deed is a value. What cannot be done at that moment is left.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from ds01_spawner.errors import DS01Error
from ds01_spawner.model import Reservation

from .world import Process, Server, World

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
