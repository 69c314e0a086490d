"""Who leaves a command before its end leaves nothing half made; what that means is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Abandoned(Exception):
    """She left; the text says what that means, in a sentence."""

    def __init__(self, message: str = "Nothing was changed.") -> None:
        super().__init__(message)


@contextmanager
def leaving() -> Iterator[None]:
    """Take Ctrl-C between two questions as it is taken at one: nothing is changed in here."""
    try:
        yield
    except KeyboardInterrupt as exc:
        raise Abandoned from exc
