"""Builds under way: each content once however many wait for it, some at once, the others in a queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor

from ..model import BuiltImage

Tell = Callable[[str], None]
"""Takes a sentence about the progress, or a line of a log; called from any thread."""

OTHERS_FIRST = "Other images are being built now"
"""So begins what one is told who waits until others are built."""
# So many of the newest lines of a log are kept, and shown.
LOG_LINES = 200


def _heed_not(_line: str) -> None:
    """Take a line of the log of a build, for who only wants its steps."""


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
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._log_listeners: list[Tell] = []

    def listen(self, tell: Tell, tell_log: Tell) -> None:
        """Add a listener, and who hears the lines of the log."""
        for sentence in self._told:
            tell(sentence)
        for line in tuple(self._log):
            tell_log(line)
        self.listeners.append(tell)
        self._log_listeners.append(tell_log)

    def leave(self, tell: Tell) -> None:
        """Take away a listener, and who hears the log with it."""
        place = self.listeners.index(tell)
        del self.listeners[place], self._log_listeners[place]

    def tell(self, sentence: str) -> None:
        """Tell all that listen."""
        self._told.append(sentence)
        for tell in tuple(self.listeners):
            tell(sentence)

    def tell_log(self, line: str) -> None:
        """Pass on a line of the log."""
        self._log.append(line)
        for tell_log in tuple(self._log_listeners):
            tell_log(line)


class BuildQueue:
    """Runs builds in threads of their own, `size` at once, in the order in which they were asked for."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="ds01-build")
        self._size = size
        self._lock = threading.Lock()
        self._builds: dict[Hashable, Build] = {}
        self._waiting: list[Build] = []
        self._running = 0

    def join(
        self,
        key: Hashable,
        work: Callable[[Build], BuiltImage],
        tell: Tell,
        tell_log: Tell = _heed_not,
    ) -> Build:
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
            build.listen(tell, tell_log)
        return build

    def leave(self, build: Build, tell: Tell) -> None:
        """Wait no longer; a build that nobody waits for ends, and one that waits itself never begins."""
        with self._lock:
            build.leave(tell)
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
        return f"{OTHERS_FIRST}; yours is the next."
    return f"{OTHERS_FIRST}; yours is number {place} of those that wait."
