"""The line on which one process talks to Docker and to the ledger, and what happens between two calls.

`kill -9` in the middle of something is a `Killed` before or after one of its calls: within a call there
is no middle, since a write to the ledger happens whole or not at all, and so does a request to Docker. In
the same way a call fails, with what it asked for done or not, and anybody else acts between two calls,
as far as no lock of the process keeps him out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ds01_spawner.errors import LedgerUnavailable, SiteBroken

T = TypeVar("T")


class Killed(BaseException):  # noqa: N818
    """The process is no more; nothing that an `except Exception` may hold up."""


class What(str, Enum):
    """What happens at a moment; what somebody else does is done whole."""

    KILL = "this process is killed"
    NO_ANSWER = "this call fails"
    DOCKER_GOES = "Docker goes away"
    TIME_PASSES = "all deadlines of starts pass"
    OTHERS_LOOK = "another process reconciles"
    HUB_SPAWNS = "the Hub goes on with the start of another server"
    HUB_STOPS = "the Hub stops another server"
    SHE_STARTS = "somebody starts a container"
    SHE_STOPS = "somebody stops a container"
    SHE_REMOVES = "somebody removes a container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Before or after the call number `at`, counted from 1: `what`, done to number `which` of its kind."""

    at: int
    what: What
    after: bool = False
    which: int = 0


class Line:
    """Carries the calls of one process. `happen` is called for all that is done by others."""

    def __init__(self, happen: Callable[[Moment], None]) -> None:
        self._happen = happen
        self._moments: tuple[Moment, ...] = ()
        self._calls = 0
        self._is_cut = False

    @contextmanager
    def interrupted(self, moments: Sequence[Moment]) -> Iterator[None]:
        """Let `moments` happen among the calls that are made within."""
        self._moments, self._calls = tuple(moments), 0
        try:
            yield
        finally:
            self._moments = ()

    def carry(self, call: Callable[[], T], error: type[SiteBroken]) -> T:
        """Make a call, and let happen what is due before and after it."""
        self._calls += 1
        number = self._calls
        self._pass(number, after=False, error=error)
        answer = call()
        self._pass(number, after=True, error=error)
        return answer

    def _pass(self, number: int, *, after: bool, error: type[SiteBroken]) -> None:
        if self._is_cut:
            # What a process does on its way out, one that was killed does not.
            raise Killed
        due = [moment for moment in self._moments if (moment.at, moment.after) == (number, after)]
        for moment in due:
            if moment.what is What.KILL:
                self._is_cut = True
                raise Killed
            if moment.what is What.NO_ANSWER:
                raise error("There was no answer.")
            self._happen(moment)


class WiredLedger:
    """The real ledger, with each of its methods a call on the line."""

    def __init__(self, ledger: object, line: Line) -> None:
        self._ledger = ledger
        self._line = line

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        def carried(*args: Any, **kwargs: Any) -> Any:
            return self._line.carry(lambda: method(*args, **kwargs), LedgerUnavailable)

        return carried
