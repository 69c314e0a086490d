"""The steps of a start: image, lease, container, and Jupyter's answer; a mixin of a DockerSpawner."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import docker.errors
from jupyterhub.utils import random_port

from .. import mlc
from ..buildlog import sum_up
from ..core.leases import Claim, Start
from ..errors import ServerEnded, WrongDevices
from ..metrics import START_IMAGES, SpawnStep, timed
from ..model import BuiltImage
from . import assembly
from .answering import has_answered
from .pools import result_of
from .waiting import Waiting

# How often it is looked whether one that does not answer yet still runs.
LOOK_SECONDS = 0.5
# Between two tries to reach it: most are up soon, and the others must not be asked all the time.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.25
# For the Hub's own first request to a server that has just answered.
HUB_ANSWER_SECONDS = 10


class StartSteps(Waiting):
    """What happens between an accepted request and a server that answers."""

    image: str
    ip: str
    port: int
    hub: Any
    server: Any
    hub_connect_url: str | None
    object_id: str
    object_name: str
    network_name: str
    volume_binds: dict[str, Any]
    extra_create_kwargs: Any
    extra_host_config: Any
    get_args: Any
    http_timeout: int
    get_env: Any
    docker: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._last_status: int | str | None = 0
        self._unsettled = False
        self._is_adopting = False
        self._is_held = False
        self._claim: Claim
        self._assembled: assembly.Assembled

    async def _start(self) -> tuple[str, int]:
        prepared = self._prepared
        assert prepared is not None, "the Hub calls apply_user_options before each start"
        await self._refuse_foreign(prepared)
        if self.host_network:
            self.ip, self.port = "127.0.0.1", random_port()
        self.tell(
            f"Resolving {prepared.base.framework} {prepared.base.version}: {prepared.base.image}.",
            5,
            step=SpawnStep.IMAGE,
        )
        if prepared.base.warning:
            self.tell(prepared.base.warning)
        image = await self._ensure_image(prepared)
        self._assembled = await self._assemble(prepared, image)
        self.tell("Reserving " + prepared.wish + ".", 70, step=SpawnStep.QUEUE)
        await self._reserve(prepared)
        ip, port = await super().start()  # type: ignore[misc]
        self._last_status, self._is_held = None, False
        await self._test_devices()
        self.tell("Your container runs; waiting for Jupyter to answer.", 90, step=SpawnStep.ANSWER)
        await self._await_jupyter(ip, port)
        await self._call(self.site.core.leases.activate, self._claim.lease, self.object_id)
        self._unsettled = self._is_adopting = False
        # The Hub waits for an answer as well, and sees no container that ends meanwhile.
        self._own_settings.setdefault("http_timeout", self.http_timeout)
        self.http_timeout = HUB_ANSWER_SECONDS
        return ip, port

    async def _reserve(self, prepared: assembly.Prepared) -> None:
        """Get the lease, and tell DockerSpawner's start which container there is, if any."""
        # Until it is known whose container is there already, none may be ended.
        self._unsettled = self._is_adopting = True
        start = Start(
            user=prepared.login,
            server=self.name,
            container_name=prepared.container_name,
            request=prepared.request,
            effective=prepared.limits,
            fingerprint=self._assembled.fingerprint,
            requested_at=self._requested_at,
        )
        self._claim = await self._wait_for_claim(start)
        container = self._claim.container
        # A container that runs already is hers to keep, unless Jupyter does not answer in it.
        self._is_adopting = container is not None and container.is_running
        if self._is_adopting:
            self.tell(
                "Your container still runs and is taken as it is. To change its options, stop it first."
            )
        self.image = self._assembled.plan.image
        self.object_name = prepared.container_name
        self.object_id = container.id if container else ""

    @timed(SpawnStep.IMAGE)
    async def _ensure_image(self, prepared: assembly.Prepared) -> BuiltImage:
        images = self.site.core.images
        image = await self._call(images.find, prepared.base, prepared.request)
        if image is None:
            build = images.join(prepared.base, prepared.request, self._login, self.tell_build, self.tell_log)
            try:
                image = await result_of(build.future)
            finally:
                images.leave(build, self.tell_build)
        START_IMAGES.labels("found" if image.build is None else "built").inc()
        self.tell(describe_image(image), 65)
        # Not waited for: a ledger that others keep busy has to be waited for at the lease soon enough.
        self._submit(images.note_use, image, self._login)
        return image

    @timed(SpawnStep.ANSWER)
    async def _await_jupyter(self, ip: str, port: int) -> None:
        """Return when the server answers; one that ends, or never does, says why."""
        loop = asyncio.get_running_loop()
        path = f"{self.server.base_url}api"
        deadline, pause = loop.time() + self.http_timeout, SHORTEST_PAUSE_SECONDS
        # One that has no address has ended.
        look_at = loop.time() + (LOOK_SECONDS if ip else 0)
        while True:
            answers = bool(ip) and await has_answered(ip, port, path)
            if answers or loop.time() >= look_at:
                # Also of one that answers: it may have ended, and another one have its address.
                found = await self.get_object()
                is_running = found is not None and mlc.from_inspect(found).is_running
                if answers and is_running:
                    return
                if not is_running or loop.time() > deadline:
                    self._is_adopting = False
                    raise await self._explain_end(found, is_running=is_running)
                look_at = loop.time() + LOOK_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _explain_end(self, found: dict[str, Any] | None, *, is_running: bool) -> ServerEnded:
        log = await self._call(self.site.engine.log_tail, str(found["Id"])) if found else ""
        last = (log.splitlines()[-1:] or ["it left no word"])[0][:300].rstrip(".")
        what = f"did not answer within {self.http_timeout} seconds" if is_running else "ended after its start"
        return ServerEnded(
            f"Your server {what}: {last}. Choose other packages, another framework or more memory, or show "
            "this to your admin.",
            detail=log,
        )

    async def _assemble(self, prepared: assembly.Prepared, image: BuiltImage) -> assembly.Assembled:
        has_gpu = prepared.request.gpu_count > 0
        site = assembly.Site(
            device_mode=await self._call(lambda: self.site.device_hand_over) if has_gpu else "none",
            slice_pattern=self.site.slice_pattern,
            network=self.network_name,
            port=self.port,
            arguments=tuple(self.get_args()),
            ulimits=self.ulimits,
            allow_sudo=self.allow_sudo,
            privileged=self.privileged,
            host_ipc=self.host_ipc,
        )
        return await self._call(
            assembly.assemble, self.site.engine, prepared, image, server=self.name, site=site
        )

    async def _test_devices(self) -> None:
        """End a server that sees other GPUs than those of its lease, also one that ran before."""
        try:
            await self._call(self.site.core.self_test.check, self._claim.lease, self.object_id)
        except WrongDevices:
            self._is_adopting = False
            raise

    async def _refuse_foreign(self, prepared: assembly.Prepared) -> None:
        foreign = await self._call(self.site.core.leases.clear_name, prepared.container_name)
        if foreign is not None:
            detail = f"id {foreign.id[:12]}, {foreign.state}, image {foreign.image}"
            raise mlc.refuse_name(foreign.name, detail=detail)

    async def get_ip_and_port(self) -> tuple[str, int]:
        """Return where the server listens; the address is empty when its container has ended already."""
        if self.host_network:
            found = await self.get_object()
            return "127.0.0.1", assembly.read_port(found) if found else self.port
        ip, port = await super().get_ip_and_port()  # type: ignore[misc]
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

    @timed(SpawnStep.CREATE)
    async def create_object(self) -> dict[str, str]:
        """Create the container of our lease, give it its identity, and return its id."""
        lease, engine = self._claim.lease, self.site.engine
        if self._claim.container is not None:
            raise ServerEnded("Your held container went while it was started. Please start again.")
        self.tell("Creating your container.", 75, step=SpawnStep.CREATE)
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

    @timed(SpawnStep.START)
    async def start_object(self) -> None:
        """Start it, after her directories were opened once more: they may have been swapped."""
        assert self._prepared is not None
        self.tell("Starting your container.", 85, step=SpawnStep.START)
        await self._call(assembly.recheck_mounts, self.site.core.offers, self._prepared)
        await super().start_object()  # type: ignore[misc]


def describe_image(image: BuiltImage) -> str:
    """Return what there is to say of an image that was found or built."""
    if image.build is not None:
        seconds = image.build.duration.total_seconds()
        return sum_up(seconds, steps=image.build.steps, reused=image.build.reused)
    if image.is_outdated:
        return (
            "The image is there already, on an older version of its base image. To build it on the newest "
            "one, start with “Build on the newest base image”."
        )
    return "The image is there already."
