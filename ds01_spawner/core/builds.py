"""Builds under way: each content once however many wait for it, some at once, the others in a queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor

from ..model import BuiltImage

Tell = Callable[[str], None]
"""Takes a sentence about the progress; called from any thread."""


class Build:
    """One build that is under way, however many wait for it; late ones hear what was told before.

    Its future gives the image, or raises what went wrong. `given_up` is set when nobody waits any more.
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.future: Future[BuiltImage] = Future()
        self.given_up = threading.Event()
        self.listeners: list[Tell] = []
        self._told: list[str] = []

    def listen(self, tell: Tell) -> None:
        """Add a listener."""
        for sentence in self._told:
            tell(sentence)
        self.listeners.append(tell)

    def tell(self, sentence: str) -> None:
        """Tell all that listen."""
        self._told.append(sentence)
        for tell in tuple(self.listeners):
            tell(sentence)


class BuildQueue:
    """Runs builds in threads of their own, `size` at once, in the order in which they were asked for."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="ds01-build")
        self._size = size
        self._lock = threading.Lock()
        self._builds: dict[Hashable, Build] = {}
        self._waiting: list[Build] = []
        self._running = 0

    def join(self, key: Hashable, work: Callable[[Build], BuiltImage], tell: Tell) -> Build:
        """Begin the build of `key`, or wait with the others who want it; `leave` it at the end, whichever.

        `work` makes it, in a thread of the pool; for one that is under way already it is not needed.
        """
        with self._lock:
            build = self._builds.get(key)
            if build is None:
                build = self._builds[key] = Build(key)
                self._waiting.append(build)
                build.future = self._pool.submit(self._run, build, work)
                if self._running + len(self._waiting) > self._size:
                    build.tell(_say_place(len(self._waiting)))
            build.listen(tell)
        return build

    def leave(self, build: Build, tell: Tell) -> None:
        """Wait no longer; a build that nobody waits for ends, and one that waits itself never begins."""
        with self._lock:
            build.listeners.remove(tell)
            if build.listeners:
                return
            del self._builds[build.key]
            build.given_up.set()
            if build.future.cancel():
                self._waiting.remove(build)
                self._tell_places()

    def _run(self, build: Build, work: Callable[[Build], BuiltImage]) -> BuiltImage:
        with self._lock:
            self._waiting.remove(build)
            self._running += 1
            self._tell_places()
        try:
            return work(build)
        finally:
            with self._lock:
                self._running -= 1

    def _tell_places(self) -> None:
        if self._running < self._size:
            return
        for place, build in enumerate(self._waiting, start=1):
            build.tell(_say_place(place))


def _say_place(place: int) -> str:
    if place == 1:
        return "Other images are being built now; yours is the next."
    return f"Other images are being built now; yours is number {place} of those that wait."
