"""One machine with its Docker, its GPUs and its ledger, and the processes that use the three.

`core.Leases`, `core.Upkeep`, `core.Admin` and `core.Offers` are the real ones on the real ledger, a SQLite
file. The clock, the GPUs and Docker are values that move when a test says so. Each process has its own
`core` and its own `Line`; they share nothing but Docker and the file.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ds01_spawner import mlc
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.core import Admin, Leases, Offers, Upkeep
from ds01_spawner.errors import DS01Error
from ds01_spawner.limits import LimitsFile, load_limits
from ds01_spawner.model import Account, Container, Lease, LeaseState, Reservation

from .daemon import Daemon, Engine
from .hardware import Hardware
from .line import Line, WiredLedger

if TYPE_CHECKING:
    from .hub import Hub

START = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
START_DEADLINE = timedelta(minutes=5)
PATIENCE = timedelta(minutes=10)
HISTORY = timedelta(days=7)
QUEUE_LIMIT = 3
LONGEST_WAIT = timedelta(minutes=45)

# Holds of no time, of a while and without an end; limits that bind soon.
LIMITS = load_limits(
    """
defaults:
  max_gpu_slots: 2
  max_gpu_slots_per_container: 2
  max_gpu_equivalents: 1.0
  max_containers_per_user: 2
  allow_full_gpu: true
  priority: 10
  max_runtime_h: 12
  gpu_hold_after_stop_h: 0.25
  container_hold_after_stop_h: 0.5
  aggregate: {cpu_quota: 1600%}
default_group: student
groups:
  student: {}
  guest:
    members: [bob]
    max_gpu_slots: 1
    gpu_hold_after_stop_h: 0
    container_hold_after_stop_h: 0
  researcher:
    members: [eve]
    priority: 50
    max_gpu_slots: null
    max_runtime_h: null
    gpu_hold_after_stop_h: 2
    container_hold_after_stop_h: null
"""
)
_OVERDUE = {
    "the start took longer than its deadline": LeaseState.PENDING,
    "its hold is over": LeaseState.HELD,
    "its time is over": LeaseState.HELD,
}
UIDS = {"ada": 3001, "bob": 3002, "eve": 3003}


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """One server of one user, by the Hub's name of it."""

    user: str
    name: str

    @property
    def container_name(self) -> str:
        return mlc.container_name(self.name, UIDS[self.user])


SERVERS = tuple(Server(user, name) for user, name in itertools.product(UIDS, ("", "vision")))


class _Offers(Offers):
    """What is offered by limits that were read once."""

    file: Callable[[], LimitsFile]

    def limits_file(self) -> LimitsFile | None:
        return self.file()


