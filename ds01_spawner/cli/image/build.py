"""One build as a person at a terminal sees it: its steps while it runs, and what came of it.

Steps go to stderr, the log into the image's folder. Ctrl-C ends the build and leaves no process; the files
stay, and an image that was there before keeps its name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from ...buildlog import BuildStep, ProgressReader, sum_up
from ...errors import BuildFailed, RequestRefused
from ..leaving import Abandoned
from . import folder
from .recipe import DOCKERFILE, Owner

if TYPE_CHECKING:
    from ...adapters.builder import Builder


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build made: the image's id, how long it took, how many of its steps were there before."""

    id: str
    seconds: float
    steps: int
    reused: int


def run_build(builder: Builder, image: str, files: Mapping[str, bytes], path: Path) -> Built:
    """Build an image from files and keep the log in the folder at `path`.

    Raises:
        BuildFailed: says which step, `detail` the lines that matter and where the log is.
        Abandoned: Ctrl-C.
    """
    reader = ProgressReader()
    log = path / folder.LOG
    context = {name: content for name, content in files.items() if name != DOCKERFILE}
    dockerfile = files[DOCKERFILE].decode(errors="replace")
    started = time.monotonic()
    try:
        with _open_log(log) as keep, _show_steps() as show_step:

            def read(line: str) -> None:
                keep(f"{line}\n")
                step = reader.read(line)
                if step is not None:
                    show_step(step)

            made = builder.build(image, dockerfile, context, read, Event())
    except BuildFailed as exc:
        where = f"The whole log is in {folder.show_path(log)}."
        raise BuildFailed(
            f"{exc.message} Change {folder.show_path(path)}, then: ds01 image update {path.name}",
            detail="\n  ".join((*exc.lines, where)),
            lines=exc.lines,
        ) from exc
    except KeyboardInterrupt as exc:
        raise Abandoned(
            f"The build was ended. `ds01 image update {path.name}` builds {folder.show_path(path)} again."
        ) from exc
    layers = reader.layers
    reused = sum(step.state == "cached" for step in layers)
    return Built(id=made, seconds=time.monotonic() - started, steps=len(layers), reused=reused)


def print_result(owner: Owner, name: str, built: Built | None) -> None:
    """Print what was made, and what to do with it."""
    path = folder.show_path(folder.find(owner, name))
    if built is None:
        print(f"The files of your image are in {path}. Build it with: ds01 image update {name}")
        return
    print(sum_up(built.seconds, steps=built.steps, reused=built.reused))
    print(f"  Image  {owner.image(name)}\n  Files  {path}")
    print(f"Edit the lists of packages there, then build again with: ds01 image update {name}")


def as_json(owner: Owner, name: str, base: str, built: Built | None) -> dict[str, object]:
    """Return the same for scripts."""
    return {
        "name": name,
        "image": owner.image(name),
        "base": base,
        "folder": str(folder.find(owner, name)),
        "built": built is not None,
        "id": built and built.id,
        "seconds": built and round(built.seconds, 3),
        "steps": built and built.steps,
        "reused": built and built.reused,
    }


@contextmanager
def _open_log(path: Path) -> Iterator[Callable[[str], object]]:
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as exc:
        raise RequestRefused(f"{folder.show_path(path)} cannot be written: {exc.strerror}.") from exc
    with file:
        yield file.write


@contextmanager
def _show_steps() -> Iterator[Callable[[BuildStep], None]]:
    """Give what shows a step: one line that changes at a terminal, else one for each that starts or fails."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda step: _print_step(step)
        return
    with console.status("Preparing the image") as status:
        yield lambda step: status.update(escape(str(step)))


def _print_step(step: BuildStep) -> None:
    if step.state in ("started", "failed"):
        print(f"{step}{' failed' if step.state == 'failed' else ''}", file=sys.stderr)
