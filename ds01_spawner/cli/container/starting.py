"""Start a container through the service, and show how it goes until it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ...adapters.local_service import LocalService, name_path
from ...errors import RequestRefused
from ..leaving import Abandoned
from ..tables import show

_LOG = "log"


class Teller(Protocol):
    """Shows one event after another."""

    def tell(self, event: Mapping[str, Any]) -> None:
        """Show an event of the Hub's."""


def start(
    service: LocalService,
    name: str,
    query: Mapping[str, str],
    options: Mapping[str, object] | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Start a container and return when it runs; `options` are those of a new one.

    Raises:
        DS01Error: it was refused, or failed, in the sentence that the browser shows.
        Abandoned: she left; the start goes on.
    """
    try:
        with _open_teller(quiet) as teller:
            teller.tell({"message": "Asking the Hub"})
            body = None if options is None else {"options": options}
            service.post(name_path(name, "start"), query, body)
            for event in service.follow(name_path(name, "progress"), query):
                if event.get("failed"):
                    raise RequestRefused(str(event["message"]))
                if not event.get("ready"):
                    teller.tell(event)
    except KeyboardInterrupt as exc:
        raise Abandoned(
            f"The start goes on. `ds01 container run {name}` waits for it, and `ds01 container stop {name}` "
            "gives it up."
        ) from exc


@contextmanager
def _open_teller(quiet: bool) -> Iterator[Teller]:
    if quiet:
        yield _Silence()
    elif sys.stderr.isatty():
        with _Spinner.open() as spinner:
            yield spinner
    else:
        yield _Lines()


class _Silence:
    def tell(self, event: Mapping[str, Any]) -> None:
        """Show nothing: a script reads what comes of it."""


class _Lines:
    """One line for each step, for who is no terminal."""

    def tell(self, event: Mapping[str, Any]) -> None:
        if event.get("kind") != _LOG:
            print(show(str(event["message"])), file=sys.stderr, flush=True)


class _Spinner:
    """The step that goes on, what its log says last, and how long all has taken; what is done above it."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("", detail="")
        self._current = ""

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[_Spinner]:
        # Imported here, since `ds01` is to start at once.
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True, highlight=False)
        with Progress(*columns, console=console, transient=True) as progress:
            yield cls(progress)

    def tell(self, event: Mapping[str, Any]) -> None:
        text = show(str(event["message"]).strip().rpartition("\n")[2])
        if event.get("kind") == _LOG:
            self._progress.update(self._task, detail=text[:60])
            return
        if self._current:
            self._progress.console.print(f"  {self._current}", markup=False, style="dim")
        self._current = text
        self._progress.update(self._task, description=text, detail="")
