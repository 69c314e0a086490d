"""All that we ask of Docker, blocking; its errors come out as ours.

One `DockerEngine` serves all threads of a process. A builder does the builds (`builder.py`).
"""

from __future__ import annotations

import base64
import io
import json
import logging
import tarfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import docker
import docker.errors
import requests
from docker.utils import kwargs_from_env, version_gte

from .. import mlc
from ..errors import ConfigBroken, EngineUnavailable, ImageFailed, NameTaken
from ..image import PROBE_SCRIPT, BaseProbe, parse_probe
from ..model import Container

log = logging.getLogger(__name__)

# Docker 28.2.
_API_WITH_CDI_ALWAYS_ON = "1.50"
_PROBE_MEMORY = 512 * 1024**2
_PROBE_PIDS = 64
# Go's os.ModeDir, as Docker's path stat has it.
_GO_MODE_DIRECTORY = 1 << 31

ASK_ADMIN = "Please try again in a minute, and tell your admin if it stays so."


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """A local image: its content id, its labels, its size in bytes."""

    id: str
    labels: Mapping[str, str]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to put into a container; `mode`, `uid` and `gid` as in `stat`."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what docker-py raises into `EngineUnavailable`, with `what` failed in the log's detail."""
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as exc:
        if isinstance(exc, docker.errors.NotFound):
            raise
        raise EngineUnavailable(
            f"Docker on the server did not do what was asked ({what}). {ASK_ADMIN}",
            detail=f"{what}: {exc}",
        ) from exc


