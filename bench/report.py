"""What the benchmarks of servers measure, and how they print it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from statistics import median

import docker
from hubs import Hub


@dataclass(slots=True)
class Times:
    """What one Hub took for some rounds, in seconds."""

    starts: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)

    def add(self, hub: Hub, people: Sequence[str]) -> None:
        """Let all people start and stop a server once."""
        self.starts.append(hub.start_servers(people))
        self.stops.append(hub.stop_servers(people))

    def repeat(self, hub: Hub, people: Sequence[str], rounds: int) -> None:
        """Let them do so that many times."""
        for _ in range(rounds):
            self.add(hub, people)


def alternate(hubs: tuple[Hub, Hub], people: Sequence[str], rounds: int) -> tuple[Times, Times]:
    """Return what each Hub takes for that many rounds, in which now the one and now the other is first."""
    found = (Times(), Times())
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            with hubs[which].awake():
                found[which].add(hubs[which], people)
    return found


def tell(seconds: Sequence[float]) -> str:
    """Return the median, and between what the rounds lay where there were several."""
    middle = f"{median(seconds):.2f} s"
    return f"{middle} ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else middle


def describe_machine(docker_host: str) -> str:
    """Return cores, load, versions and date in one line."""
    client = docker.APIClient(base_url=docker_host, version="auto")
    engine = client.version()["Version"]
    client.close()
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Docker {engine}, "
        f"Python {platform.python_version()}, JupyterHub {version('jupyterhub')}, "
        f"DockerSpawner {version('dockerspawner')}, {datetime.now(timezone.utc):%Y-%m-%d}"
    )
