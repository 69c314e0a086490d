"""`ds01 project init`: a folder, an image and a container of one name, in one go, as often as one likes.

Image and container are made by the commands that make them by themselves. What is there is kept; a step that
fails leaves what was made before it, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.local_service import LocalService, name_path
from ...errors import DS01Error, NoContainer, RequestRefused, ServiceUnavailable
from ...model import NO_GPU
from ..image import folder as image_folder
from ..image.parts import Bases, add_site, find_engine, refuse_foreign, say
from ..image.recipe import (
    Defaults,
    Owner,
    find_owner,
    read_defaults,
    read_packages,
    read_requirements,
    read_use_case,
)
from ..leaving import Abandoned, leaving
from ..questions import Interview, open_terminal
from ..service import find_socket
from ..sources import Sources
from ..tables import print_json
from . import workspace
from .plan import REQUIREMENTS, Found, Plan, Wish, make_plan, needs_framework, write_again
from .result import answering, describe_result, print_result, tell_packages
from .wizard import Wizard, read_project_name

if TYPE_CHECKING:
    from ...adapters.engine import DockerEngine

_SETTINGS = ("catalog", "limits", "config")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """Who begins a project, where, and with what."""

    options: argparse.Namespace
    sources: Sources
    owner: Owner
    defaults: Defaults
    engine: DockerEngine | None
    service: LocalService

    @property
    def can_build(self) -> bool:
        """Whether an image is wished for and there is Docker for it."""
        return self.engine is not None

    def look(self, name: str) -> Found:
        """Return what there is of a project.

        Raises:
            DS01Error: it cannot be known, or what is there is in the way.
        """
        engine = self.engine
        return Found(
            files=workspace.list_files(workspace.find_workspace() / name),
            recipe=image_folder.find(self.owner, name).is_dir(),
            image=engine is not None and refuse_foreign(engine, self.owner, name),
            container="" if self.options.no_container else self._find_container(name),
        )

    def _find_container(self, name: str) -> str:
        try:
            return str(self.service.get(name_path(name))["state"])
        except NoContainer:
            return ""


def init_project(options: argparse.Namespace, sources: Sources) -> int:
    """Begin a project, or go on with one; returns the exit status of the step that failed, or 0."""
    interview = open_terminal(guided=options.guided)
    try:
        with leaving():
            desk = _sit_down(options, sources)
            settled = _settle(desk, interview)
    except ServiceUnavailable:
        say("With --no-container the rest is made without the service.")
        raise
    if settled is None:
        say("Nothing was changed.")
        return 0
    return _make(desk, *settled)


def _sit_down(options: argparse.Namespace, sources: Sources) -> _Desk:
    if options.version and not options.framework:
        options.parser.error("--version says nothing without --framework")
    sources = add_site(sources)
    engine = None if options.no_image else find_engine(sources)
    if engine is None and not options.no_image:
        rest = "" if options.no_container else ", and the container is made from the framework"
        say(f"Docker does not answer you here, so no image is built: only its files are written{rest}.")
    return _Desk(
        options=options,
        sources=sources,
        owner=find_owner(),
        defaults=read_defaults(sources.site),
        engine=engine,
        service=LocalService(find_socket(options)),
    )


def _settle(desk: _Desk, interview: Interview) -> tuple[Wish, Found, Plan] | None:
    """Return what is to be made after all questions that there are, None if nothing shall be."""
    options, bases = desk.options, Bases(desk.sources, desk.options.arch)
    wish = _read_wish(desk, bases)
    found = None if wish.name is None else desk.look(wish.name)
    is_open = found is None or (
        wish.framework is None and needs_framework(wish, found, can_build=desk.can_build)
    )
    if not is_open and not options.guided:
        assert found is not None
        plan = _plan(desk, wish, found)
        for line in _list_kept(desk, wish, found):
            say(line)
        return wish, found, plan
    wizard = Wizard(
        interview=interview,
        owner=desk.owner,
        defaults=desk.defaults,
        look=desk.look,
        can_build=desk.can_build,
    )
    selection = desk.service.get("selection") if wish.has_container else None
    wish, found = wizard.complete(wish, lambda: bases.frameworks, selection)
    plan = _plan(desk, wish, found)
    if not plan.is_empty and not wizard.confirm(_describe(desk, wish, found, plan)):
        return None
    return wish, found, plan


def _read_wish(desk: _Desk, bases: Bases) -> Wish:
    """Return what the command line asks for, checked."""
    from ..container.create import read_gpu

    options = desk.options
    framework, version = options.framework or None, options.version
    if framework:
        framework = bases.find(framework, version).framework
    if options.gpu:
        read_gpu(options.gpu)
    return Wish(
        name=read_project_name(options.name, desk.owner) if options.name else None,
        framework=framework,
        version=version,
        use_case=read_use_case(options.use_case, desk.defaults) if options.use_case else None,
        packages=read_packages("\n".join(options.packages)) if options.packages else None,
        gpu=NO_GPU if options.cpu_only else options.gpu or None,
        profile=options.profile,
        has_image=not options.no_image,
        has_container=not options.no_container,
    )


def _plan(desk: _Desk, wish: Wish, found: Found) -> Plan:
    """Return the steps that are left.

    Raises:
        RequestRefused: her requirements.txt cannot be read, or the container would be refused.
    """
    options = desk.options
    settings = ["--arch", options.arch] if options.arch else []
    for name in _SETTINGS:
        file = getattr(options, f"{name}_file", "")
        settings += [f"--{name}", file] if file else []
    requirements = _find_folder(wish) / REQUIREMENTS
    plan = make_plan(wish, found, can_build=desk.can_build, requirements=str(requirements), settings=settings)
    if str(requirements) in plan.image and REQUIREMENTS in found.files:
        read_requirements(requirements)
    if plan.container:
        _check_container(desk, wish, plan)
    return plan


def _check_container(desk: _Desk, wish: Wish, plan: Plan) -> None:
    """Ask the service whether the container would be refused, before anything is made."""
    from .. import build_parser
    from ..container.create import check, read_wish

    assert wish.name is not None
    wanted = read_wish(build_parser(plan.container).parse_args(plan.container))
    if plan.has_image:
        wanted["base_image"] = desk.owner.image(wish.name)
    problem = check(desk.service, wish.name, wanted, {})["problem"]
    if problem:
        raise RequestRefused(problem)


def _find_folder(wish: Wish) -> Path:
    assert wish.name is not None
    return workspace.find_workspace() / wish.name


def _describe(desk: _Desk, wish: Wish, found: Found, plan: Plan) -> list[str]:
    """Return what would be made, and what is kept, in lines."""
    assert wish.name is not None
    folder = image_folder.show_path(_find_folder(wish))
    lines = list(_list_kept(desk, wish, found))
    lines += [f"{folder}: {', '.join(plan.files)}"] if plan.files else []
    if plan.image:
        recipe = image_folder.show_path(image_folder.find(desk.owner, wish.name))
        contents = ", ".join((wish.framework or "", wish.use_case or "", *(wish.packages or ()))).strip(", ")
        lines.append(f"{recipe}: a Dockerfile{f' ({contents})' if contents else ''}")
        if plan.has_image:
            lines.append(f"The image {desk.owner.image(wish.name)}")
    if plan.container:
        gpu = {"": "GPU as the profile has it", NO_GPU: "no GPU"}.get(wish.gpu or "", f"GPU {wish.gpu}")
        lines.append(f"The container {wish.name}, {gpu}")
    return lines


def _list_kept(desk: _Desk, wish: Wish, found: Found) -> Sequence[str]:
    """Return in sentences what is there already and stays as it is."""
    assert wish.name is not None
    folder = _find_folder(wish)
    kept = [image_folder.show_path(folder / name) for name in sorted(found.files)]
    if found.recipe:
        kept.append(image_folder.show_path(image_folder.find(desk.owner, wish.name)))
    if found.image:
        kept.append(f"the image {desk.owner.image(wish.name)}")
    if found.container:
        kept.append(f"the container {wish.name} ({found.container})")
    return [f"Kept as it is: {', '.join(kept)}."] if kept else []


def _make(desk: _Desk, wish: Wish, found: Found, plan: Plan) -> int:
    """Carry the steps out, and say what is there."""
    from .. import main

    assert wish.name is not None
    folder, recipe = _find_folder(wish), image_folder.find(desk.owner, wish.name)
    socket = ("--socket", find_socket(desk.options))
    try:
        with answering(as_json=desk.options.json):
            workspace.write_files(folder, plan.files, wish.packages or ())
            status = main(plan.image) if plan.image else 0
            workspace.link_dockerfile(folder, recipe)
            if status == 0 and plan.container:
                status = main((*plan.container, *socket))
    except DS01Error:
        _tell_rest(wish, folder, recipe)
        raise
    except KeyboardInterrupt as exc:
        _tell_rest(wish, folder, recipe)
        raise Abandoned("It was left before its end.") from exc
    if status:
        _tell_rest(wish, folder, recipe)
        return status
    image = desk.owner.image(wish.name)
    tell_packages(wish.name, plan)
    if desk.options.json:
        print_json(describe_result(wish.name, image, folder, recipe, found, plan))
    else:
        print_result(wish.name, image, folder, found, plan)
    return 0


def _tell_rest(wish: Wish, folder: Path, recipe: Path) -> None:
    there = [image_folder.show_path(path) for path in (folder, recipe) if path.is_dir()]
    made = f"So far there is {' and '.join(there)}. " if there else ""
    say(f"{made}This goes on from there: {write_again(wish)}")
