"""DS01Spawner: one server from the student's options to a leased container, and its end.

Only this package awaits. What blocks runs in a pool of short calls, builds in one of their own, so
that nobody waits for somebody else's start, stop or build.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import docker.errors
from dockerspawner import DockerSpawner
from requests import RequestException
from traitlets import Bool, CaselessStrEnum, Integer, Unicode, default

from .. import mlc
from ..errors import DS01Error, EngineUnavailable
from ..model import Lease, LeaseState
from ..site import DS01
from .home import HomePage
from .progress import Progress
from .refusal import SpawnRefused
from .starting import StartSteps

# Pauses between tries to end a server; the last one is repeated.
RETRY_SECONDS = (1, 2, 5, 10)
_STOPPED = "the server was stopped"


def sum_of_times(site: DS01) -> int:
    """Return how many seconds build, queue and start may take together, by their own limits."""
    times = (site.build_timeout_seconds, site.queue_timeout_seconds, site.start_deadline_seconds)
    return math.ceil(sum(times))


def check_times(start_timeout: int, http_timeout: int, site: DS01) -> Iterator[str]:
    """Yield which of an admin's times would end a start without a sentence that says why."""
    if start_timeout <= sum_of_times(site):
        yield (
            f"c.DS01Spawner.start_timeout is {start_timeout}, and build_timeout_seconds, "
            f"queue_timeout_seconds and start_deadline_seconds of c.DS01 are {sum_of_times(site)} together: "
            "the Hub may give up a start that still builds or waits"
        )
    if site.start_deadline_seconds <= http_timeout:
        yield (
            f"c.DS01.start_deadline_seconds is {site.start_deadline_seconds:.0f} and not more than "
            f"c.DS01Spawner.http_timeout, {http_timeout}: a lease may expire while Jupyter still starts"
        )


