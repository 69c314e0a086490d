"""A lock that one process of this machine holds, and that ends with it, however it ends."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5


@contextmanager
def hold_lock(path: Path, stop: Event) -> Iterator[bool]:
    """Wait until the lock at `path` is ours, and hold it; yields False if `stop` was set before.

    Its folder is made if missing. The file stays: removing it would let two hold one name.

    Raises:
        OSError: the file cannot be made.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _wait(handle, path, stop)
    finally:
        os.close(handle)


def _wait(handle: int, path: Path, stop: Event) -> bool:
    is_told = False
    while not stop.is_set():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not is_told:
                log.warning("another one holds %s; waiting until it ends", path)
                is_told = True
            stop.wait(_PAUSE_SECONDS)
        else:
            return True
    return False
