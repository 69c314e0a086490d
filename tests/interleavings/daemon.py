"""A Docker that is quick enough for a hundred thousand steps, and what `DockerEngine` asks of it.

A real Docker needs half a second for what is done here in a hundred thousandth of one; tests/adapters and
tests/hub have the real one. This one has what leases depend on. Ids never come back, names are unique, a
container keeps its labels and devices as long as it exists, and it starts only if its devices are
there. Each request stands alone, as in `DockerEngine`: `remove` is a stop and a removal, `snapshot` a list
and a look at each container that is new, and anything may happen in between. It has no images but
their tags, no networks and no programs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ds01_spawner import mlc
from ds01_spawner.errors import EngineUnavailable
from ds01_spawner.model import Container

from .line import Line

T = TypeVar("T")


class NoSuchContainerError(Exception):
    """Docker's 404."""


class Daemon:
    """dockerd: the containers, and what anybody with its socket can do to them.

    `find_missing` returns those of a container's devices that the machine does not have. `made` are the
    nonces of the containers that were created by us, by their ids, also of those that have gone.
    """

    def __init__(self, find_missing: Callable[[Iterable[str]], Sequence[str]]) -> None:
        self.containers: dict[str, Container] = {}
        self.made: dict[str, str] = {}
        self.tags: set[str] = set()
        self.is_down = False
        self._find_missing = find_missing
        self._numbers = itertools.count(1)

    def create(self, name: str, *, labels: Mapping[str, str], devices: Sequence[str]) -> Container:
        if self.find(name) is not None:
            raise mlc.refuse_name(name, detail="409")
        made = Container(
            id=f"c{next(self._numbers)}",
            name=name,
            image="image",
            state="created",
            labels=dict(labels),
            nonce=labels.get(mlc.LEASE_LABEL, ""),
            devices=tuple(devices),
        )
        self.containers[made.id] = made
        return made

    def start(self, container_id: str) -> None:
        """Start a container, or let one run that runs.

        Raises:
            EngineUnavailable: a device of it is not there.
            NoSuchContainerError: it has gone.
        """
        container = self.inspect(container_id)
        if container.is_running:
            return
        missing = self._find_missing(container.devices)
        if missing:
            raise EngineUnavailable("It does not start.", detail=f"unknown devices {', '.join(missing)}")
        self._change(container_id, state="running")

    def stop(self, container_id: str) -> None:
        if self.inspect(container_id).is_running:
            self._change(container_id, state="exited")

    def remove(self, container_id: str) -> None:
        self.inspect(container_id)
        del self.containers[container_id]

    def rename(self, container_id: str, name: str) -> None:
        if self.find(name) is not None:
            raise mlc.refuse_name(name, detail="409")
        self._change(container_id, name=name)

    def inspect(self, id_or_name: str) -> Container:
        found = self.find(id_or_name)
        if found is None:
            raise NoSuchContainerError(id_or_name)
        return found

    def find(self, id_or_name: str) -> Container | None:
        by_name = (one for one in self.containers.values() if one.name == id_or_name)
        return self.containers.get(id_or_name) or next(by_name, None)

    def list_all(self) -> list[Container]:
        return list(self.containers.values())

    def _change(self, container_id: str, **values: str) -> None:
        self.containers[container_id] = replace(self.inspect(container_id), **values)


class Engine:
    """The methods of `DockerEngine` that core uses, and those with which the Hub makes a container.

    `witness(verb, container)` is asked before one of ours starts, stops or removes anything.
    """

    def __init__(self, daemon: Daemon, line: Line, witness: Callable[[str, Container], None]) -> None:
        self._daemon = daemon
        self._line = line
        self._witness = witness
        self._known: dict[str, Container] = {}

    def container(self, id_or_name: str) -> Container | None:
        try:
            return self._ask("inspect", lambda: self._daemon.inspect(id_or_name))
        except NoSuchContainerError:
            return None

    def containers(self, *, label: str = "") -> tuple[Container, ...]:
        key, _, value = label.partition("=")
        rows = self._ask("list", self._daemon.list_all)
        wanted = [row for row in rows if not label or row.labels.get(key) == value]
        found = [self.container(row.id) for row in wanted]
        return tuple(container for container in found if container is not None)

    def snapshot(self) -> tuple[Container, ...]:
        rows = self._ask("list", self._daemon.list_all)
        known = {row.id: self._known[row.id] for row in rows if row.id in self._known}
        for row in rows:
            found = None if row.id in known else self.container(row.id)
            if found is not None:
                known[found.id] = found
        self._known = known
        return tuple(
            replace(known[row.id], name=row.name, state=row.state) for row in rows if row.id in known
        )

    def remove(self, container_id: str, *, grace_seconds: int = 10) -> None:
        try:
            self._do("stop", container_id, self._daemon.stop)
            self._do("remove", container_id, self._daemon.remove)
        except NoSuchContainerError:
            return

    def stop_with_words(self, container_id: str, words: str, *, grace_seconds: int = 10) -> None:
        self.tell(container_id, words)
        try:
            self._do("stop", container_id, self._daemon.stop)
        except NoSuchContainerError:
            return

    def tell(self, container_id: str, words: str) -> None:
        """Write nothing: what cannot be written is no error, as in the real one."""
        try:
            self._ask("tell", lambda: self._daemon.inspect(container_id))
        except (NoSuchContainerError, EngineUnavailable):
            return

    def tag(self, name: str) -> None:
        self._ask("tag", lambda: self._daemon.tags.add(name))

    def untag(self, name: str) -> None:
        """Take a tag away; the real one only logs where it cannot."""
        try:
            self._ask("untag", lambda: self._daemon.tags.discard(name))
        except EngineUnavailable:
            return

    def image_names(self) -> frozenset[str]:
        return self._ask("images", lambda: frozenset(self._daemon.tags))

    def create(self, name: str, *, nonce: str, devices: Sequence[str]) -> str:
        """Create a container of ours and return its id."""

        def create() -> Container:
            made = self._daemon.create(name, labels={mlc.LEASE_LABEL: nonce}, devices=devices)
            self._daemon.made[made.id] = nonce
            return made

        return self._ask("create", create).id

    def start(self, container_id: str) -> None:
        try:
            self._do("start", container_id, self._daemon.start)
        except NoSuchContainerError as exc:
            raise EngineUnavailable("Docker failed while it started your container.") from exc

    def _do(self, verb: str, container_id: str, act: Callable[[str], None]) -> None:
        def watched() -> None:
            self._witness(verb, self._daemon.inspect(container_id))
            act(container_id)

        self._ask(verb, watched)

    def _ask(self, kind: str, request: Callable[[], T]) -> T:
        def answer() -> T:
            if self._daemon.is_down:
                raise EngineUnavailable("Docker does not answer.")
            return request()

        return self._line.carry(kind, answer, EngineUnavailable)
