"""The Hub's side of a server: the steps of its start, its end, and what the Hub does where one fails.

Steps and order are those of `spawner/`; each may be the last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ds01_spawner import mlc
from ds01_spawner.core.leases import Claim, Place, Start
from ds01_spawner.errors import DS01Error, ServerEnded, SiteBroken
from ds01_spawner.limits import limits_for, lower
from ds01_spawner.model import NO_GPU, ServerRequest

from .world import LIMITS, Process, Server, World

STOPPED = "the server was stopped"
ALL_STEPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What she asks for; `make` stands for all else that a container is made of."""

    profile: str
    count: int
    make: str = "a"


NO_GPU_WANTED = Order(profile=NO_GPU, count=0)


@dataclass(slots=True, kw_only=True)
class Spawn:
    """One start that is under way."""

    server: Server
    start: Start
    steps: Generator[None, Process, None] | None = None
    container_id: str = ""
    is_unsettled: bool = False
    is_adopting: bool = False


@dataclass(slots=True)
class Hub:
    """One life of the Hub.

    `running` are the servers that it takes for running, with their containers' ids, `unended` those
    that it could not end yet. `process` is the one of its pool that nobody else uses; each method gets the
    one it is done by.
    """

    world: World
    process: Process
    running: dict[Server, str] = field(default_factory=dict)
    spawns: dict[Server, Spawn] = field(default_factory=dict)
    unended: set[Server] = field(default_factory=set)
    orders: dict[Server, Order] = field(default_factory=dict)
    busy: set[Server] = field(default_factory=set)

    def follow(self, process: Process, *, forgets: bool) -> Hub:
        """Return the next life of the Hub: it has read which servers should run, and nothing else."""
        running = {} if forgets else dict(self.running)
        return Hub(self.world, process, running=running, orders=self.orders)

    def spawn(self, process: Process, server: Server, order: Order | None, steps: int) -> None:
        """Begin the start of a server, or go on with it, by that many steps; None is what it was last."""
        with self._keep_busy(server) as is_free:
            if not is_free:
                return
            spawn = self.spawns.get(server) or self._begin(server, order)
            for _ in range(steps):
                if self.spawns.get(server) is spawn:
                    self._advance(process, spawn)

    def stop(self, process: Process, server: Server) -> None:
        """Stop a server, or give up its start."""
        with self._keep_busy(server) as is_free:
            if not is_free:
                return
            if self.spawns.pop(server, None) is not None:
                self._leave(process, server)
            self._end(process, server)

    def poll(self, process: Process, server: Server) -> None:
        """Ask for the container of a server that should run; one that does not is settled."""
        with self._keep_busy(server) as is_free:
            if not is_free or server not in self.running:
                return
            with suppress(DS01Error):
                found = process.engine.container(self.running[server])
                if found is None or not found.is_running:
                    del self.running[server]
                    process.leases.settle_server(server.user, server.name)

    def retry(self, process: Process) -> None:
        """Try again to end what could not be ended."""
        for server in sorted(self.unended):
            with self._keep_busy(server) as is_free:
                if is_free:
                    self._end(process, server)

    @contextmanager
    def _keep_busy(self, server: Server) -> Iterator[bool]:
        """Tell whether nobody else in the Hub is at this server; the Hub does one thing at a time with it."""
        if server in self.busy:
            yield False
            return
        self.busy.add(server)
        try:
            yield True
        finally:
            self.busy.discard(server)

    def _begin(self, server: Server, wanted: Order | None) -> Spawn:
        order = wanted or self.orders.get(server, NO_GPU_WANTED)
        self.orders[server] = order
        start = Start(
            user=server.user,
            server=server.name,
            container_name=server.container_name,
            request=ServerRequest(profile="any", gpu_profile=order.profile, gpu_count=order.count),
            # Two without a GPU are too much together; one with a GPU fits beside any other.
            effective=lower(limits_for(LIMITS, server.user), cpus=4 if order.count else 10),
            fingerprint=repr(order),
            requested_at=self.world.now,
        )
        self.running.pop(server, None)
        self.unended.discard(server)
        spawn = Spawn(server=server, start=start)
        spawn.steps = self._steps(spawn)
        next(spawn.steps)
        self.spawns[server] = spawn
        return spawn

    def _advance(self, process: Process, spawn: Spawn) -> None:
        assert spawn.steps is not None
        try:
            spawn.steps.send(process)
        except StopIteration:
            del self.spawns[spawn.server]
            self.running[spawn.server] = spawn.container_id
        except DS01Error:
            del self.spawns[spawn.server]
            self._undo(process, spawn)

    def _steps(self, spawn: Spawn) -> Generator[None, Process, None]:
        """Do one step for each process that is sent."""
        process = yield
        foreign = process.leases.clear_name(spawn.start.container_name)
        if foreign is not None:
            raise mlc.refuse_name(foreign.name, detail="it is there")
        process = yield
        # Until it is known whose container is there already, none may be ended.
        spawn.is_unsettled = spawn.is_adopting = True
        process.upkeep.reconcile()
        claim = yield from self._claim(process, spawn)
        process = yield
        spawn.is_adopting = claim.container is not None and claim.container.is_running
        spawn.container_id = claim.container.id if claim.container else ""
        if claim.container is None:
            process.engine.tag(mlc.image_name(spawn.start.container_name, spawn.start.user))
            spawn.container_id = process.engine.create(
                spawn.start.container_name, nonce=claim.lease.nonce, devices=claim.lease.slots
            )
            process = yield
            process.leases.note_container(claim.lease, spawn.container_id)
            process = yield
        process.engine.start(spawn.container_id)
        process = yield
        found = process.engine.container(spawn.container_id)
        if found is None or not found.is_running:
            spawn.is_adopting = False
            raise ServerEnded("It ended before Jupyter answered.")
        process = yield
        process.leases.activate(claim.lease, spawn.container_id)

    def _claim(self, process: Process, spawn: Spawn) -> Generator[None, Process, Claim]:
        try:
            answer = process.leases.claim(spawn.start)
            while isinstance(answer, Place):
                process = yield
                # Her place is worth more than a minute without GPUs or ledger.
                with suppress(SiteBroken):
                    answer = process.leases.claim(spawn.start)
        except DS01Error:
            self._leave(process, spawn.server)
            raise
        return answer

    def _undo(self, process: Process, spawn: Spawn) -> None:
        """Do what the Hub does after a start that failed: it polls, and stops what it takes for running."""
        if not spawn.is_unsettled:
            with suppress(DS01Error):
                process.leases.settle_server(spawn.server.user, spawn.server.name)
        elif not spawn.is_adopting:
            self._end(process, spawn.server)

    def _leave(self, process: Process, server: Server) -> None:
        with suppress(DS01Error):
            process.leases.leave_queue(server.container_name, "the start was given up")

    def _end(self, process: Process, server: Server) -> None:
        self.running.pop(server, None)
        try:
            process.leases.settle_server(server.user, server.name, ended=STOPPED)
        except DS01Error:
            self.unended.add(server)
        else:
            self.unended.discard(server)
