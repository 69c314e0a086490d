"""What is wrong on a site, as sentences: what leaked, what is doubled, and what does not agree."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker.errors

from ds01_spawner import mlc
from ds01_spawner.model import Lease, LeaseState

from ..hub import Hub
from ..student import Student
from .bench import Bench

# The promise: so long after the killed part is up again, everything is as it has to be.
DEADLINE_SECONDS = 15
# A call that was on its way may still do something after all looked well.
_STEADY_SECONDS = 1.0
_PAUSE_SECONDS = 0.1

READY, ENDED = "ready", "ended"


def wait_until_clean(bench: Bench, student: Student) -> tuple[float, str]:
    """Return after how many seconds nothing was wrong any more, and whether her server is ready or ended.

    Fails with what is wrong still after `DEADLINE_SECONDS`.
    """
    began = time.monotonic()
    clean_at: float | None = None
    while True:
        looked_at = time.monotonic()
        faults = [*find_faults(bench, student)]
        if faults:
            clean_at = None
        elif clean_at is None:
            clean_at = looked_at
        elif looked_at > clean_at + _STEADY_SECONDS:
            return clean_at - began, READY if student.server() else ENDED
        if faults and looked_at > began + DEADLINE_SECONDS:
            raise AssertionError(
                f"after {DEADLINE_SECONDS} seconds still:\n" + "\n".join(f"- {fault}" for fault in faults)
            )
        time.sleep(_PAUSE_SECONDS)


def find_faults(bench: Bench, student: Student) -> Iterator[str]:
    """Yield what is wrong with her server, and with all that the Hub and its Engine have."""
    hub = bench.hub
    rows = hub.docker.containers(all=True)
    containers = {row["Id"]: row for row in rows}
    leases = hub.leases()
    with hub.ledger() as ledger:
        queue, marks = ledger.queue(), ledger.marks()
    yield from _judge_her(hub, student, leases)
    for lease in leases:
        yield from _judge_lease(hub, lease, containers)
    known = {lease.container_id for lease in leases}
    for row in rows:
        if row["Id"] not in known:
            yield f"the container {row['Names']} ({row['State']}, {row['Command']}) belongs to no lease"
    yield from (f"{entry.container_name} is still in the queue" for entry in queue)
    yield from (f"the slot {mark.slot} is marked: {mark.why}" for mark in marks)
    yield from _find_doubles(leases)
    yield from _judge_machine(bench, leases)


def _judge_her(hub: Hub, student: Student, leases: tuple[Lease, ...]) -> Iterator[str]:
    server = student.server()
    own = [lease for lease in leases if lease.user == student.name]
    if server.get("pending"):
        yield f"the Hub says that her server is pending: {server['pending']}"
    elif server and not own:
        yield "the Hub says that her server is ready, and it has no lease"
    elif own and not server:
        yield "her server has a lease, and the Hub does not know it"
    elif server and (status := student.page(f"/user/{student.name}/api").status_code) != 200:
        yield f"her server is ready, and answers {status}"


def _judge_lease(hub: Hub, lease: Lease, containers: dict[str, dict[str, Any]]) -> Iterator[str]:
    name = f"the lease {lease.id} of {lease.container_name}"
    if lease.ending:
        yield f"{name} is ending: {lease.ending}"
    elif lease.state is not LeaseState.ACTIVE:
        yield f"{name} is {lease.state.value}"
    row = containers.get(lease.container_id or "")
    if row is None:
        yield f"{name} has no container"
    elif row["State"] != "running":
        yield f"the container of {name} is {row['State']}"
    elif row["Labels"].get(mlc.LEASE_LABEL) != lease.nonce:
        yield f"the container of {name} was made for another one"
    else:
        try:
            pinned = mlc.from_inspect(hub.docker.inspect_container(row["Id"])).devices
        except docker.errors.NotFound:
            yield f"the container of {name} is going"
            return
        if sorted(pinned) != sorted(lease.slots):
            yield f"{name} is for {lease.slots}, its container has {pinned}"


def _find_doubles(leases: tuple[Lease, ...]) -> Iterator[str]:
    kinds: list[tuple[str, Callable[[Lease], list[str]]]] = [
        ("slot", lambda lease: list(lease.slots)),
        ("server", lambda lease: [lease.container_name]),
    ]
    for kind, names_of in kinds:
        for name, count in Counter(name for lease in leases for name in names_of(lease)).items():
            if count > 1:
                yield f"the {kind} {name} is in {count} leases"


def _judge_machine(bench: Bench, leases: tuple[Lease, ...]) -> Iterator[str]:
    images = bench.hub.docker.images()
    wanted = {mlc.image_name(lease.container_name, lease.user) for lease in leases}
    for image in images:
        names = set(image["RepoTags"] or ["<none>:<none>"])
        for name in names:
            if name == "<none>:<none>":
                yield f"the image {image['Id']} has no name"
            elif "-image:" in name and name not in wanted:
                yield f"the name {name} stayed on its image"
    services = bench.hub.service_pids()
    if len(services) != 1:
        yield f"{len(services)} services run: {services}"
    yield from (f"the build {pid} still runs" for pid in find_builds(bench.link.docker_host))


def find_builds(docker_host: str) -> list[int]:
    """Return the ids of the `docker build` processes that use this way to Docker."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            command = (directory / "cmdline").read_bytes().split(b"\0")
            environment = (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[1:2] == [b"build"] and f"DOCKER_HOST={docker_host}".encode() in environment:
            found.append(int(directory.name))
    return found
