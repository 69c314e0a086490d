"""The questions of `ds01 image create`: from what, with what, and whether to build, in three phases.

What the command line says already is not asked. Nothing is made before the last answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import RequestRefused
from ...model import NO_USE_CASE
from ..questions import Choice, Interview, Items, Text, YesNo
from . import folder, tutor
from .parts import Bases
from .recipe import (
    Defaults,
    Owner,
    Recipe,
    read_name,
    read_packages,
    read_requirements,
    read_system_packages,
)

PHASES = 3
_OTHER = "other"
_USUAL_USE_CASE = "ml"  # what DS01's wizard takes at Enter
_SHOWN_VERSIONS = 5
_USE_CASES = {
    NO_USE_CASE: "none of these",
    "ml": "ml, general machine learning",
    "cv": "cv, computer vision",
    "nlp": "nlp, language",
    "rl": "rl, reinforcement learning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What she asked for so far; None is not answered yet. `base` is the name of an image."""

    name: str | None = None
    base: str | None = None
    has_base_packages: bool | None = None
    use_case: str | None = None
    packages: tuple[str, ...] | None = None
    requirements: tuple[str, ...] | None = None
    system_packages: tuple[str, ...] | None = None


def make_recipe(wish: Wish, defaults: Defaults) -> Recipe:
    """Return the recipe of a wish with name and base; what she left open is as in the browser's form."""
    assert wish.name is not None
    assert wish.base is not None
    has_base = wish.has_base_packages is not False
    use_case = wish.use_case or NO_USE_CASE
    return Recipe(
        name=wish.name,
        base=wish.base,
        base_packages=defaults.base_packages if has_base else (),
        base_system_packages=defaults.base_system_packages if has_base else (),
        use_case=use_case,
        use_case_packages=defaults.use_cases.get(use_case, ()),
        packages=wish.packages or (),
        requirements=wish.requirements or (),
        system_packages=wish.system_packages or (),
    )


