"""What there is of a project, what is wished for, and the steps from the one to the other; all on values."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ...model import NO_GPU

README, REQUIREMENTS, DOCKERFILE = "README.md", "requirements.txt", "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What she asked for so far; None is not answered yet.

    `gpu` is `1g.10gb`, `full:2` or `none`, and "" for as the profile has it; so is an empty `profile` the
    default one, and an empty `version` the newest.
    """

    name: str | None = None
    framework: str | None = None
    version: str = ""
    use_case: str | None = None
    packages: tuple[str, ...] | None = None
    gpu: str | None = None
    profile: str = ""
    has_image: bool = True
    has_container: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of a project.

    `files` are those of ~/workspace/NAME that belong to every project, `recipe` is ~/dockerfiles/NAME,
    `image` the image that was built from it, `container` the state of the container, "" for none.
    """

    files: frozenset[str] = frozenset()
    recipe: bool = False
    image: bool = False
    container: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The files that are written, and the arguments of `ds01` for image and container, empty for no step.

    `has_image` says whether there will be an image for the container.
    """

    files: tuple[str, ...]
    image: tuple[str, ...]
    container: tuple[str, ...]
    has_image: bool

    @property
    def is_empty(self) -> bool:
        """Whether all is there already."""
        return not (self.files or self.image or self.container)


def builds(wish: Wish, *, can_build: bool) -> bool:
    """Say whether an image is built; without, only the files of its build are written."""
    return wish.has_image and can_build


def needs_framework(wish: Wish, found: Found, *, can_build: bool) -> bool:
    """Say whether a step asks for a framework: the recipe, or a container without an image of hers."""
    makes_container = wish.has_container and not found.container
    has_image = found.image or builds(wish, can_build=can_build)
    return not (found.recipe or found.image) or (makes_container and not has_image)


def make_plan(
    wish: Wish, found: Found, *, can_build: bool, requirements: str, settings: Sequence[str] = ()
) -> Plan:
    """Return the steps that are left; `requirements` is the path of the project's requirements.txt.

    `settings` are arguments of `ds01 image create` that say where it reads.
    """
    assert wish.name is not None
    built = builds(wish, can_build=can_build)
    image: tuple[str, ...] = ()
    if not found.recipe and not found.image:
        image = _create_image(wish, found, requirements)
        image += (*settings, *(() if built else ("--no-build",)))
    elif not found.image and built:
        image = ("image", "update", wish.name)
    has_image = found.image or built
    return Plan(
        files=tuple(name for name in (README, REQUIREMENTS) if name not in found.files),
        image=image,
        container=_create_container(wish, has_image=has_image)
        if wish.has_container and not found.container
        else (),
        has_image=has_image,
    )


def _create_image(wish: Wish, found: Found, requirements: str) -> tuple[str, ...]:
    assert wish.name is not None
    words = ["image", "create", wish.name, *_name_framework(wish)]
    if wish.use_case:
        words += ["-t", wish.use_case]
    # A new requirements.txt begins with her packages; one that is there already is left as it is.
    if wish.packages and REQUIREMENTS in found.files:
        words += ["-p", " ".join(wish.packages)]
    return (*words, "-r", requirements)


def _create_container(wish: Wish, *, has_image: bool) -> tuple[str, ...]:
    assert wish.name is not None
    words = ["container", "create", wish.name]
    if not has_image and wish.framework:
        words += [wish.framework, *([wish.version] if wish.version else [])]
    if wish.profile:
        words += ["--profile", wish.profile]
    return (*words, *_name_gpu(wish))


def _name_framework(wish: Wish) -> list[str]:
    words = ["-f", wish.framework] if wish.framework else []
    return [*words, "-V", wish.version] if wish.version else words


def _name_gpu(wish: Wish) -> list[str]:
    if wish.gpu == NO_GPU:
        return ["--cpu-only"]
    return ["--gpu", wish.gpu] if wish.gpu else []


def write_again(wish: Wish) -> str:
    """Return the command that goes on with this wish, as it is typed."""
    words = ["ds01", "project", "init", wish.name or "", *_name_framework(wish)]
    if wish.use_case:
        words += ["-t", wish.use_case]
    if wish.packages:
        words += ["-p", " ".join(wish.packages)]
    if wish.profile:
        words += ["--profile", wish.profile]
    words += _name_gpu(wish)
    words += [] if wish.has_image else ["--no-image"]
    words += [] if wish.has_container else ["--no-container"]
    return shlex.join(words)
