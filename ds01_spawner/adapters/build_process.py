"""Runs one `docker build`: its context from memory, its log line by line, and its end, whatever ends it.

However a build ends, none of its processes is left and no file. That holds also when it is given up, when
its time is over, and when the process that runs it is killed.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from ds01_spawner.buildlog import describe_duration, waits_for_network
from ds01_spawner.errors import BuildFailed

from . import processes

TAIL_LINES = 400
_WATCH_SECONDS = 0.5


def pack(dockerfile: str, files: Mapping[str, bytes]) -> BinaryIO:
    """Return the context as an archive in memory, which nobody else sees and which ends with this process."""
    for name in files:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not the plain name of a file")
    archive = os.fdopen(os.memfd_create("ds01-build"), "w+b")
    with tarfile.open(fileobj=archive, mode="w") as packed:
        for name, content in {**files, "Dockerfile": dockerfile.encode()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive


def run(
    arguments: Sequence[str],
    context: BinaryIO,
    environment: Mapping[str, str],
    *,
    read: Callable[[str], str],
    given_up: threading.Event,
    timeout: timedelta,
) -> tuple[str, ...]:
    """Run a command that builds; return the end of its log if it failed, else (). Blocks.

    `read` gets each line of the log, and returns what is kept of it.

    Raises:
        BuildFailed: it took too long, it was given up, or somebody killed it; `detail` is the end of the log.
    """
    process = subprocess.Popen(
        processes.bind(arguments),
        stdin=context,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    is_over_time = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process, given_up, is_over_time, timeout))
    watcher.start()
    try:
        for line in process.stdout or ():
            tail.append(read(line.rstrip("\n")))
        process.wait()
    finally:
        _end(process)
        watcher.join()
    if process.returncode == 0:
        return ()
    if given_up.is_set():
        raise BuildFailed("The build was given up. Start again.", detail="\n".join(tail))
    if is_over_time.is_set():
        raise BuildFailed(_explain_end(tail, timeout), detail="\n".join(tail))
    if process.returncode < 0:
        raise BuildFailed("The build was ended from outside. Start again.", detail="\n".join(tail))
    return tuple(tail) or ("docker said nothing",)


def _watch(
    process: subprocess.Popen[str],
    given_up: threading.Event,
    is_over_time: threading.Event,
    timeout: timedelta,
) -> None:
    """End a build that nobody waits for any more, or that takes too long."""
    deadline = time.monotonic() + timeout.total_seconds()
    while process.poll() is None and not given_up.wait(_WATCH_SECONDS):
        if time.monotonic() > deadline:
            is_over_time.set()
            break
    _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End `process` and all that it started; the engine gives up a build whose connection ends.

    Docker's own command does not always heed SIGTERM: https://github.com/docker/cli/issues/1761.
    """
    if process.poll() is None or process.returncode < 0:
        # The thread of the build may have reaped it in between.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _explain_end(tail: Sequence[str], timeout: timedelta) -> str:
    """Return what is said of a build that took too long."""
    took = f"The build took longer than {describe_duration(timeout.total_seconds())} and was ended"
    if waits_for_network(tail):
        return f"{took}: the network did not answer. Start again; if it stays so, tell your admin."
    return f"{took}. Ask for fewer packages, or ask your admin for a longer limit."
