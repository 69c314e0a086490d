"""What a running container does, as Docker sees it from outside: nothing inside is asked."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker.errors

from ... import mlc
from .connection import Connection, translated
from .times import read_time

_USED_OF_LATE_SECONDS = 3600
KEEP_ALIVE = f"{mlc.WORKSPACE}/.keep-alive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerActivity:
    """CPU time used, bytes received and sent since its start, shells that are in use, and the time of
    its `.keep-alive`, None where there is none. On the host's network no bytes are counted.
    """

    started_at: datetime
    cpu_seconds: float
    network_bytes: int
    shells: int
    keep_alive: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """What a running container takes now: of one CPU in percent, memory, processes; None for unlimited."""

    cpu_percent: float
    memory_bytes: int
    memory_limit: int | None
    processes: int


class ActivityCalls(Connection):
    """What is asked about the activity of containers."""

    def activity(self, container_id: str) -> ContainerActivity | None:
        """Return what a container does now; None for one that does not run."""
        try:
            with translated("looking what the container does"):
                found = self.client.inspect_container(container_id)
                if not found["State"]["Running"]:
                    return None
                stats = self.client.stats(container_id, stream=False, one_shot=True)
                return ContainerActivity(
                    started_at=read_time(found["State"]["StartedAt"]),
                    cpu_seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / 10**9,
                    network_bytes=sum(
                        one["rx_bytes"] + one["tx_bytes"] for one in (stats.get("networks") or {}).values()
                    ),
                    shells=sum(map(self._is_shell, found["ExecIDs"] or ())),
                    keep_alive=self._read_keep_alive(container_id),
                )
        except docker.errors.NotFound:
            return None

    def use(self, container_id: str) -> ContainerUse | None:
        """Return what a container takes, seen for a second; None for one that does not run."""
        try:
            with translated("measuring the container"):
                stats = self.client.stats(container_id, stream=False)
        except docker.errors.NotFound:
            return None
        now, before, memory = stats["cpu_stats"], stats["precpu_stats"], stats["memory_stats"]
        if "usage" not in memory:
            return None
        taken = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
        passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
        # What Docker shows as used is without the file cache, which the kernel takes back.
        cache = memory.get("stats", {}).get("inactive_file", 0)
        limit = memory.get("limit", 0)
        return ContainerUse(
            cpu_percent=100 * taken / passed * now.get("online_cpus", 1) if passed > 0 else 0.0,
            memory_bytes=memory["usage"] - cache,
            memory_limit=limit or None,
            processes=stats.get("pids_stats", {}).get("current", 0),
        )

    def _is_shell(self, exec_id: str) -> bool:
        """Whether a process that was started from outside runs at a terminal that was used of late.

        Docker lets a shell run on whose connection was lost.
        """
        try:
            found: dict[str, Any] = self.client.exec_inspect(exec_id)
        except docker.errors.NotFound:
            return False
        if not found["Running"] or not found["ProcessConfig"]["tty"]:
            return False
        try:
            terminal = os.stat(f"/proc/{found['Pid']}/fd/0")
        except OSError:
            # Docker runs on another machine, or it has just ended.
            return True
        return time.time() - max(terminal.st_atime, terminal.st_mtime) < _USED_OF_LATE_SECONDS

    def _read_keep_alive(self, container_id: str) -> datetime | None:
        # docker-py has no call for a path's stat alone. Docker looks within the container's own root.
        url = self.client._url("/containers/{0}/archive", container_id)
        answer = self.client.head(url, params={"path": KEEP_ALIVE}, timeout=self._timeout)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        stat = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        return read_time(stat["mtime"])
