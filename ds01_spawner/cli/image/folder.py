"""The folder of an image, `~/dockerfiles/NAME`: the files of its build, for a person to read and to edit.

Beside them lies `.ds01.json`, which says what we wrote and what was built last, so that an edited file is
seen and never overwritten. A new folder is there whole or not at all; what is changed later is replaced file
by file. `~/dockerfiles/NAME-USER.Dockerfile`, where DS01's older tools have it, is a link to the Dockerfile.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from ...errors import RequestRefused
from .recipe import DOCKERFILE, LISTS, Owner

LOG = "build.log"
MOST_BYTES = 64 * 1024**2
"""How much all files of a folder may be together; data belongs into the workspace, not into an image."""
_RECORD = ".ds01.json"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What we know of a folder besides its files.

    `base_id` is the base image's content id at the last build; `written` the digest of each file that we
    made and that is not a list of hers; `built` what the last build was made from, None before the first.
    """

    base: str
    base_id: str
    use_case: str
    written: Mapping[str, str]
    built: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a folder, by name, and its record, None where there is none."""

    files: Mapping[str, bytes]
    record: Record | None

    @property
    def is_ours(self) -> bool:
        """Whether nothing but lists was edited, so that the rest may be written anew."""
        if self.record is None:
            return False
        digests = {name: _digest(content) for name, content in self.files.items()}
        return bool(self.record.written) and all(
            digests.get(name) == digest for name, digest in self.record.written.items()
        )


def find(owner: Owner, name: str) -> Path:
    """Return where the folder of an image is, or would be."""
    return owner.folder / name


def show_path(path: Path) -> str:
    """Return a path as a person writes it, `~/dockerfiles/my-project`."""
    with suppress(ValueError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def note_written(files: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of those of `files` that are not lists."""
    return {name: _digest(text.encode()) for name, text in files.items() if name not in LISTS}


def make(path: Path, files: Mapping[str, str], record: Record) -> None:
    """Write a new folder.

    Raises:
        RequestRefused: something is there already, or it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with _refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir()
            for name, text in files.items():
                (draft / name).write_text(text, encoding="utf-8")
            _write_record(draft, record)
            if os.path.lexists(path):
                raise refuse_existing(path)
            draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def refuse_existing(path: Path) -> RequestRefused:
    """Return the refusal of a name whose folder is there."""
    return RequestRefused(
        f"{show_path(path)} is there already. `ds01 image update {path.name}` builds what is in it, "
        f"`ds01 image delete {path.name}` removes it; or take another name."
    )


def read(path: Path) -> Contents:
    """Return what is in a folder; hidden files, the log and folders in it are left out.

    Raises:
        RequestRefused: there is none, or it cannot be read or is too large.
    """
    if not path.is_dir():
        raise RequestRefused(
            f"There is no folder {show_path(path)}. `ds01 image list` shows your images, and "
            f"`ds01 image create {path.name}` makes one."
        )
    with _refusing(path):
        found = sorted(each for each in path.iterdir() if each.is_file() and _belongs(each.name))
        if sum(each.stat().st_size for each in found) > MOST_BYTES:
            raise RequestRefused(
                f"The files in {show_path(path)} are more than {MOST_BYTES // 1024**2} MiB together, and all "
                "would go into the image. Move data to ~/workspace, where every server sees it."
            )
        return Contents(files={each.name: each.read_bytes() for each in found}, record=_read_record(path))


def change(path: Path, files: Mapping[str, str], record: Record | None) -> None:
    """Replace files of a folder, and its record.

    Raises:
        RequestRefused: it cannot be written.
    """
    with _refusing(path):
        for name, text in files.items():
            _replace(path / name, text)
        if record is not None:
            _write_record(path, record)


def link(owner: Owner, name: str) -> Path | None:
    """Make the link at the Dockerfile's older place; return what is in its way there, None for nothing."""
    place = _find_link(owner, name)
    with _refusing(place):
        if os.path.lexists(place):
            return None if _is_ours(place, name) else place
        place.symlink_to(Path(name, DOCKERFILE))
    return None


def remove(owner: Owner, name: str) -> None:
    """Remove a folder with all that is in it, and its link.

    Raises:
        RequestRefused: it cannot be removed.
    """
    place = _find_link(owner, name)
    with _refusing(find(owner, name)):
        shutil.rmtree(find(owner, name))
        if _is_ours(place, name):
            place.unlink()


def names(owner: Owner) -> Iterator[str]:
    """Yield the names of her folders, in alphabetical order."""
    with _refusing(owner.folder):
        if owner.folder.is_dir():
            yield from sorted(path.parent.name for path in owner.folder.glob(f"[!.]*/{DOCKERFILE}"))


def _belongs(name: str) -> bool:
    return not name.startswith(".") and name != LOG


def _find_link(owner: Owner, name: str) -> Path:
    return owner.folder / f"{owner.image(name).removesuffix('-image')}.{DOCKERFILE}"


def _is_ours(place: Path, name: str) -> bool:
    return place.is_symlink() and place.readlink() == Path(name, DOCKERFILE)


def _read_record(path: Path) -> Record | None:
    try:
        value = json.loads((path / _RECORD).read_text(encoding="utf-8"))
        return Record(**value["record"]) if value["version"] == _VERSION else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise RequestRefused(
            f"{show_path(path / _RECORD)} cannot be read. Remove it, and the folder is built as it is.",
            detail=str(exc),
        ) from exc


def _write_record(path: Path, record: Record) -> None:
    text = json.dumps({"version": _VERSION, "record": asdict(record)}, indent=1)
    _replace(path / _RECORD, f"{text}\n")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RequestRefused(
            f"{show_path(path)} cannot be used: {exc.strerror}. Mend that, and try again.", detail=str(exc)
        ) from exc
