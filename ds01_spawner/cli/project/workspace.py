"""The folder of a project, `~/workspace/NAME`: what is there is kept, what is missing is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...errors import RequestRefused
from ..image.folder import show_path
from .plan import DOCKERFILE, README, REQUIREMENTS

_README = """\
# {name}

Made by `ds01 project init`. This folder is `/workspace/{name}` in the container, and stays whatever happens
to images and containers.

- `ds01 container run {name}` opens a shell in the container; the browser opens the same one.
- `requirements.txt` lists the packages. After a change: `ds01 image update {name} -r requirements.txt`, then
  stop the container and start it anew.
- `Dockerfile` is a link to `~/dockerfiles/{name}/Dockerfile`, from which the image is built.
"""
_REQUIREMENTS = "# What your code needs besides the framework: a package a line, such as pandas>=2,<3\n"


def find_workspace() -> Path:
    """Return where projects are."""
    return Path.home() / "workspace"


def list_files(folder: Path) -> frozenset[str]:
    """Return which of every project's files are in a folder.

    Raises:
        RequestRefused: something else is in the folder's place, or it cannot be read.
    """
    with _refusing(folder):
        if os.path.lexists(folder) and not folder.is_dir():
            raise RequestRefused(f"{show_path(folder)} is no folder. Move it away, or take another name.")
        return frozenset(
            name for name in (README, REQUIREMENTS, DOCKERFILE) if os.path.lexists(folder / name)
        )


def write_files(folder: Path, files: Sequence[str], packages: Sequence[str]) -> None:
    """Make the folder, and those of its files that are missing.

    Raises:
        RequestRefused: they cannot be written.
    """
    texts = {
        README: _README.format(name=folder.name),
        REQUIREMENTS: "".join((_REQUIREMENTS, *(f"{package}\n" for package in packages))),
    }
    with _refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            draft = folder / f".{name}.{os.getpid()}"
            try:
                draft.write_text(texts[name], encoding="utf-8")
                draft.replace(folder / name)
            finally:
                draft.unlink(missing_ok=True)


def link_dockerfile(folder: Path, recipe: Path) -> None:
    """Make the link to the Dockerfile of the image, if there is one and nothing is in its place.

    Raises:
        RequestRefused: it cannot be made.
    """
    place, target = folder / DOCKERFILE, recipe / DOCKERFILE
    with _refusing(place):
        if target.is_file() and not os.path.lexists(place):
            place.symlink_to(target)


def check_home() -> None:
    """Check that she has a home, and can write in it.

    Raises:
        RequestRefused: there is none, or she cannot.
    """
    home = Path.home()
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise RequestRefused(
            f"Your home {home} is not there, or you cannot write in it. Ask your admin to mend that first."
        )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RequestRefused(
            f"{show_path(path)} cannot be used: {exc.strerror}. Mend that, and try again.", detail=str(exc)
        ) from exc
