"""What a benchmark says of the machine it ran on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version

import docker


def describe_machine(docker_host: str) -> str:
    """Return cores, versions, load and date in one line."""
    client = docker.APIClient(base_url=docker_host, version="auto")
    engine = client.version()["Version"]
    client.close()
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Docker {engine}, "
        f"Python {platform.python_version()}, JupyterHub {version('jupyterhub')}, "
        f"DockerSpawner {version('dockerspawner')}, {datetime.now(timezone.utc):%Y-%m-%d}"
    )
