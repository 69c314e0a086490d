"""What an image of one's own is called and made of: names, lists of packages, and the files of its build.

It goes through the rules that the Hub's images go through, one renderer for both, so that their layers are
the same where their packages are. Nothing here asks Docker or reads a file.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ... import mlc
from ...errors import RequestRefused
from ...model import NO_USE_CASE, ImageSpec
from ...packages import check_system_packages, normalise_requirements, parse_requirements_file

if TYPE_CHECKING:
    from ...image import BaseProbe
    from ...site import DS01

DOCKERFILE = "Dockerfile"
LISTS: Mapping[str, str] = MappingProxyType(
    {
        "base-system.txt": "base_system_packages",
        "base.txt": "base_packages",
        "use-case.txt": "use_case_packages",
        "system.txt": "system_packages",
        "packages.txt": "packages",
        "requirements.txt": "requirements",
    }
)
"""The files of the build that hold lists, each with the field of `Recipe` that it is."""

LONGEST_NAME = 60
# What Docker takes as the name of an image.
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_CUSTOM = "custom"  # DS01's word for a use case without packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose image it is; `folder` holds a folder for each of her images."""

    login: str
    uid: int
    folder: Path

    def image(self, name: str) -> str:
        """Return the image's name as Docker has it, `NAME-USER-image`."""
        return mlc.own_image_name(name, self.login)

    def owns(self, labels: Mapping[str, str]) -> bool:
        """Say whether an image with these labels was made by her."""
        made_by = (labels.get(mlc.MAINTAINER_LABEL), labels.get(mlc.MAINTAINER_ID_LABEL))
        return made_by == (self.login, str(self.uid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into an image; packages are normalised, as the rules leave them."""

    name: str
    base: str
    use_case: str = NO_USE_CASE
    base_system_packages: tuple[str, ...] = ()
    base_packages: tuple[str, ...] = ()
    use_case_packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the site gives every image, and its use cases; from the Hub's settings where they can be read."""

    use_cases: Mapping[str, tuple[str, ...]]
    base_packages: tuple[str, ...]
    base_system_packages: tuple[str, ...]
    runtime_image: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def find_owner() -> Owner:
    """Return who runs this."""
    uid = os.getuid()
    try:
        login = pwd.getpwuid(uid).pw_name
    except KeyError:
        login = str(uid)
    return Owner(login=login, uid=uid, folder=Path.home() / "dockerfiles")


def read_defaults(site: DS01 | None) -> Defaults:
    """Return what the Hub's settings say, or what they say where nobody changes them."""
    from ... import image

    if site is None:
        return Defaults(
            use_cases=image.DEFAULT_USE_CASES,
            base_packages=image.DEFAULT_BASE_PACKAGES,
            base_system_packages=image.DEFAULT_BASE_SYSTEM_PACKAGES,
        )
    return Defaults(
        use_cases={NO_USE_CASE: (), **{name: tuple(items) for name, items in site.use_cases.items()}},
        base_packages=tuple(site.base_packages),
        base_system_packages=tuple(site.base_system_packages),
        runtime_image=site.runtime_image,
        labels=tuple(site.image_labels.items()),
    )


def read_name(text: str, owner: Owner) -> str:
    """Return the short name of an image, from that or from `NAME-USER-image`; blanks become hyphens.

    Raises:
        RequestRefused: no image can be called so.
    """
    name = re.sub(r"\s+", "-", text.strip().lower()).removesuffix(owner.image(""))
    if len(name) > LONGEST_NAME or _NAME.fullmatch(name) is None:
        raise RequestRefused(
            f"{text[:60]!r} cannot be the name of an image. Take small letters, digits and hyphens, such as "
            f"my-project, {LONGEST_NAME} at most."
        )
    return name


def read_use_case(text: str, defaults: Defaults) -> str:
    """Return the use case of that name, in whichever case it is written.

    Raises:
        RequestRefused: there is none.
    """
    known = {name.casefold(): name for name in defaults.use_cases}
    found = known.get(text.casefold(), NO_USE_CASE if text.casefold() == _CUSTOM else None)
    if found is None:
        raise RequestRefused(f"There is no use case {text[:40]!r}. Take one of {', '.join(known.values())}.")
    return found


def read_packages(text: str) -> tuple[str, ...]:
    """Return the Python packages typed into `text`, split as the form in the browser does.

    Raises:
        RequestRefused: one of them is no package.
    """
    from ...form.reading import split_packages

    return normalise_requirements(split_packages(text))


def read_system_packages(text: str) -> tuple[str, ...]:
    """Return the system packages typed into `text`, with blanks or commas between.

    Raises:
        RequestRefused: one of them is no package.
    """
    return check_system_packages(text.replace(",", " ").split())


def read_requirements(path: Path) -> tuple[str, ...]:
    """Return what a requirements file asks for.

    Raises:
        RequestRefused: it cannot be read, or a line of it asks for no package.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, RuntimeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise RequestRefused(
            f"The requirements file {path} cannot be read ({why}). Name another one."
        ) from exc
    return parse_requirements_file(text)


def read_list(file: str, text: str) -> tuple[str, ...]:
    """Return the packages of one of `LISTS`, comments and all.

    Raises:
        RequestRefused: a line of it is no package; names the file.
    """
    try:
        if LISTS[file].endswith("system_packages"):
            return check_system_packages(re.sub(r"#.*", "", text).split())
        return parse_requirements_file(text)
    except RequestRefused as exc:
        sentence = exc.message.replace(" of the requirements file", "", 1)
        raise RequestRefused(f"{file}: {sentence}", detail=exc.detail) from exc


def make_spec(recipe: Recipe, owner: Owner, defaults: Defaults, *, base_id: str = "") -> ImageSpec:
    """Return everything that goes into the image, as the renderer takes it."""
    lists = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "name"}
    return ImageSpec(
        **lists,
        base_id=base_id,
        hub_version=version("jupyterhub"),
        runtime_image=defaults.runtime_image,
        labels=(*defaults.labels, *make_labels(recipe.name, recipe.base, owner)),
    )


def make_labels(name: str, base: str, owner: Owner) -> tuple[tuple[str, str], ...]:
    """Return the labels by which the image is known as hers."""
    return mlc.image_labels(
        base=base, maintainer=owner.login, maintainer_id=str(owner.uid), custom_image=owner.image(name)
    )


def render_files(spec: ImageSpec, probe: BaseProbe) -> dict[str, str]:
    """Return the Dockerfile and the other files of the build, by name.

    Raises:
        ImageFailed: the base will not do.
    """
    from ... import image
    from ...templating import read_dockerfile

    dockerfile = image.render_dockerfile(spec, probe, read_dockerfile("Dockerfile.j2"))
    files = image.context_files(spec, probe)
    return {DOCKERFILE: dockerfile, **{name: content.decode() for name, content in files.items()}}
