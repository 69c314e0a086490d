"""The connection to Docker, what it is able to do, and our network on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import docker.errors
import requests
from docker.utils import kwargs_from_env, version_gte

from ... import mlc
from ...errors import ConfigBroken, EngineUnavailable

# Docker 28.2.
_API_WITH_CDI_ALWAYS_ON = "1.50"
_CPUS_SECONDS = 60
ASK_ADMIN = "Please try again in a minute, and tell your admin if it stays so."


@contextmanager
def translated(what: str) -> Iterator[None]:
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


class Connection:
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
        self._network_lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._cpus = (float("-inf"), 0)

    @property
    def client(self) -> docker.APIClient:
        """The one client; made at first use, so that a Hub starts while Docker is away."""
        with self._lock:
            if self._client is None:
                kwargs = kwargs_from_env()
                if self._host:
                    kwargs["base_url"] = self._host
                with translated("connecting"):
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
        with translated("docker info"):
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
            "Container Toolkit and run nvidia-ctk cdi generate; where dockerd has NVIDIA's older hook and no "
            'runtime of that name, which docker info does not show, set c.DS01.device_mode = "nvidia"',
        )

    def cpus(self) -> int:
        """Return how many CPUs the machine has; Docker refuses a container that asks for more.

        Docker looks at the whole machine for this answer, so it is good for a minute.
        """
        known_until, number = self._cpus
        if time.monotonic() > known_until:
            with translated("docker info"):
                number = int(self.client.info()["NCPU"])
            self._cpus = (time.monotonic() + _CPUS_SECONDS, number)
        return number

    def ensure_network(self, name: str) -> str:
        """Make our bridge if it is not there, containers apart from each other; return its gateway."""
        try:
            with translated(f"looking for the network {name}"):
                found = self.client.inspect_network(name)
        except docker.errors.NotFound:
            with self._network_lock, translated(f"making the network {name}"):
                if not self.client.networks(names=[name]):
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
