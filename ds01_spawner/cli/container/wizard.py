"""The wizard of `ds01 container create`: three phases, and nothing is made before the last answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import mlc
from ...adapters.local_service import LocalService, name_path
from ...errors import NoContainer, RequestRefused
from ...model import NO_GPU
from ..questions import Choice, Interview, Text, YesNo
from . import tutor

PHASES = 3
AS_PROFILE = "profile"
"""The answer that leaves the choice to the profile."""
_OTHER = "image"
_SHOWN_VERSIONS = 5


class Wizard:
    """Asks for what a command line leaves open."""

    def __init__(self, interview: Interview, service: LocalService, query: Mapping[str, str]) -> None:
        self._interview = interview
        self._service = service
        self._query = query

    def complete(self, name: str, wanted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return NAME and options with everything answered: phases 1 and 2."""
        found = self._service.get("selection", self._query)
        self._interview.begin("Create a container", tutor.CONTAINER)
        for notice in found["notices"]:
            self._interview.tell(notice)
        self._begin(1, "What runs in it", tutor.CONTENTS)
        name = name or self._interview.ask(self._name())
        answered = dict(wanted)
        if "profile" not in wanted and len(found["profiles"]) > 1:
            answered["profile"] = self._interview.ask(_profile(found["profiles"]))
        if not wanted.keys() & {"framework", "base_image"}:
            answered |= self._ask_contents(found["frameworks"], found["images"].get(name, ""))
        self._begin(2, "GPU", tutor.GPU)
        if "gpu_profile" not in wanted:
            answered |= self._ask_gpu(found)
        return name, answered

    def confirm(self, found: Mapping[str, Any], *, asks: bool) -> bool:
        """Show what would come of it and return whether to start it now, which is asked if `asks`: phase 3.

        Raises:
            RequestRefused: it would be refused.
        """
        from .create import describe_check

        self._begin(3, "Start", tutor.START)
        if found["problem"]:
            raise RequestRefused(found["problem"])
        self._interview.tell(describe_check(found))
        return asks and self._interview.ask(YesNo(prompt="Make and start it now?", default=True))

    def _begin(self, phase: int, title: str, explanation: str) -> None:
        self._interview.begin(f"Phase {phase}/{PHASES}: {title}", explanation)

    def _name(self) -> Text[str]:
        def parse(text: str) -> str:
            if not text:
                raise RequestRefused("A container needs a name, such as my-thesis.")
            if mlc.project_name(text) != text:
                raise RequestRefused(
                    "Take up to 30 small letters, digits and hyphens, with a letter first, such as my-thesis."
                )
            try:
                taken = self._service.get(name_path(text), self._query)
            except NoContainer:
                return text
            raise RequestRefused(
                f"You have a container {text} already; it is {taken['state']}. Take another name."
            )

        return Text(
            prompt="What is the container called?", hint="Such as my-thesis or course-ml.", parse=parse
        )

    def _ask_contents(self, frameworks: list[dict[str, Any]], own: str) -> dict[str, Any]:
        """Return the framework, or the image in place of one; nothing where the profile's shall be taken."""
        known = {one["name"]: tuple(one["versions"]) for one in frameworks}
        options = {own: (f"your image {own}", "")} if own else {}
        options |= {AS_PROFILE: ("as the profile has it", "")}
        options |= {name: (name, f"newest: {found[0]}" if found else "") for name, found in known.items()}
        options[_OTHER] = ("an image", "such as one of `ds01 image list`")
        chosen = self._interview.ask(
            Choice(
                prompt="Which framework?",
                options=options,
                default=own or AS_PROFILE,
                explanation=tutor.FRAMEWORK,
            )
        )
        if chosen == AS_PROFILE:
            return {}
        if chosen == own:
            return {"base_image": own}
        if chosen == _OTHER:
            image = Text(prompt="Which image?", hint="Such as my-project-ada-image.", parse=_read_image)
            return {"base_image": self._interview.ask(image)}
        versions = known[chosen]
        if len(versions) < 2:
            return {"framework": chosen}
        version = self._interview.ask(_version(chosen, versions))
        return {"framework": chosen, "framework_version": version}

    def _ask_gpu(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the GPU profile; nothing where the profile's shall be taken."""
        if found["gpu_problem"]:
            self._interview.tell(found["gpu_problem"])
        chosen = self._interview.ask(make_gpu_choice(found))
        return {} if chosen == AS_PROFILE else {"gpu_profile": chosen}


def make_gpu_choice(found: Mapping[str, Any]) -> Choice:
    """Return the question for a GPU from what the service offers; its answer is a profile of GPUs."""
    options = {AS_PROFILE: ("as the profile has it", ""), NO_GPU: ("no GPU", "starts at once")}
    options |= {one["profile"]: (one["label"], "") for one in found["slots"]}
    return Choice(prompt="Which GPU?", options=options, default=AS_PROFILE, explanation=tutor.SLICES)


def _profile(profiles: list[dict[str, Any]]) -> Choice:
    return Choice(
        prompt="Which profile?",
        options={one["slug"]: (one["name"], one["description"]) for one in profiles},
        default=next((one["slug"] for one in profiles if one["default"]), profiles[0]["slug"]),
        explanation=tutor.PROFILE,
    )


def _version(framework: str, versions: tuple[str, ...]) -> Text[str]:
    def parse(text: str) -> str:
        if not any(version == text or version.startswith((f"{text}.", f"{text}-")) for version in versions):
            raise RequestRefused(f"There is no {framework} {text[:40]!r}, only {', '.join(versions)}.")
        return text

    listed = ", ".join(versions[:_SHOWN_VERSIONS])
    more = f" and {len(versions) - _SHOWN_VERSIONS} older" if len(versions) > _SHOWN_VERSIONS else ""
    return Text(prompt="Which version?", hint=f"There are {listed}{more}.", default=versions[0], parse=parse)


def _read_image(text: str) -> str:
    if not text:
        raise RequestRefused("Name an image, such as my-project-ada-image.")
    return text
