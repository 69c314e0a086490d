"""Which different images the choices of a profile can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from ..model import Profile, ProfileOption
from .options import UserOptions

IMAGE_SETTINGS = ("framework", "framework_version", "base_image", "use_case", "packages", "system_packages")
"""The settings of a server that decide its image."""


def starts_of(profile: Profile) -> Iterator[UserOptions]:
    """Yield options with which a profile is started, each combination of choices that may need another image.

    What its default choices make comes first. Texts that a student types are left out: nobody knows them.
    """
    picks = [_list_choices(option) for option in profile.options if option.choices]
    for chosen in product(*picks):
        yield UserOptions(profile=profile.slug, profile_options=dict(chosen))


def _list_choices(option: ProfileOption) -> list[tuple[str, str]]:
    """Return (option, choice) of those choices that differ in what they set of the image."""
    found: dict[str, tuple[str, str]] = {}
    for choice in sorted(option.choices, key=lambda one: not one.default):
        sets = {name: choice.override[name] for name in IMAGE_SETTINGS if name in choice.override}
        found.setdefault(repr(sets), (option.slug, choice.slug))
    return list(found.values())
