"""What many want to know at once is read once for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

# For how long a reading waits for the one before, while others join it.
_TURN_SECONDS = 0.1


class SharedReading(Generic[T]):
    """A reading that is shared by those who ask while the one before is under way; from any thread.

    Guarantees: what one gets was read after he asked, and nobody waits for long because of a reading that
    hangs. An error goes to all who share it.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._joining = threading.Lock()
        self._turn = threading.Lock()
        self._next: Future[T] | None = None

    def __call__(self) -> T:
        """Return what is read from now on."""
        with self._joining:
            shared, leads = self._next, self._next is None
            if shared is None:
                shared = self._next = Future()
        if leads:
            self._lead(shared)
        return shared.result()

    def _lead(self, shared: Future[T]) -> None:
        has_turn = self._turn.acquire(timeout=_TURN_SECONDS)
        with self._joining:
            self._next = None
        try:
            shared.set_result(self._read())
        # It is not swallowed: each who asked gets it.
        except BaseException as exc:
            shared.set_exception(exc)
        finally:
            if has_turn:
                self._turn.release()
