"""The logs of builds, a file each: written while the build runs, kept for a time, never too large.

Only the Hub's user can read them. Where they cannot be kept, a build goes on without its log.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

log = logging.getLogger(__name__)

MOST_BYTES = 8 * 1024**2
"""How much of one log is kept; what a build says after that is left out."""
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,100}\.log")
_CUT = "… the rest is left out\n"


class BuildLogs:
    """A folder of logs; it is made, for this user alone, when the first log is written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def write(self, name: str) -> Iterator[Callable[[str], None]]:
        """Give a function that adds a line to the log `name`; where that fails it is said, and left."""
        with ExitStack() as stack:
            file: TextIO | None = None
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(self._find(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                file = stack.enter_context(os.fdopen(handle, "w", encoding="utf-8", errors="replace"))
            except OSError as exc:
                log.warning("the log of a build cannot be kept: %s", exc)
            yield _Lines(file, name).add

    def read(self, name: str) -> str:
        """Return the log `name`, "" for one that is not there."""
        try:
            return self._find(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def prune(self, before: datetime) -> None:
        """Remove the logs that were written last before a time."""
        for path in self._directory.glob("*.log"):
            try:
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
            except OSError as exc:
                log.warning("the log %s cannot be removed: %s", path, exc)

    def _find(self, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of a log")
        return self._directory / name


class _Lines:
    """Adds lines to a file until it is as long as a log may be, or fails."""

    def __init__(self, file: TextIO | None, name: str) -> None:
        self._file = file
        self._name = name
        self._left = MOST_BYTES

    def add(self, line: str) -> None:
        if self._file is None:
            return
        self._left -= len(line.encode(errors="replace")) + 1
        try:
            self._file.write(f"{line}\n" if self._left >= 0 else _CUT)
            self._file.flush()
        except OSError as exc:
            log.warning("the log %s ends early: %s", self._name, exc)
            self._left = -1
        if self._left < 0:
            self._file = None
