"""`ds01 image list` and `ds01 image delete`: one's own images and their folders."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ... import mlc
from ...errors import RequestRefused
from ..questions import YesNo, open_terminal
from ..sources import Sources
from ..tables import Cell, print_json, print_table, show_size
from ..times import show_time, write_time
from . import folder
from .parts import add_site, find_engine, refuse_foreign, say
from .recipe import Owner, find_owner, read_name

if TYPE_CHECKING:
    from ...adapters.engine import DockerEngine
    from ...adapters.engine.images import NamedImage

_HEADINGS = ("NAME", "SIZE", "CREATED", "BASE", "FOLDER")
_LATEST = ":latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One of her images, or a folder that was not built yet."""

    name: str
    image: NamedImage | None
    has_folder: bool


def list_own(options: argparse.Namespace, sources: Sources) -> None:
    """Print the images of who asks."""
    owner = find_owner()
    engine = find_engine(add_site(sources))
    if engine is None:
        say("Docker does not answer you here, so only the folders are known.")
    rows = _find_rows(owner, engine)
    if options.json:
        print_json([_as_json(row, owner) for row in rows])
    elif rows:
        now = datetime.now(timezone.utc)
        print_table(_HEADINGS, [("", [_draw(row, owner, now) for row in rows])])
    else:
        say("You have no images. Make one with: ds01 image create")


def delete_image(options: argparse.Namespace, sources: Sources) -> None:
    """Remove an image, and its folder, after asking."""
    owner = find_owner()
    name = read_name(options.name, owner)
    path = folder.find(owner, name)
    engine = find_engine(add_site(sources))
    if engine is None:
        say("Docker does not answer you here, so an image would stay.")
    has_image = engine is not None and refuse_foreign(engine, owner, name)
    has_folder = path.is_dir()
    if not has_image and not has_folder:
        raise RequestRefused(f"You have no image {name!r}. `ds01 image list` shows those you have.")
    if engine is not None and has_image:
        _refuse_used(engine, owner.image(name))
    interview = open_terminal()
    goes = has_image and (
        options.yes or interview.ask(YesNo(prompt=f"Remove the image {owner.image(name)}?", default=False))
    )
    folder_goes = has_folder and not options.keep_folder and (goes or not has_image)
    if folder_goes and not options.yes:
        prompt = f"Remove the folder {folder.show_path(path)} too, with all files in it?"
        folder_goes = interview.ask(YesNo(prompt=prompt, default=False))
    if engine is not None and goes:
        engine.untag(owner.image(name))
    if folder_goes:
        folder.remove(owner, name)
    if options.json:
        print_json({"name": name, "image_removed": goes, "folder_removed": folder_goes})
    else:
        _print_removed(name, owner, goes=goes, folder_goes=folder_goes, stays=has_folder and not folder_goes)


def _refuse_used(engine: DockerEngine, image: str) -> None:
    found = engine.image(image)
    users = engine.users_of(found.id) if found is not None else ()
    if users:
        verb = "was" if len(users) == 1 else "were"
        raise RequestRefused(
            f"{', '.join(users)} {verb} made from {image}. Remove that first: stop the server in the "
            "browser, or use mlc remove."
        )


def _print_removed(name: str, owner: Owner, *, goes: bool, folder_goes: bool, stays: bool) -> None:
    path = folder.show_path(folder.find(owner, name))
    if goes:
        print(f"The image {owner.image(name)} is removed.")
    if folder_goes:
        print(f"The folder {path} is removed.")
    elif goes and stays:
        print(f"The folder {path} stays; `ds01 image update {name}` builds the image again.")
    if not goes and not folder_goes:
        print("Nothing was removed.", file=sys.stderr)


def _find_rows(owner: Owner, engine: DockerEngine | None) -> list[_Row]:
    """Return her images and folders, by name."""
    ending = owner.image("") + _LATEST
    found = engine.images_named(f"*{ending}") if engine is not None else ()
    images = {each.name.removesuffix(ending): each for each in found if owner.owns(each.labels)}
    folders = set(folder.names(owner))
    return [
        _Row(name=name, image=images.get(name), has_folder=name in folders)
        for name in sorted(folders | images.keys())
    ]


def _as_json(row: _Row, owner: Owner) -> dict[str, object]:
    image = row.image
    return {
        "name": row.name,
        "image": owner.image(row.name),
        "built": image is not None,
        "id": image and image.id,
        "base": image and image.labels.get(mlc.BASE_IMAGE_LABEL, ""),
        "size_bytes": image and image.size,
        "created_at": image and write_time(image.created_at),
        "folder": str(folder.find(owner, row.name)) if row.has_folder else None,
    }


def _draw(row: _Row, owner: Owner, now: datetime) -> list[Cell]:
    image = row.image
    path = folder.show_path(folder.find(owner, row.name)) if row.has_folder else "gone"
    if image is None:
        return [row.name, "", "not built", "", path]
    base = image.labels.get(mlc.BASE_IMAGE_LABEL, "")
    return [row.name, show_size(image.size), show_time(image.created_at, now), base, path]
