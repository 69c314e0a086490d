"""Which GPUs a running container can see, looked at from outside: nothing inside is asked."""

from __future__ import annotations

import time
from typing import Any

import docker.errors

from ...errors import EngineUnavailable
from ...model import VisibleDevices
from ..device_nodes import read_device_nodes
from .connection import ASK_ADMIN, Connection, translated

# Docker may hear of a container's end a moment after its process has gone.
_LATE_SECONDS, _PAUSE_SECONDS = 3.0, 0.05


class DeviceCalls(Connection):
    """What is asked about the devices of containers."""

    def visible_devices(self, container_id: str) -> VisibleDevices | None:
        """Return what a container can see; None for one that does not run.

        Raises:
            EngineUnavailable: it runs, and its processes cannot be looked at from here.
        """
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            found = self._inspect_running(container_id)
            if found is None:
                return None
            try:
                nodes = read_device_nodes(found["State"]["Pid"], found["Id"])
            except OSError as exc:
                if time.monotonic() > deadline:
                    raise _cannot_look(container_id, exc) from exc
                time.sleep(_PAUSE_SECONDS)
            else:
                return VisibleDevices(nodes=nodes, privileged=found["HostConfig"]["Privileged"])

    def _inspect_running(self, container_id: str) -> dict[str, Any] | None:
        try:
            with translated("looking for the devices of the container"):
                found: dict[str, Any] = self.client.inspect_container(container_id)
        except docker.errors.NotFound:
            return None
        return found if found["State"]["Running"] else None


def _cannot_look(container_id: str, exc: OSError) -> EngineUnavailable:
    return EngineUnavailable(
        f"Which GPUs your server sees could not be checked, so its start was given up. {ASK_ADMIN}",
        detail=f"the processes of container {container_id[:12]} cannot be looked at: {exc}; the Hub must run "
        "as root where Docker runs, and see the same processes",
    )
