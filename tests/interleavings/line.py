"""The line on which one process talks to Docker and to the ledger, and what happens between two calls.

`kill -9` in the middle of something is a `Killed` before or after one of its calls: within a call there
is no middle, since a write to the ledger happens whole or not at all, and so does a request to Docker. In
the same way a call fails, with what it asked for done or not, and anybody else acts between two calls,
as far as no lock of the process keeps him out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ds01_spawner.errors import LedgerUnavailable, SiteBroken

T = TypeVar("T")


class Killed(BaseException):
    """The process is no more; nothing that an `except Exception` may hold up."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The process is killed."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The call fails, before it is made or after it was, and so do those that follow, up to `calls`."""

    calls: int = 1


ANY = "any"
OF_DOCKER = ("list", "inspect", "create", "start", "stop", "remove", "untag", "tell")
OF_LEDGER = (
    "reserve",
    "note_container",
    "activate",
    "hold",
    "resume",
    "end",
    "release",
    "lease",
    "live_leases",
    "leases_of",
    "view",
    "slots",
    "mark",
    "leave_queue_by_id",
)
"""Some of the ledger's methods: at these, most of what goes on beside each other can meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Before or after the `nth` call of one kind (`ANY`: of whatever kind) a deed is done.

    The deed is one of these here, or of `deeds`.
    """

    call: str
    deed: object
    nth: int = 1
    after: bool = False

    def comes_with(self, counts: Counter[str], call: str, *, after: bool) -> bool:
        """Whether it comes before or after this call, of whose kind there were so many."""
        if self.after is not after or self.call not in (ANY, call):
            return False
        lasts = self.deed.calls if isinstance(self.deed, NoAnswer) else 1
        return self.nth <= counts[self.call] < self.nth + lasts


class Line:
    """Carries the calls of one process. `do` is called with each deed of others, which is done whole.

    `has_failed` is whether a call ever got no answer. `taken` counts the interruptions that came to pass,
    over all lines.
    """

    taken: ClassVar[Counter[str]] = Counter()

    def __init__(self, do: Callable[[object], None]) -> None:
        self._do = do
        self._moments: tuple[Moment, ...] = ()
        self._counts: Counter[str] = Counter()
        self._is_cut = False
        self.has_failed = False

    @contextmanager
    def interrupted(self, moments: Sequence[Moment]) -> Iterator[None]:
        """Let `moments` happen among the calls that are made within."""
        self._moments, self._counts = tuple(moments), Counter()
        try:
            yield
        finally:
            self._moments = ()

    def cut(self) -> None:
        """The process is killed: it makes no call any more."""
        self._is_cut = True

    def carry(self, kind: str, call: Callable[[], T], error: type[SiteBroken]) -> T:
        """Make a call, and let happen what is due before and after it."""
        self._counts.update((kind, ANY))
        counts = self._counts.copy()
        self._pass(counts, kind, after=False, error=error)
        answer = call()
        self._pass(counts, kind, after=True, error=error)
        return answer

    def _pass(self, counts: Counter[str], kind: str, *, after: bool, error: type[SiteBroken]) -> None:
        if self._is_cut:
            # What a process does on its way out, one that was killed does not.
            raise Killed
        for moment in self._moments:
            if moment.comes_with(counts, kind, after=after):
                self._take(moment, error)

    def _take(self, moment: Moment, error: type[SiteBroken]) -> None:
        self.taken[type(moment.deed).__name__] += 1
        if isinstance(moment.deed, Kill):
            self.cut()
            raise Killed
        if isinstance(moment.deed, NoAnswer):
            self.has_failed = True
            raise error("There was no answer.")
        self._do(moment.deed)


class WiredLedger:
    """The real ledger, with each of its methods a call on the line."""

    def __init__(self, ledger: object, line: Line) -> None:
        self._ledger = ledger
        self._line = line

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        def carried(*args: Any, **kwargs: Any) -> Any:
            return self._line.carry(name, lambda: method(*args, **kwargs), LedgerUnavailable)

        return carried
