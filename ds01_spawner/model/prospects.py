"""What would become of a start now: what the options form says before anybody presses its button."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What a start with `count` slots of `profile` would meet, for one person at one moment.

    `why` is "" if it gets them at once, else the sentence that the start would be answered with.
    `is_taken` says that others have what she may have herself; then `waits` whether the start would wait in
    the queue, and `expected_at` until when, where that is known.
    `instead` are the GPU profiles of which she would get one at once, the nearest in size first, at last
    `none` if she may start without a GPU.
    """

    profile: str
    count: int
    why: str = ""
    is_taken: bool = False
    waits: bool = False
    expected_at: datetime | None = None
    instead: tuple[str, ...] = ()

    @property
    def is_free(self) -> bool:
        return not self.why
