"""`ds01 image update`: the image once more, from what is in its folder now.

As long as she edits only the lists of packages, Dockerfile and the rest are written anew from them. Once
she edits the Dockerfile, or another file that we wrote, the folder is hers and is built as it is. An image
keeps its name until the new one is complete.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import RequestRefused
from ...mlc import MAINTAINER_ID_LABEL
from ..sources import Sources
from ..tables import print_json, show
from . import folder
from .build import as_json, print_result, run_build
from .folder import Contents, Record
from .parts import add_site, look_into, open_builder, refuse_foreign, require_base, require_engine, say
from .recipe import (
    DOCKERFILE,
    LISTS,
    Owner,
    Recipe,
    find_owner,
    make_labels,
    make_spec,
    read_defaults,
    read_list,
    read_name,
    read_packages,
    read_requirements,
    read_system_packages,
    render_files,
)

if TYPE_CHECKING:
    from ...adapters.engine import DockerEngine

_FROM = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is built: all `files`, those of them to write into the folder before, and the record after it."""

    files: Mapping[str, bytes]
    to_write: Mapping[str, str]
    record: Record
    compared: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """Lines of one file that came and went since the last build."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


def update_image(options: argparse.Namespace, sources: Sources) -> None:
    """Build an image again from its folder, and say what changed in there."""
    sources = add_site(sources)
    owner = find_owner()
    name = read_name(options.name, owner)
    path = folder.find(owner, name)
    contents = folder.read(path)
    added = _add(contents, options)
    engine = require_engine(sources)
    refuse_foreign(engine, owner, name)
    contents = replace(
        contents, files={**contents.files, **{file: text.encode() for file, text in added.items()}}
    )
    if contents.is_ours:
        plan = _plan_anew(name, contents, owner, sources, engine)
    else:
        plan = _plan_as_it_is(name, contents, owner, engine)
    changes = _compare(contents.record, plan)
    _tell(changes, contents.record, plan)
    folder.change(path, {**plan.to_write, **added}, plan.record)
    before = engine.image(owner.image(name))
    built = run_build(open_builder(options, sources), owner.image(name), plan.files, path)
    texts = {file: content.decode(errors="replace") for file, content in plan.files.items()}
    folder.change(path, {}, replace(plan.record, built=texts))
    if before is not None and before.id != built.id:
        engine.remove_nameless(before.id)
    if options.json:
        shown = {file: {"added": change.added, "removed": change.removed} for file, change in changes.items()}
        print_json({**as_json(owner, name, plan.record.base, built), "changes": shown})
    else:
        print_result(owner, name, built)


def _add(contents: Contents, options: argparse.Namespace) -> dict[str, str]:
    """Return the lists to which the options add packages, as they are then."""
    wanted = {
        "packages.txt": read_packages("\n".join(options.packages)),
        "system.txt": read_system_packages(" ".join(options.system_packages)),
        "requirements.txt": read_requirements(Path(options.requirements)) if options.requirements else (),
    }
    added = {}
    for file, items in wanted.items():
        text = contents.files.get(file, b"").decode(errors="replace")
        there = read_list(file, text) if items else ()
        new = [item for item in items if item not in there]
        if new:
            added[file] = "".join(f"{line}\n" for line in (*text.splitlines(), *new))
    return added


def _plan_anew(name: str, contents: Contents, owner: Owner, sources: Sources, engine: DockerEngine) -> _Plan:
    """Make everything but her lists anew: what the base and this version have may have changed as well."""
    assert contents.record is not None
    old = contents.record
    texts = {file: contents.files.get(file, b"").decode(errors="replace") for file in LISTS}
    lists = {field: read_list(file, texts[file]) for file, field in LISTS.items()}
    recipe = Recipe(name=name, base=old.base, use_case=old.use_case, **lists)
    base_id = require_base(engine, sources, old.base)
    spec = make_spec(recipe, owner, read_defaults(sources.site), base_id=base_id)
    files = render_files(spec, look_into(engine, old.base))
    return _Plan(
        files={file: text.encode() for file, text in files.items()},
        to_write={file: text for file, text in files.items() if file not in LISTS},
        record=replace(old, base_id=base_id, written=folder.note_written(files)),
        compared=tuple(LISTS),
    )


def _plan_as_it_is(name: str, contents: Contents, owner: Owner, engine: DockerEngine) -> _Plan:
    """Take every file as it is."""
    if DOCKERFILE not in contents.files:
        raise RequestRefused(
            f"{folder.show_path(folder.find(owner, name))} has no Dockerfile any more. Put one there, or "
            f"remove the folder with `ds01 image delete {name}` and begin again."
        )
    dockerfile = contents.files[DOCKERFILE].decode(errors="replace")
    say("Its Dockerfile, or another file that came with it, was edited, so the folder is built as it is.")
    for file in LISTS:
        if contents.files.get(file, b"").strip() and file not in dockerfile:
            say(f"{file} has packages, and the Dockerfile does not read it, so they are not installed.")
    base = next(iter(reversed(_FROM.findall(dockerfile))), "")
    found = engine.image(base) if base else None
    record = contents.record or Record(base=base, base_id="", use_case="", written={})
    return _Plan(
        files={**contents.files, DOCKERFILE: _sign(dockerfile, name, base, owner).encode()},
        to_write={},
        record=replace(record, base=base, base_id=found.id if found else ""),
        compared=tuple(sorted(contents.files)),
    )


def _sign(dockerfile: str, name: str, base: str, owner: Owner) -> str:
    """Return the Dockerfile with the labels by which an image is known as hers, if it has lost them."""
    from ...image import quote_label

    if MAINTAINER_ID_LABEL in dockerfile:
        return dockerfile
    lines = [f"LABEL {quote_label(key, value)}\n" for key, value in make_labels(name, base, owner)]
    return "".join((dockerfile.rstrip("\n"), "\n", *lines))


def _compare(record: Record | None, plan: _Plan) -> dict[str, _Change]:
    """Return what changed since the last build, by file; nothing where there was none."""
    if record is None or record.built is None:
        return {}
    changes = {}
    for file in dict.fromkeys((*plan.compared, *(name for name in record.built if name not in plan.files))):
        old = _count_lines(file, record.built.get(file, ""))
        new = _count_lines(file, plan.files.get(file, b"").decode(errors="replace"))
        if old != new:
            added, removed = tuple((new - old).elements()), tuple((old - new).elements())
            changes[file] = _Change(added=added, removed=removed)
    return changes


def _count_lines(file: str, text: str) -> Counter[str]:
    is_list = file in LISTS
    return Counter(line for line in text.splitlines() if not is_list or line.partition("#")[0].strip())


def _tell(changes: Mapping[str, _Change], before: Record | None, plan: _Plan) -> None:
    """Say what changed."""
    if before is None or before.built is None:
        return
    if before.base_id != plan.record.base_id:
        say(f"The base image {plan.record.base} is another one than at the last build.")
    elif not changes:
        say("Nothing in the folder has changed since the last build.")
    for file, change in changes.items():
        sides = (("added", change.added), ("removed", change.removed))
        parts = [f"{_sum_up(file, lines)} {word}" for word, lines in sides if lines]
        print(show(f"  {file}: {', '.join(parts)}"), file=sys.stderr)


def _sum_up(file: str, lines: Sequence[str]) -> str:
    if file in LISTS:
        return ", ".join(lines)
    return f"{len(lines)} line{'' if len(lines) == 1 else 's'}"
