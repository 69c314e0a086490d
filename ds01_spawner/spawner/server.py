"""DS01Spawner: one server from the student's options to a leased container, and its end.

Only this module and the service await; what blocks runs in one of two pools, builds apart from short
calls, so that nobody waits for somebody else's start, stop or build.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any, ParamSpec, TypeVar

import docker.errors
from dockerspawner import DockerSpawner
from jupyterhub.utils import random_port
from requests import RequestException
from traitlets import Bool, CaselessStrEnum, Integer, Unicode, default

from .. import mlc
from ..errors import DS01Error, EngineUnavailable, LedgerUnavailable, NameTaken, ServerEnded
from ..model import LeaseState
from . import assembly
from .options import StudentOptions
from .progress import Progress
from .refusal import SpawnRefused

P = ParamSpec("P")
T = TypeVar("T")


class DS01Spawner(StudentOptions, DockerSpawner):  # type: ignore[misc]
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
    start_timeout = Integer(3600, config=True, help="Seconds for build and start together.")
    http_timeout = Integer(
        120, config=True, help="Seconds until Jupyter must answer once its container runs."
    )
    stop_grace_seconds = Integer(
        10, min=1, config=True, help="Seconds between SIGTERM and SIGKILL when a server is stopped."
    )

    hub_connect_url: str | None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._last_status: int | str | None = 0
        self._unsettled = False
        self._is_held = False

    @property
    def client(self) -> Any:
        """docker-py's client, the one of the site's engine."""
        return self.site.engine.client

    @default("network_name")
    def _default_network_name(self) -> str:
        return "host" if self.host_network else self.site.network_name

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call docker-py in the pool; DockerSpawner's own calls come this way."""
        return self._call(self._docker, method, *args, **kwargs)

    # start -----------------------------------------------------------------------------------------

    def _object_name_default(self) -> str:
        if self._prepared is not None:
            return self._prepared.container_name
        return ""

    def tell(self, message: str, percent: int | None = None) -> None:
        """Add a line to the pending page; from any thread."""
        if self._progress is not None:
            self._progress.tell(message, percent=percent)

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
        self._progress = self._progress or Progress()
        try:
            await self._calls_done()
            return await self._start()
        except DS01Error as exc:
            raise SpawnRefused(exc) from exc
        except (docker.errors.DockerException, RequestException) as exc:
            error = EngineUnavailable(
                "Docker on the server failed while it started your container. Please try again, and tell "
                "your admin if it happens again.",
                detail=str(exc),
            )
            raise SpawnRefused(error) from exc

    async def _start(self) -> tuple[str, int]:
        prepared = self._prepared
        assert prepared is not None, "the Hub calls apply_user_options before each start"
        leases, images = self.site.core.leases, self.site.core.images
        await self._refuse_foreign(prepared)
        if self.host_network:
            self.ip, self.port = "127.0.0.1", random_port()
        self.tell(f"Resolving {prepared.base.framework} {prepared.base.version}: {prepared.base.image}.", 5)
        if prepared.base.warning:
            self.tell(prepared.base.warning)
        image = await asyncio.wrap_future(
            self.builders.submit(images.ensure, prepared.base, prepared.request, self.tell)
        )
        self.tell("The image is built." if image.was_built else "The image is there already.", 65)
        self._assembled = await self._call(
            assembly.assemble,
            self.site.engine,
            self.site.core.offers,
            prepared,
            image,
            server=self.name,
            site=await self._assembly_site(),
        )
        self.tell("Reserving " + prepared.wish + ".", 70)
        self._unsettled = True
        self._claim = await self._call(
            leases.claim,
            user=self._login,
            server=self.name,
            container_name=prepared.container_name,
            request=prepared.request,
            effective=prepared.limits,
            fingerprint=self._assembled.fingerprint,
        )
        # A container that runs already is hers to keep, whatever goes wrong from here on.
        self._unsettled = self._claim.container is None or not self._claim.container.is_running
        # DockerSpawner's start finds the container by get_object and makes it by create_object.
        self.image = self._assembled.plan.image
        self.object_name = prepared.container_name
        self.object_id = self._claim.container.id if self._claim.container else ""
        ip, port = await super().start()
        await self._call(leases.activate, self._claim.lease, self.object_id)
        self._last_status, self._is_held = None, False
        self.tell("Your container runs; waiting for Jupyter to answer.", 90)
        await self._await_jupyter(ip, port)
        self._unsettled = False
        return ip, port

    async def _await_jupyter(self, ip: str, port: int) -> None:
        """Return when the server listens; a container that ends before that says why at once."""
        while True:
            found = await self.get_object()
            if found is None or not mlc.from_inspect(found).is_running:
                log = await self._call(self.site.engine.log_tail, str(found["Id"])) if found else ""
                last = log.splitlines()[-1:] or ["it left no word"]
                raise ServerEnded(
                    f"Your server ended right after its start: {last[0][:300]}. Choose other packages, "
                    "another framework or more memory, or show this to your admin.",
                    detail=log,
                )
            if await _is_listening(ip, port):
                return
            await asyncio.sleep(0.25)

    async def _assembly_site(self) -> assembly.Site:
        return assembly.Site(
            device_mode=await self._call(lambda: self.site.device_hand_over),
            slice_pattern=self.site.slice_pattern,
            network=self.network_name,
            port=self.port,
            arguments=tuple(self.get_args()),
            ulimits=self.ulimits,
            allow_sudo=self.allow_sudo,
            privileged=self.privileged,
            host_ipc=self.host_ipc,
        )

    async def _refuse_foreign(self, prepared: assembly.Prepared) -> None:
        foreign = await self._call(self.site.core.leases.clear_name, prepared.container_name)
        if foreign is not None:
            raise NameTaken(
                f"A container named {foreign.name} exists already and was not made by this Hub. Rename or "
                "remove it (mlc remove), or give your server another name.",
                detail=f"id {foreign.id[:12]}, {foreign.state}, image {foreign.image}",
            )

    async def get_ip_and_port(self) -> tuple[str, int]:
        """Return where the server listens; the address is empty when its container has ended already."""
        if self.host_network:
            return "127.0.0.1", self.port
        ip, port = await super().get_ip_and_port()
        return ip or "", port

    async def get_object(self) -> dict[str, Any] | None:
        """Return Docker's inspect of our own container, None only when Docker says it is gone.

        By id, never by name: whatever else has the name is not ours.
        """
        if not self.object_id:
            return None
        try:
            found: dict[str, Any] = await self.docker("inspect_container", self.object_id)
        except docker.errors.NotFound:
            self.object_id = ""
            return None
        return found

    async def create_object(self) -> dict[str, str]:
        """Create the container of our lease, give it its identity, and return its id."""
        lease, engine = self._claim.lease, self.site.engine
        self.tell("Creating your container.", 75)
        self._reach_hub()
        arguments = assembly.create_arguments(
            self._assembled,
            lease,
            self.get_env(),
            extra=await self._evaluate(self.extra_create_kwargs),
            extra_host_config={"binds": self.volume_binds, **await self._evaluate(self.extra_host_config)},
        )
        await self._call(engine.tag, self._assembled.image.id, self._assembled.plan.image)
        container_id = await self._call(engine.create, arguments)
        await self._call(self.site.core.leases.note_container, lease, container_id)
        await self._call(assembly.give_identity, engine, self._assembled, container_id)
        return {"Id": container_id}

    def _reach_hub(self) -> None:
        """Tell the server the Hub's address on its own network, unless the admin gave another."""
        if self.hub_connect_url is None and self._assembled.gateway:
            self.hub_connect_url = f"http://{self._assembled.gateway}:{self.hub.port}"

    async def _evaluate(self, extra: Any) -> dict[str, Any]:
        """Return what an admin adds by DockerSpawner's own settings: a dict, or what gives one."""
        value = extra(self) if callable(extra) else extra
        found: dict[str, Any] = await value if inspect.isawaitable(value) else value
        return found

    async def start_object(self) -> None:
        """Start it, after her directories were opened once more: they may have been swapped."""
        assert self._prepared is not None
        self.tell("Starting your container.", 85)
        offers, mounts = self.site.core.offers, self._assembled.plan.mounts
        await self._call(assembly.recheck_mounts, offers, self._prepared, mounts)
        await super().start_object()

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
        return self._is_held

    async def poll(self) -> int | str | None:
        """Return None while it runs, else its exit; if Docker does not answer, the last status stands.

        A start that is not through counts as running, so that the Hub calls `stop` to undo it.
        """
        if self._unsettled:
            return None
        try:
            found = await self.get_object()
            if found is not None and mlc.from_inspect(found).is_running:
                self._last_status = None
            else:
                # One that never answered is ended; only a server that served is held.
                await self._settle(ended=self._waiting_for_response)
                self._last_status = f"ExitCode={found['State']['ExitCode']}" if found else 0
        except (EngineUnavailable, LedgerUnavailable, docker.errors.DockerException, RequestException) as exc:
            self.log.warning("no answer about %s, its last status stands: %s", self._log_name, exc)
        return self._last_status

    async def stop(self, now: bool = False) -> None:
        """End the server: what is under way first, then container, image tag and lease, in one settling."""
        try:
            await self._calls_done()
            await self._settle(ended=True)
        except Exception:
            # The Hub swallows what a stop raises, and takes the server for stopped.
            self.log.exception("%s could not be stopped; its lease stays", self._log_name)
            raise
        self._last_status = 0
        self.clear_state()

    async def _settle(self, *, ended: bool) -> None:
        lease = await self._call(
            self.site.core.leases.settle_server,
            self._login,
            self.name,
            ended=ended,
            grace_seconds=self.stop_grace_seconds,
        )
        self._is_held = lease is not None and lease.state is LeaseState.HELD
        self._unsettled = False


async def _is_listening(ip: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), timeout=2)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True
