"""What is killed, always with SIGKILL and by its own id, and how it comes back."""

from __future__ import annotations

import contextlib
import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path

import docker.errors

from ..student import Student
from ..waiting import wait_for
from .bench import Bench, call_engine

# JupyterHub looks after a managed service every 30 seconds.
SERVICE_SECONDS = 60


class Victim(ABC):
    """One part of the site; `bring_back` does what its keeper does, and returns when it is up."""

    def __init__(self, bench: Bench, student: Student) -> None:
        self._bench = bench
        self._student = student

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def bring_back(self) -> None: ...


class HubVictim(Victim):
    """The Hub's own process: its proxy is left running, and its service is left to notice."""

    def kill(self) -> None:
        self._bench.hub.kill()

    def bring_back(self) -> None:
        self._bench.start_hub()


class ServiceVictim(Victim):
    """The service, which systemd starts again at once."""

    def kill(self) -> None:
        (self._pid,) = self._bench.hub.service_pids()
        os.kill(self._pid, signal.SIGKILL)

    def bring_back(self) -> None:
        self._bench.start_service()


class ManagedServiceVictim(ServiceVictim):
    """A service that the Hub manages, and starts again when it looks after it the next time."""

    def bring_back(self) -> None:
        def is_back() -> bool:
            pids = self._bench.hub.service_pids()
            return bool(pids) and self._pid not in pids

        wait_for(is_back, "the Hub has brought the service back", seconds=SERVICE_SECONDS)


class ContainerVictim(Victim):
    """The student's container: its first process, or where none runs the container itself."""

    def kill(self) -> None:
        client, name = self._bench.hub.docker, f"jupyter._.{self._student.person.uid}"
        state = client.inspect_container(name)["State"]
        if state["Running"]:
            os.kill(state["Pid"], signal.SIGKILL)
            wait_for(lambda: not is_running(self._bench, name), "Docker has noticed")
        else:
            client.remove_container(name, force=True)

    def bring_back(self) -> None:
        """Nobody does."""


def is_running(bench: Bench, name: str) -> bool:
    with contextlib.suppress(docker.errors.NotFound):
        return bool(bench.hub.docker.inspect_container(name)["State"]["Running"])
    return False


class DockerdVictim(Victim):
    """dockerd alone: containerd, and the containers, live until dockerd is back and ends them."""

    def kill(self) -> None:
        pid = int((self._bench.socket.parent / "docker.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert f"{self._bench.socket.parent}/docker.pid".encode() in command, command
        os.kill(pid, signal.SIGKILL)

    def bring_back(self) -> None:
        call_engine("restart")


MANAGED = "managed"
VICTIMS: dict[str, type[Victim]] = {
    "hub": HubVictim,
    "service": ServiceVictim,
    "container": ContainerVictim,
    "dockerd": DockerdVictim,
    MANAGED: ManagedServiceVictim,
}
