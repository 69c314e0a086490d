"""The questions of `ds01 project init`, in three phases; nothing is made before the last answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ... import mlc
from ...errors import RequestRefused
from ..container import tutor as container_tutor
from ..container.wizard import AS_PROFILE, make_gpu_choice
from ..image import tutor as image_tutor
from ..image.recipe import Defaults, Owner, read_name
from ..image.wizard import make_packages_question, make_use_case_choice
from ..questions import Choice, Interview, Text, YesNo
from . import tutor
from .plan import Found, Wish, needs_framework

PHASES = 3


def read_project_name(text: str, owner: Owner) -> str:
    """Return the name of a project: one that a container and an image can have.

    Raises:
        RequestRefused: it is none.
    """
    if not text:
        raise RequestRefused("A project needs a name, such as my-thesis.")
    if not mlc.is_project_name(text) or read_name(text, owner) != text:
        raise RequestRefused(
            f"{text[:60]!r} cannot be the name of a project. Take up to 30 small letters, digits and "
            "hyphens, with a letter first, such as my-thesis."
        )
    return text


class Wizard:
    """Asks for what a wish leaves open; `look` returns what there is of a project."""

    def __init__(
        self,
        *,
        interview: Interview,
        owner: Owner,
        defaults: Defaults,
        look: Callable[[str], Found],
        can_build: bool,
    ) -> None:
        self._interview = interview
        self._owner = owner
        self._defaults = defaults
        self._look = look
        self._can_build = can_build

    def complete(
        self,
        wish: Wish,
        frameworks: Callable[[], Mapping[str, tuple[str, ...]]],
        selection: Mapping[str, Any] | None,
    ) -> tuple[Wish, Found]:
        """Return the wish with everything answered, and what there is already: phases 1 and 2.

        `selection` is what the service offers, None where no container is wished for.
        """
        ask = self._interview.ask
        self._interview.begin("Begin a project", tutor.PROJECT)
        self._begin(1, "Name", "")
        name = wish.name or ask(self._name())
        wish, found = replace(wish, name=name), self._look(name)
        self._begin(2, "What you work with", tutor.CONTENTS)
        if wish.framework is None and needs_framework(wish, found, can_build=self._can_build):
            wish = replace(wish, framework=ask(_framework(frameworks())))
        if not found.recipe and not found.image:
            if wish.use_case is None:
                wish = replace(wish, use_case=ask(make_use_case_choice(self._defaults)))
            if wish.packages is None:
                wish = replace(wish, packages=ask(make_packages_question()))
        if wish.gpu is None and selection is not None and not found.container:
            self._interview.explain(container_tutor.GPU)
            if selection["gpu_problem"]:
                self._interview.tell(selection["gpu_problem"])
            gpu = ask(make_gpu_choice(selection))
            wish = replace(wish, gpu="" if gpu == AS_PROFILE else gpu)
        return wish, found

    def confirm(self, lines: Sequence[str]) -> bool:
        """Show what would be made, and return whether to make it: phase 3."""
        self._begin(3, "Make it", tutor.MAKE)
        self._interview.tell("")
        for line in lines:
            self._interview.tell(f"  {line}")
        return self._interview.ask(YesNo(prompt="Make it now?", default=True))

    def _begin(self, phase: int, title: str, explanation: str) -> None:
        self._interview.begin(f"Phase {phase}/{PHASES}: {title}", explanation)

    def _name(self) -> Text[str]:
        def parse(text: str) -> str:
            name = read_project_name(text, self._owner)
            # What is in the way is said while another name can be taken.
            self._look(name)
            return name

        return Text(
            prompt="What is the project called?",
            hint="Such as my-thesis or course-ml.",
            parse=parse,
            explanation=tutor.NAME,
        )


def _framework(offered: Mapping[str, tuple[str, ...]]) -> Choice:
    if not offered:
        raise RequestRefused("The catalog has no framework for this machine. Ask your admin.")
    options = {name: (name, f"newest: {found[0]}" if found else "") for name, found in offered.items()}
    return Choice(
        prompt="Which framework?",
        options=options,
        default=next(iter(options)),
        explanation=image_tutor.FRAMEWORK,
    )
