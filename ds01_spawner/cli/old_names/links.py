"""Links to the `ds01` program that are named like the old commands; nothing else is ever touched."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import RequestRefused
from .table import OLD_NAMES

_PROGRAM = "ds01"


def find_program() -> Path:
    """Return the `ds01` program.

    Raises:
        RequestRefused: there is none.
    """
    beside = Path(sys.executable).with_name(_PROGRAM)
    found = str(beside) if beside.is_file() else shutil.which(_PROGRAM)
    if found is None:
        raise RequestRefused(f"There is no program {_PROGRAM} beside {sys.executable} or on the PATH.")
    return Path(found).absolute()


def is_ours(place: Path) -> bool:
    """Say whether there is a link of an old name to a `ds01`, wherever that is."""
    return place.is_symlink() and place.name in OLD_NAMES and place.readlink().name == _PROGRAM


def sort_places(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return where in a folder a link may be made, and where something else is in its way."""
    places = [folder / name for name in OLD_NAMES]
    taken = [place for place in places if os.path.lexists(place) and not is_ours(place)]
    return [place for place in places if place not in taken], taken


def make_link(place: Path, program: Path) -> None:
    """Make a link, or turn one that is there.

    Raises:
        RequestRefused: it cannot be made.
    """
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    with _refusing(place):
        try:
            draft.symlink_to(program)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


def remove_link(place: Path) -> None:
    """Remove a link.

    Raises:
        RequestRefused: it cannot be removed.
    """
    with _refusing(place):
        place.unlink()


@contextmanager
def _refusing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RequestRefused(
            f"{place} cannot be changed: {exc.strerror}. Do it as root, or name a folder of your own."
        ) from exc