class Wizard:
    """Asks for what a wish leaves open; `check_free` refuses a name that is taken."""

    def __init__(
        self,
        *,
        interview: Interview,
        owner: Owner,
        bases: Bases,
        defaults: Defaults,
        check_free: Callable[[str], None],
    ) -> None:
        self._interview = interview
        self._owner = owner
        self._bases = bases
        self._defaults = defaults
        self._check_free = check_free

    def complete(self, wish: Wish) -> Wish:
        """Return the wish with everything answered: phases 1 and 2."""
        self._interview.begin("Create an image", tutor.IMAGE)
        self._begin(1, "Where to start", tutor.LAYERS)
        if wish.name is None:
            wish = replace(wish, name=self._interview.ask(self._name()))
        if wish.base is None:
            wish = replace(wish, base=self._ask_base())
        self._interview.tell(f"Base image: {wish.base}")
        self._begin(2, "What to add", tutor.PACKAGES)
        return self._ask_packages(wish)

    def confirm(self, recipe: Recipe, *, asks: bool) -> bool:
        """Show what would be made and return whether to build it now, which is asked if `asks`: phase 3."""
        self._begin(3, "Build", tutor.BUILD)
        self._interview.tell("")
        for what, value in self._describe(recipe):
            self._interview.tell(f"  {what}: {value}")
        return asks and self._interview.ask(YesNo(prompt="Build the image now?", default=True))

    def _begin(self, phase: int, title: str, explanation: str) -> None:
        self._interview.begin(f"Phase {phase}/{PHASES}: {title}", explanation)

    def _name(self) -> Text[str]:
        def parse(text: str) -> str:
            if not text:
                raise RequestRefused("An image needs a name, such as my-project.")
            name = read_name(text, self._owner)
            self._check_free(name)
            return name

        return Text(prompt="What is the image called?", hint="Such as my-project or thesis-cv.", parse=parse)

    def _ask_base(self) -> str:
        """Return the base image: of a framework and a version, or any other."""
        from ...image import check_reference

        offered = self._bases.frameworks
        options = {
            name: (name, f"newest: {versions[0]}" if versions else "") for name, versions in offered.items()
        }
        framework = self._interview.ask(
            Choice(
                prompt="Which framework?",
                options={**options, _OTHER: ("Another image", "for advanced use")},
                default=next(iter(options), _OTHER),
                explanation=tutor.FRAMEWORK,
            )
        )
        if framework == _OTHER:
            other = Text(
                prompt="Which image?",
                hint="Such as ubuntu:24.04. It needs bash, and a Python with pip.",
                parse=check_reference,
                explanation=tutor.OTHER_BASE,
            )
            return self._interview.ask(other)
        versions = offered[framework]
        if len(versions) < 2:
            return self._bases.find(framework).image
        return self._bases.find(framework, self._interview.ask(_version(framework, versions))).image

    def _ask_packages(self, wish: Wish) -> Wish:
        defaults, ask = self._defaults, self._interview.ask
        if wish.has_base_packages is None and defaults.base_packages:
            listed = ", ".join(defaults.base_packages)
            prompt = f"Install the base packages? ({listed})"
            answer = ask(YesNo(prompt=prompt, default=True, explanation=tutor.BASE_PACKAGES))
            wish = replace(wish, has_base_packages=answer)
        if wish.use_case is None:
            wish = replace(wish, use_case=ask(make_use_case_choice(defaults)))
        if wish.packages is None:
            wish = replace(wish, packages=ask(make_packages_question()))
        if wish.requirements is None:
            wish = replace(wish, requirements=ask(_requirements()))
        if wish.system_packages is None:
            system = Items(
                prompt="Which system packages (apt)?",
                example="ffmpeg libgl1",
                parse=read_system_packages,
                explanation=tutor.SYSTEM_PACKAGES,
            )
            wish = replace(wish, system_packages=ask(system))
        return wish

    def _describe(self, recipe: Recipe) -> list[tuple[str, str]]:
        """Return what would be made, layer by layer."""
        rows = [
            ("Image", self._owner.image(recipe.name)),
            ("Base image", recipe.base),
            ("Notebook server", "JupyterLab"),
            ("Base system packages", ", ".join(recipe.base_system_packages)),
            ("Base packages", ", ".join(recipe.base_packages)),
            (f"Use case {recipe.use_case}", ", ".join(recipe.use_case_packages)),
            ("Your system packages", ", ".join(recipe.system_packages)),
            ("Your packages", ", ".join(recipe.packages)),
            ("Your requirements file", ", ".join(recipe.requirements)),
            ("Files", folder.show_path(folder.find(self._owner, recipe.name))),
        ]
        return [(what, value) for what, value in rows if value]


def make_use_case_choice(defaults: Defaults) -> Choice:
    """Return the question for a use case of the site's."""
    use_cases = defaults.use_cases
    return Choice(
        prompt="What is it for?",
        options={name: (_USE_CASES.get(name, name), ", ".join(found)) for name, found in use_cases.items()},
        default=_USUAL_USE_CASE if _USUAL_USE_CASE in use_cases else NO_USE_CASE,
        explanation=tutor.USE_CASE,
    )


def make_packages_question() -> Items:
    """Return the question for packages of her own."""
    return Items(
        prompt="Which other Python packages?",
        example="wandb torch>=2.1",
        parse=read_packages,
        explanation=tutor.OWN_PACKAGES,
    )


def _version(framework: str, versions: tuple[str, ...]) -> Text[str]:
    def parse(text: str) -> str:
        if not any(version == text or version.startswith((f"{text}.", f"{text}-")) for version in versions):
            raise RequestRefused(f"There is no {framework} {text[:40]!r}, only {', '.join(versions)}.")
        return text

    listed = ", ".join(versions[:_SHOWN_VERSIONS])
    more = f" and {len(versions) - _SHOWN_VERSIONS} older" if len(versions) > _SHOWN_VERSIONS else ""
    return Text(
        prompt="Which version?",
        hint=f"There are {listed}{more}.",
        default=versions[0],
        parse=parse,
        explanation=tutor.VERSION,
    )


def _requirements() -> Text[tuple[str, ...]]:
    return Text(
        prompt="A requirements.txt to install?",
        hint="Its path, such as ~/workspace/my-project/requirements.txt; Enter for none.",
        parse=lambda text: read_requirements(Path(text)) if text else (),
        explanation=tutor.REQUIREMENTS,
    )