class DS01Spawner(StartSteps, HomePage, DockerSpawner):  # type: ignore[misc]
    """A DockerSpawner whose servers hold a lease, run a layered image, and open with `mlc-open`."""

    # A container outlives a stop until we remove it: Docker's AutoRemove would let `mlc stop` delete it.
    remove = Bool(
        False, help="Always off; a stop from the Hub removes the container, a stop over SSH does not."
    )
    pull_policy = CaselessStrEnum(
        ["always", "ifnotpresent", "never", "skip"], "skip", help="Images are ensured before a start."
    )
    use_internal_ip = Bool(True, help="Servers are reached on their own network.")
    network_name = Unicode(help="Set by c.DS01.network_name.")
    notebook_dir = Unicode(mlc.WORKSPACE, config=True, help="Where Jupyter starts.")
    default_url = Unicode("/lab", config=True, help="What opens first.")
    start_timeout = Integer(
        11160,
        config=True,
        help="""Seconds for build, queue and start together. Each of the three has a time of its own
        (c.DS01.build_timeout_seconds, queue_timeout_seconds, start_deadline_seconds), which ends with a
        sentence that says which; this is for what nobody foresaw. Default: a minute more than their sum.""",
    )
    http_timeout = Integer(
        120, config=True, help="Seconds until Jupyter must answer once its container runs."
    )
    poll_interval = Integer(
        10,
        config=True,
        help="""Seconds between two looks of the Hub at a server. So long the Hub may show one as running
        whose container has ended; the service frees its GPU sooner.""",
    )
    stop_grace_seconds = Integer(
        10, min=1, config=True, help="Seconds between SIGTERM and SIGKILL when a server is stopped."
    )

    @property
    def client(self) -> Any:
        """docker-py's client, the one of the site's engine."""
        return self.site.engine.client

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return sum_of_times(self.site) + 60

    @default("network_name")
    def _default_network_name(self) -> str:
        return mlc.HOST_NETWORK if self.host_network else self.site.network_name

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call docker-py in a pool; DockerSpawner's own calls come this way."""
        call = self._call_long if method == "start" else self._call
        return call(self._docker, method, *args, **kwargs)

    # start -----------------------------------------------------------------------------------------

    def _object_name_default(self) -> str:
        if self._prepared is not None:
            return self._prepared.container_name
        return ""

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield what happens, from the beginning at each connection."""
        if self._progress is None:
            self._progress = Progress()
        async for event in self._progress.listen():
            yield event

    async def start(self) -> tuple[str, int]:
        """Resolve, build, lease, create and start; returns (ip, port).

        Raises:
            SpawnRefused: with a sentence; what was begun is undone by `stop`, which the Hub calls.
        """
        for warning in check_times(self.start_timeout, self.http_timeout, self.site):
            self.log.warning(warning)
        try:
            await self._calls_done()
            return await self._start()
        except asyncio.CancelledError:
            # Who cancels wants the server gone, also one that ran before.
            self._is_adopting = False
            raise
        except DS01Error as exc:
            # The Hub logs the message, which has the cause; a traceback would only repeat it.
            raise SpawnRefused(exc) from None
        except (docker.errors.DockerException, RequestException) as exc:
            error = EngineUnavailable(
                "Docker on the server failed while it started your container. Please try again, and tell "
                "your admin if it happens again.",
                detail=str(exc),
            )
            raise SpawnRefused(error) from exc

    # state and end ---------------------------------------------------------------------------------

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore after a restart of the Hub; a server that has a container counts as running until asked."""
        super().load_state(state)
        self._accepted_options = state.get("accepted_options")
        if self.object_id:
            self._last_status = None

    def get_state(self) -> dict[str, Any]:
        """Keep the container's id and name, and the options that were accepted last."""
        state: dict[str, Any] = super().get_state()
        return state | {"accepted_options": self._accepted_options}

    def clear_state(self) -> None:
        """Forget the container: the ledger knows it, and a refused start must not stop a running one."""
        super().clear_state()
        self.object_id = ""

    @property
    def will_resume(self) -> bool:
        """Whether a stopped container is held: the Hub then keeps the token that it has in it."""
        return self._is_held and bool(self.object_id)

    async def poll(self) -> int | str | None:
        """Return None while it runs, else its exit; if Docker does not answer, the last status stands.

        A start that is not through counts as running, so that the Hub calls `stop` to undo it.
        """
        if self._unsettled:
            return None
        try:
            found = await self.get_object()
        except (DS01Error, docker.errors.DockerException, RequestException) as exc:
            self.log.warning("no answer about %s, its last status stands: %s", self._log_name, exc)
            return self._last_status
        container = mlc.from_inspect(found) if found else None
        if container is not None and container.is_running:
            self._last_status = None
            return None
        self._last_status = f"ExitCode={container.exit_code}" if container else 0
        try:
            # One that never answered is ended; only a server that served is held.
            await self._settle(ended="Jupyter never answered" if self._waiting_for_response else "")
        except DS01Error as exc:
            self.log.error("the lease of %s stays for now: %s", self._log_name, exc.detail or exc)
        return self._last_status

    async def stop(self, now: bool = False) -> None:
        """End the server: what is under way first, then container, image tag and lease, in one settling.

        What cannot be ended now is tried again; the Hub takes the server for stopped all the same.
        """
        await self._calls_done()
        if not self._is_adopting:
            await self._end()
        self._unsettled = self._is_adopting = False
        self._last_status = 0
        self.clear_state()

    async def _settle_later(self, login: str, server: str) -> None:
        """Try to end a server until it is ended, or started again; the Hub may forget it meanwhile."""
        for pause_seconds in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            await asyncio.sleep(pause_seconds)
            current = self.user.spawners.get(server)
            if current is not None and current.active:
                return
            try:
                await self._settle_as(login, server, ended=_STOPPED)
            except DS01Error as exc:
                self.log.warning("%s of %s cannot be ended yet: %s", server, login, exc.detail or exc)
            else:
                return

    async def rename(self, old_name: str, new_name: str) -> None:
        """End what is still held under the old name, which is the container's."""
        try:
            await self._settle_as(self._login, old_name, ended="it was renamed")
        except DS01Error as exc:
            raise SpawnRefused(exc) from exc

    async def delete_forever(self) -> None:
        """End what is still held for a server that the Hub forgets."""
        await self._calls_done()
        await self._end()

    async def _end(self) -> None:
        """End the server now, or as soon as that can be done."""
        try:
            await self._settle(ended=_STOPPED)
        except DS01Error as exc:
            self.log.error("%s cannot be ended yet: %s", self._log_name, exc.detail or exc)
            self._keep(asyncio.ensure_future(self._settle_later(self._login, self.name)))

    async def _settle(self, *, ended: str) -> None:
        lease = await self._settle_as(self._login, self.name, ended=ended)
        self._is_held = lease is not None and lease.state is LeaseState.HELD
        self._unsettled = False

    async def _settle_as(self, login: str, server: str, *, ended: str) -> Lease | None:
        leases = (await self._core()).leases
        grace = self.stop_grace_seconds
        return await self._call_long(leases.settle_server, login, server, ended=ended, grace_seconds=grace)
