"""`ds01 image create`: an image of one's own, from options or from a wizard's answers.

Files and image are made after the last question and when all that can be checked was checked; nothing of
the same name is overwritten.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import RequestRefused
from ..leaving import leaving
from ..questions import Interview, open_terminal
from ..sources import Sources
from ..tables import print_json
from . import folder, tutor
from .build import as_json, print_result, run_build
from .parts import (
    Bases,
    add_site,
    find_engine,
    look_into,
    open_builder,
    refuse_foreign,
    require_base,
    require_engine,
    say,
)
from .recipe import (
    DOCKERFILE,
    Defaults,
    Owner,
    Recipe,
    find_owner,
    make_spec,
    read_defaults,
    read_name,
    read_packages,
    read_requirements,
    read_system_packages,
    read_use_case,
    render_files,
)
from .wizard import Wish, Wizard, make_recipe

if TYPE_CHECKING:
    from ...adapters.engine import DockerEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What was typed, by whom and where; if `builds`, an image is wanted, and there is an engine."""

    options: argparse.Namespace
    sources: Sources
    owner: Owner
    defaults: Defaults
    engine: DockerEngine | None
    builds: bool


def create_image(options: argparse.Namespace, sources: Sources) -> None:
    """Make an image, or only its files, or only print its Dockerfile."""
    if options.print and options.json:
        options.parser.error("--print prints a Dockerfile, which is not JSON")
    if options.base and (options.framework or options.version):
        options.parser.error("--base takes the place of --framework and --version")
    if options.version and not options.framework:
        options.parser.error("--version says nothing without --framework")
    sources = add_site(sources)
    builds = not (options.print or options.no_build)
    order = _Order(
        options=options,
        sources=sources,
        owner=find_owner(),
        defaults=read_defaults(sources.site),
        engine=require_engine(sources) if builds else find_engine(sources),
        builds=builds,
    )
    interview = open_terminal(guided=options.guided)
    with leaving():
        order, recipe = _settle(order, interview)
    if options.print:
        spec = make_spec(recipe, order.owner, order.defaults)
        print(render_files(spec, look_into(order.engine, recipe.base))[DOCKERFILE], end="")
        return
    _make(order, recipe)
    interview.explain(tutor.DONE)


def _settle(order: _Order, interview: Interview) -> tuple[_Order, Recipe]:
    """Return what is to be made, and whether it is to be built, after all questions that there are."""
    options, owner, defaults = order.options, order.owner, order.defaults
    if options.name:
        _check_free(order, read_name(options.name, owner))
    bases = Bases(order.sources, options.arch)
    wish = _read_wish(order, bases)
    if wish.name is not None and wish.base is not None and not options.guided:
        return order, make_recipe(wish, defaults)
    check_free = partial(_check_free, order)
    wizard = Wizard(interview=interview, owner=owner, bases=bases, defaults=defaults, check_free=check_free)
    recipe = make_recipe(wizard.complete(wish), defaults)
    return replace(order, builds=wizard.confirm(recipe, asks=order.builds)), recipe


def _check_free(order: _Order, name: str) -> None:
    """Refuse a name that is taken, where something would be made under it."""
    if order.options.print:
        return
    path = folder.find(order.owner, name)
    if path.exists():
        raise folder.refuse_existing(path)
    if order.builds and order.engine is not None and refuse_foreign(order.engine, order.owner, name):
        raise RequestRefused(
            f"You have an image {order.owner.image(name)} already. Remove it with "
            f"`ds01 image delete {name}`, or take another name."
        )


def _read_wish(order: _Order, bases: Bases) -> Wish:
    """Return what the command line asks for, checked."""
    from ...image import check_reference

    options = order.options
    base = check_reference(options.base) if options.base else None
    if options.framework:
        base = bases.find(options.framework, options.version).image
    packages, system_packages = "\n".join(options.packages), " ".join(options.system_packages)
    return Wish(
        name=read_name(options.name, order.owner) if options.name else None,
        base=base,
        has_base_packages=False if options.no_base_packages else None,
        use_case=read_use_case(options.use_case, order.defaults) if options.use_case else None,
        packages=read_packages(packages) if packages else None,
        requirements=read_requirements(Path(options.requirements)) if options.requirements else None,
        system_packages=read_system_packages(system_packages) if system_packages else None,
    )


def _make(order: _Order, recipe: Recipe) -> None:
    """Write the files, then build from them."""
    owner, engine = order.owner, order.engine
    path = folder.find(owner, recipe.name)
    base_id = require_base(engine, order.sources, recipe.base) if order.builds and engine is not None else ""
    spec = make_spec(recipe, owner, order.defaults, base_id=base_id)
    files = render_files(spec, look_into(engine, recipe.base))
    record = folder.Record(
        base=recipe.base, base_id=base_id, use_case=recipe.use_case, written=folder.note_written(files)
    )
    folder.make(path, files, record)
    in_the_way = folder.link(owner, recipe.name)
    if in_the_way is not None:
        say(f"{folder.show_path(in_the_way)} is there already, so it is no link to the new Dockerfile.")
    built = None
    if order.builds:
        say(f"The files are in {folder.show_path(path)}; now the image is built.")
        content = {name: text.encode() for name, text in files.items()}
        builder = open_builder(order.options, order.sources)
        built = run_build(builder, owner.image(recipe.name), content, path)
        folder.change(path, {}, replace(record, built=files))
    if order.options.json:
        print_json(as_json(owner, recipe.name, recipe.base, built))
    else:
        print_result(owner, recipe.name, built)