class WatchedLedger(Ledger):
    """The real ledger, whose `world` looks at each end of a lease before it is recorded."""

    world: World

    def end(self, lease_id: int, now: datetime, why: str, **values: Any) -> bool:
        before = self.lease(lease_id)
        has_ended = super().end(lease_id, now, why, **values)
        if has_ended and before is not None and values.get("kind") == "repaired":
            self.world.watch_end(before, why)
        return has_ended

    def release(self, lease_id: int, now: datetime, why: str) -> bool:
        self.world.watch_release(lease_id)
        return super().release(lease_id, now, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of ours, by the name that the ledger knows it under."""

    name: str
    line: Line
    engine: Engine
    leases: Leases
    upkeep: Upkeep
    admin: Admin


class World:
    """All that there is.

    `latest` is the latest time that ever was, since the clock may be set back. `steps_without_docker` is
    for how many steps more Docker is away. `hub` and `service` are other ones when they were killed.
    """

    hub: Hub

    def __init__(self, *, shared_containers_block: bool) -> None:
        self.now = self.latest = START
        self.hardware = Hardware()
        self.daemon = Daemon(self.hardware.find_missing)
        self.reservations: tuple[Reservation, ...] = ()
        self.dead: set[str] = set()
        self.steps_without_docker = 0
        self.shared_containers_block = shared_containers_block
        self.numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="ds01-", dir=find_fast_folder()))
        self.ledger = WatchedLedger(f"sqlite:///{self._folder / 'ledger.sqlite'}")
        self.ledger.world = self
        self.service = self.begin("service")
        self.look(self.service)

    def close(self) -> None:
        self.ledger.close()
        shutil.rmtree(self._folder)

    # processes -------------------------------------------------------------------------------------

    def begin(self, kind: str) -> Process:
        """Start a process, under a name that none had before."""
        return self._make(f"{kind}-{next(self.numbers)}")

    def beside(self, process: Process) -> Process:
        """Return another part of a process, which does something while that one does something else.

        They do not share the locks of their `Leases`, so that more can meet than does in one process.
        """
        return self._make(process.name)

    def replace(self, process: Process, *, forgets: bool = False) -> None:
        """Kill a process; where it is the Hub or the service, another one follows.

        A Hub that `forgets` takes no server for running.
        """
        self.dead.add(process.name)
        process.line.cut()
        if process is self.hub.process:
            self.hub = self.hub.follow(self.begin("hub"), forgets=forgets)
        elif process is self.service:
            self.service = self.begin("service")

    def _make(self, name: str) -> Process:
        line = Line(lambda deed: deed.do(self))
        ledger = WiredLedger(self.ledger, line)
        engine = Engine(self.daemon, line, self._watch_container)
        offers = _Offers(
            ledger=ledger,
            read_catalog=lambda: None,
            read_limits=lambda: None,
            find_account=lambda name: Account(
                name=name, uid=UIDS[name], gid=UIDS[name], home=PurePosixPath("/home", name)
            ),
            open_mounts=lambda _account, _wishes: (),
            clock=lambda: self.now,
        )
        offers.file = lambda: replace(LIMITS, reservations=self.reservations)
        leases = Leases(
            ledger=ledger,
            engine=engine,
            offers=offers,
            owner=name,
            is_alive=lambda owner: owner not in self.dead,
            start_deadline_seconds=START_DEADLINE.total_seconds(),
            queue_patience=PATIENCE,
            queue_limit=QUEUE_LIMIT,
            longest_wait=LONGEST_WAIT,
            shared_containers_block=self.shared_containers_block,
            clock=lambda: self.now,
        )
        parts = {"ledger": ledger, "engine": engine, "offers": offers, "leases": leases}
        upkeep = Upkeep(**parts, read_inventory=self.hardware.read, history=HISTORY)
        admin = Admin(**parts)
        return Process(name=name, line=line, engine=engine, leases=leases, upkeep=upkeep, admin=admin)

    def look(self, process: Process) -> None:
        """Look at everything once, as the service does it; what fails keeps it from nothing else."""
        upkeep = process.upkeep
        has_reconciled = False
        with suppress(DS01Error):
            upkeep.reconcile()
            has_reconciled = True
        for look in (upkeep.remove_left_tags, upkeep.refresh_slots, upkeep.refresh_reservations):
            with suppress(DS01Error):
                look()
        # Between two looks are ten days at times, and not months, for which Docker would have to be away.
        if has_reconciled:
            with suppress(DS01Error):
                upkeep.prune()

    def move_clock(self, by: timedelta) -> None:
        """Let time pass, or set the clock back."""
        self.now += by
        self.latest = max(self.latest, self.now)

    def pass_step(self) -> None:
        """Bring Docker back when its time is over."""
        self.steps_without_docker -= 1
        if self.steps_without_docker <= 0:
            self.daemon.is_down = False

    def pick(self, which: int) -> Container | None:
        """Return one of the containers by any number, those of ours first; None where there is none."""
        made = self.daemon.made
        found = sorted(self.daemon.list_all(), key=lambda one: one.id not in made)
        return found[which % len(found)] if found else None

    def find_lease(self, nonce: str) -> Lease | None:
        """Return the lease with this nonce, whatever became of it."""
        return next(iter(self.ledger.leases_of([], [nonce])), None)

    def is_recorded(self, container: Container) -> bool:
        """Whether a container is not ours, or the ledger has its id.

        Before that, which is a moment, we know it by its name and nonce alone: who changes the one and
        copies the other just then makes one of ours. That is left out.
        """
        nonce = self.daemon.made.get(container.id)
        lease = self.find_lease(nonce) if nonce else None
        return nonce is None or (lease is not None and lease.container_id == container.id)

    # what must never happen ------------------------------------------------------------------------

    def _watch_container(self, verb: str, container: Container) -> None:
        """Refuse to be one who touches what is not ours, or what may still be used, or starts on others."""
        nonce = self.daemon.made.get(container.id)
        assert nonce is not None, f"{verb} of {container.name}, which is not ours"
        lease = self.find_lease(nonce)
        assert lease is not None, f"{verb} of {container.name}, whose lease is forgotten"
        if verb == "start":
            assert lease.state.is_live, f"start of {container.name}, whose lease has ended"
            others = [one for one in self.ledger.live_leases() if one.id != lease.id]
            astray = [one.id for one in others if set(one.slots) & set(container.devices)]
            assert not astray, f"start of {container.name} on a slot that leases {astray} have"
        else:
            assert lease.ending or not lease.state.is_live, f"{verb} of {container.name}, which nobody ended"

    def watch_release(self, lease_id: int) -> None:
        """See that a slot becomes free only when the container that the lease knows is gone."""
        lease = self.ledger.lease(lease_id)
        if lease is not None and lease.state.is_live and lease.container_id:
            left = self.daemon.containers.get(lease.container_id)
            assert left is None, f"release of {lease.container_name}, which is still {left and left.state}"

    def watch_end(self, lease: Lease, why: str) -> None:
        """See that who ends a lease for its time does not do it to one that was used meanwhile."""
        if why in _OVERDUE:
            words = f"end of {lease.container_name}, {lease.state.value} until {lease.deadline}: {why}"
            assert lease.state is _OVERDUE[why], words
            assert lease.deadline is not None, words
            assert lease.deadline <= self.latest, words


def find_fast_folder() -> Path | None:
    """Return a folder in memory where there is one: what is tested here is not the disk."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None
