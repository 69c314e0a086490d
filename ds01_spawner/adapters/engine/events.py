"""What happens to containers, as Docker tells it.

Guarantees: whatever happens after `on_open` was called is told, in order, until `watch` ends; an event
from just before may come too. A quiet Docker is no error, one that goes away is.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from docker.types import CancellableStream

from ...errors import EngineUnavailable
from .connection import ASK_ADMIN, Connection, translated

ACTIONS = ("create", "start", "die", "stop", "destroy", "rename", "pause", "unpause", "tag")
"""Docker's words for what happens to a container, or to an image (`tag`), as far as it is told here."""

_ANSWER_SECONDS = 10
_LINGER_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEvent:
    """One of `ACTIONS`, and the container it happened to, by its name of then (the new one of a rename).

    For `tag` both are the image's.
    """

    action: str
    container_id: str
    name: str


def watch(
    docker_host: str,
    on_event: Callable[[ContainerEvent], None],
    *,
    stop: threading.Event,
    on_open: Callable[[], None] = lambda: None,
) -> None:
    """Call `on_event` for each event until `stop` is set; blocks, on a connection of its own.

    `docker_host` is as for `Connection`. `on_event` should be quick: Docker drops what is not read in
    time. Who reconciles in `on_open` misses nothing; to follow on after an error, call this again.

    Raises:
        EngineUnavailable: Docker does not answer, or the stream ended or broke.
    """
    if stop.is_set():
        return
    client = Connection(docker_host=docker_host, pool_size=1, timeout_seconds=_ANSWER_SECONDS).client
    ended = threading.Event()
    try:
        with translated("following events"):
            # Docker answers before it begins to listen: `since` brings what came between.
            stream = client.events(
                since=int(time.time()),
                filters={"type": ["container", "image"], "event": list(ACTIONS)},
                decode=True,
            )
        threading.Thread(target=_close_when_set, args=(stop, ended, stream), daemon=True).start()
        on_open()
        for event in _read(stream):
            on_event(event)
    finally:
        ended.set()
        client.close()
    if not stop.is_set():
        raise EngineUnavailable(
            f"Docker on the server stopped answering. {ASK_ADMIN}", detail="the stream of events ended"
        )


def _read(stream: CancellableStream) -> Iterator[ContainerEvent]:
    with translated("following events"):
        for message in stream:
            yield _parse(message)


def _parse(message: Mapping[str, Any]) -> ContainerEvent:
    actor = message["Actor"]
    return ContainerEvent(
        action=message["Action"], container_id=actor["ID"], name=(actor["Attributes"] or {}).get("name", "")
    )


def _close_when_set(stop: threading.Event, ended: threading.Event, stream: CancellableStream) -> None:
    """End a blocked read when `stop` is set; lingers a little when the stream has ended by itself."""
    while not ended.is_set():
        if stop.wait(_LINGER_SECONDS):
            # Its end may have come first.
            with contextlib.suppress(OSError, AttributeError):
                stream.close()
            return
