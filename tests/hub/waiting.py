"""Waiting for something to become true: asked again and again, until a deadline that is an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_SECONDS = 0.1


def wait_for(question: Callable[[], T | None], what: str, *, seconds: float = 60) -> T:
    """Return the first answer of `question` that is true; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} seconds still not: {what} (last answer: {answer!r})")
        time.sleep(_PAUSE_SECONDS)