class DockerEngine:
    """Docker through its API.

    Args:
        docker_host: `unix://…` or `tcp://…`; "" for what the environment says.
        pool_size: how many calls may be under way at once.
    """

    def __init__(self, *, docker_host: str = "", pool_size: int = 16, timeout_seconds: int = 60) -> None:
        self._host = docker_host
        self._pool_size = pool_size
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._image_files: dict[str, dict[str, bytes]] = {}
        self._ulimits: dict[tuple[tuple[str, int], ...], bool] = {}

    @property
    def client(self) -> docker.APIClient:
        """The one client; made at first use, so that a Hub starts while Docker is away."""
        with self._lock:
            if self._client is None:
                kwargs = kwargs_from_env()
                if self._host:
                    kwargs["base_url"] = self._host
                with _translated("connecting"):
                    self._client = docker.APIClient(
                        version="auto", timeout=self._timeout, max_pool_size=self._pool_size, **kwargs
                    )
            return self._client

    @property
    def docker_host(self) -> str:
        """The address for the command line tools; "" for their own default."""
        return self._host

    def device_mode(self) -> str:
        """Return how this engine hands over GPUs: `cdi`, else `nvidia`, else raise.

        Raises:
            ConfigBroken: neither is there.
        """
        with _translated("docker info"):
            info = self.client.info()
        if version_gte(self.client.api_version, _API_WITH_CDI_ALWAYS_ON):
            # Only what was discovered can be handed out.
            found = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or []]
            has_cdi = any(name.startswith("nvidia.com/gpu=") for name in found)
        else:
            has_cdi = bool(info.get("CDISpecDirs"))
        if has_cdi:
            return "cdi"
        if "nvidia" in info.get("Runtimes", {}):
            return "nvidia"
        raise ConfigBroken(
            "This server cannot hand out GPUs at the moment. Please tell your admin.",
            detail="docker info shows neither NVIDIA CDI devices nor an nvidia runtime: install the NVIDIA "
            "Container Toolkit and run nvidia-ctk cdi generate, or set c.DS01.device_mode",
        )

    def cpus(self) -> int:
        """Return how many CPUs the machine has; Docker refuses a container that asks for more."""
        with _translated("docker info"):
            return int(self.client.info()["NCPU"])

    # images ---------------------------------------------------------------------------------------

    def image(self, reference: str) -> ImageInfo | None:
        """Return the local image under that name, tag or id; None if there is none."""
        try:
            with _translated(f"looking for the image {reference}"):
                found = self.client.inspect_image(reference)
        except docker.errors.NotFound:
            return None
        labels = (found.get("Config") or {}).get("Labels") or {}
        return ImageInfo(id=found["Id"], labels=dict(labels), size=found.get("Size", 0))

    def pull(self, reference: str) -> ImageInfo:
        """Pull an image and return it.

        Raises:
            ImageFailed: the registry does not have it, or cannot be reached.
        """
        name, _, tag = reference.rpartition(":")
        if not name or "/" in tag:
            name, tag = reference, "latest"
        try:
            with _translated(f"pulling {reference}"):
                self.client.pull(name, tag=tag)
        except (EngineUnavailable, docker.errors.NotFound) as exc:
            raise ImageFailed(
                f"The base image {reference} is not on the server and could not be downloaded. "
                "Choose another framework version, or ask your admin to pull it.",
                detail=str(getattr(exc, "detail", exc)),
            ) from exc
        found = self.image(reference)
        if found is None:
            raise ImageFailed(
                f"The base image {reference} vanished after its download. {ASK_ADMIN}", detail=reference
            )
        return found

    def tag(self, image_id: str, name: str) -> None:
        """Give the image one more name, `repository:tag`."""
        repository, _, tag = name.rpartition(":")
        with _translated(f"tagging {name}"):
            self.client.tag(image_id, repository, tag, force=True)

    def untag(self, name: str) -> None:
        """Take a name away; the image stays if it has another. No error if it has gone."""
        try:
            with _translated(f"untagging {name}"):
                self.client.remove_image(name, noprune=True)
        except docker.errors.NotFound:
            log.debug("the tag %s has gone already", name)
        except EngineUnavailable as exc:
            log.warning("the tag %s stays: %s", name, exc.detail)

    def probe(self, reference: str) -> BaseProbe:
        """Return what a base image offers (Python, pip, …), by running a script in it without network."""
        output = self._run(reference, PROBE_SCRIPT)
        return parse_probe(output)

    def _run(self, reference: str, script: str, **host_config: object) -> str:
        """Run `/bin/sh -c script` in a throw-away container and return what it printed."""
        # The image may be a student's own: it gets no GPU, no capability and little of the machine.
        config = self.client.create_host_config(
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=_PROBE_MEMORY,
            pids_limit=_PROBE_PIDS,
            **host_config,
        )
        with _translated(f"looking into the image {reference}"):
            made = self.client.create_container(
                reference,
                entrypoint=["/bin/sh"],
                command=["-c", script],
                environment={"NVIDIA_VISIBLE_DEVICES": "void"},
                host_config=config,
                user="0",
            )
            try:
                self.client.start(made["Id"])
                self.client.wait(made["Id"], timeout=60)
                output = self.client.logs(made["Id"], stdout=True, stderr=False)
            finally:
                self.client.remove_container(made["Id"], force=True, v=True)
        return bytes(output).decode(errors="replace")

    def supports_ulimits(self, reference: str, ulimits: Mapping[str, int]) -> bool:
        """Whether this engine may set those ulimits (one without CAP_SYS_RESOURCE may not); asked once."""
        key = tuple(sorted(ulimits.items()))
        if key not in self._ulimits:
            wanted = [{"Name": name, "Soft": value, "Hard": value} for name, value in key]
            try:
                self._run(reference, ":", ulimits=wanted)
                self._ulimits[key] = True
            except EngineUnavailable as exc:
                if "rlimit" not in exc.detail:
                    raise
                log.warning("this Docker cannot set the ulimits %s: servers start without them", dict(key))
                self._ulimits[key] = False
        return self._ulimits[key]

    # networks -------------------------------------------------------------------------------------

    def ensure_network(self, name: str) -> str:
        """Make our bridge if it is not there, containers apart from each other; return its gateway."""
        try:
            with _translated(f"looking for the network {name}"):
                found = self.client.inspect_network(name)
        except docker.errors.NotFound:
            with _translated(f"making the network {name}"):
                self.client.create_network(
                    name,
                    driver="bridge",
                    options={"com.docker.network.bridge.enable_icc": "false"},
                    labels={mlc.MANAGED_LABEL: "true"},
                    check_duplicate=True,
                )
                found = self.client.inspect_network(name)
        configs = (found.get("IPAM") or {}).get("Config") or []
        gateways = [str(config["Gateway"]) for config in configs if config.get("Gateway")]
        if not gateways:
            raise ConfigBroken(
                f"The server's container network is not set up. {ASK_ADMIN}",
                detail=f"the Docker network {name} has no gateway: it must be a bridge",
            )
        return gateways[0].partition("/")[0]

    # containers -----------------------------------------------------------------------------------

    def container(self, id_or_name: str) -> Container | None:
        """Return the container, or None if Docker says there is none; any other answer raises."""
        try:
            with _translated(f"looking for the container {id_or_name}"):
                return mlc.from_inspect(self.client.inspect_container(id_or_name))
        except docker.errors.NotFound:
            return None

    def containers(self, *, label: str = "") -> tuple[Container, ...]:
        """Return all containers, stopped ones too; with `label` (`key` or `key=value`) only those."""
        with _translated("listing containers"):
            rows = self.client.containers(all=True, filters={"label": label} if label else {})
        found = [self.container(row["Id"]) for row in rows]
        return tuple(container for container in found if container is not None)

    def container_states(self) -> dict[str, str]:
        """Return the state (`running`, `exited`, …) of every container, by id; one call."""
        with _translated("listing containers"):
            return {str(row["Id"]): str(row["State"]) for row in self.client.containers(all=True)}

    def running_containers(self, *, but: Collection[str | None]) -> tuple[Container, ...]:
        """Return the running containers whose ids are not in `but`, each inspected."""
        states = self.container_states()
        others = [one for one, state in states.items() if state == "running" and one not in but]
        found = [self.container(container_id) for container_id in others]
        return tuple(container for container in found if container is not None)

    def create(self, kwargs: Mapping[str, object]) -> str:
        """Create a container from `mlc.create_kwargs` and return its id.

        Raises:
            NameTaken: a container of that name is there already.
        """
        arguments = dict(kwargs)
        host_config = arguments.pop("host_config")
        assert isinstance(host_config, dict)
        arguments["host_config"] = self.client.create_host_config(**host_config)
        try:
            made = self.client.create_container(**arguments)
        except docker.errors.APIError as exc:
            if exc.status_code == 409:
                raise NameTaken(
                    f"A container named {kwargs['name']} exists already and was not made by this Hub. "
                    "Rename or remove it (mlc remove), or give your server another name.",
                    detail=str(exc),
                ) from exc
            raise _failed(f"creating the container {kwargs['name']}", exc) from exc
        except (docker.errors.DockerException, requests.RequestException) as exc:
            raise _failed(f"creating the container {kwargs['name']}", exc) from exc
        return str(made["Id"])

    def image_files(self, image_id: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        """Return files of an image, b"" for one that is not there; looked at once per image.

        Asked of a container without mounts that never runs. A symlink among the directories is refused:
        dockerd follows it when it writes a file, with the mounts in place, as root, into whatever a
        mount's source is by then.

        Raises:
            ImageFailed: a directory on the way to a path is no real directory.
        """
        with self._lock:
            known = self._image_files.setdefault(image_id, {})
        missing = tuple(path for path in paths if path not in known)
        if missing:
            known |= self._read_image_files(image_id, missing)
        return {path: known[path] for path in paths}

    def _read_image_files(self, image_id: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        with _translated(f"looking into the image {image_id}"):
            made = self.client.create_container(image_id, entrypoint=["/"], network_disabled=True)
            try:
                parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
                for parent in sorted(parents - {"/"}):
                    self._require_directory(made["Id"], parent)
                return {path: self._read_file(made["Id"], path) for path in paths}
            finally:
                self.client.remove_container(made["Id"], force=True, v=True)

    def _require_directory(self, container_id: str, path: str) -> None:
        # docker-py has no call for the path's stat alone, and a GET would send the whole directory.
        url = self.client._url("/containers/{0}/archive", container_id)
        answer = self.client.head(url, params={"path": path}, timeout=self._timeout)
        if answer.status_code == 404:
            return
        answer.raise_for_status()
        stat = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        if not stat["mode"] & _GO_MODE_DIRECTORY or stat["linkTarget"]:
            raise ImageFailed(
                f"Your image replaces the directory {path} by something else, so no server can start from "
                "it. Leave out the package that does, or choose another base image.",
                detail=f"{path} in the image is {stat}",
            )

    def _read_file(self, container_id: str, path: str) -> bytes:
        try:
            stream, _ = self.client.get_archive(container_id, path)
        except docker.errors.NotFound:
            return b""
        return _first_file(b"".join(stream))

    def put_files(self, container_id: str, files: tuple[File, ...]) -> None:
        """Write files into a container, directories made as needed, in one call."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for file in files:
                info = tarfile.TarInfo(file.path.lstrip("/"))
                info.size, info.mode, info.uid, info.gid = len(file.content), file.mode, file.uid, file.gid
                archive.addfile(info, io.BytesIO(file.content))
        with _translated("writing into the container"):
            self.client.put_archive(container_id, "/", buffer.getvalue())

    def log_tail(self, container_id: str, *, lines: int = 20) -> str:
        """Return the last lines that a container printed."""
        with _translated("reading the container's log"):
            return bytes(self.client.logs(container_id, tail=lines)).decode(errors="replace").strip()

    def remove(self, container_id: str, *, grace_seconds: int = 10) -> None:
        """Stop a container (SIGTERM, then SIGKILL after the grace) and remove it. Gone already is fine."""
        try:
            with _translated("stopping the container"):
                self.client.stop(container_id, timeout=grace_seconds)
            with _translated("removing the container"):
                self.client.remove_container(container_id, v=True, force=True)
        except docker.errors.NotFound:
            log.debug("the container %s has gone already", container_id[:12])
        except EngineUnavailable as exc:
            if "already in progress" not in exc.detail:
                raise
            log.debug("somebody else removes the container %s", container_id[:12])


def _failed(what: str, exc: Exception) -> EngineUnavailable:
    return EngineUnavailable(
        f"Docker on the server did not do what was asked ({what}). {ASK_ADMIN}", detail=f"{what}: {exc}"
    )


def _first_file(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            opened = tar.extractfile(member) if member.isfile() else None
            if opened is not None:
                return opened.read()
    return b""
