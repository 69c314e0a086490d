"""Profiles: what an admin offers, who may see it, and which traits a choice overrides.

`profile_list` has KubeSpawner's shape, but for two keys: what a profile changes is in
`spawner_override`, and `groups` says who may see and use it. A description is text, not HTML.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import ConfigBroken, RequestRefused
from ..model import UNLISTED_CHOICE, Profile, ProfileChoice, ProfileOption
from .options import Unlisted, UserOptions
from .wording import describe, suggest

# No `--`, which separates profile and option in the names of the form's fields.
_SLUG = re.compile(r"[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*")
_VALUE = "{value}"
# What a student types becomes text; these are no text, or not hers to name.
_NOT_FOR_FREE_TEXT = frozenset(
    {"packages", "system_packages", "gpu_count", "home_dir", "privileged", "ulimits"}
    | {"allow_custom_base_image", "allow_mount_options", "allow_package_options", "allow_sudo"}
    | {"host_ipc", "host_network"}
)


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Choice(_Shape):
    display_name: str = ""
    default: bool = False
    spawner_override: dict[str, Any] = {}


class _UnlistedChoice(_Shape):
    enabled: bool = False
    display_name: str = "Other"
    display_name_in_choices: str = "Other…"
    validation_regex: str = ""
    validation_message: str = ""
    spawner_override: dict[str, str] = {}


class _Option(_Shape):
    display_name: str = ""
    choices: dict[str, _Choice] = {}
    unlisted_choice: _UnlistedChoice = _UnlistedChoice()


class _Profile(_Shape):
    display_name: Annotated[str, Field(min_length=1)]
    slug: str = ""
    description: str = ""
    default: bool = False
    groups: Annotated[tuple[str, ...], Field(strict=False)] = ()
    profile_options: dict[str, _Option] = {}
    spawner_override: dict[str, Any] = {}


_PROFILES = TypeAdapter(list[_Profile])
_KNOWN = {name for shape in (_Profile, _Option, _Choice, _UnlistedChoice) for name in shape.model_fields}


def parse_profiles(profile_list: object) -> tuple[Profile, ...]:
    """Return the profiles of an admin's `profile_list` (a list already, not the callable).

    A missing slug is made from the display name. `None` is an empty list.

    Raises:
        ConfigBroken: an unknown key, a wrong type, a bad or twice used slug, or a bad pattern.
    """
    try:
        shapes = _PROFILES.validate_python([] if profile_list is None else profile_list)
    except ValidationError as exc:
        raise ConfigBroken(_explain(exc), detail=str(exc)) from exc
    profiles = tuple(_read_profile(shape) for shape in shapes)
    twice = [slug for slug, count in Counter(profile.slug for profile in profiles).items() if count > 1]
    if twice:
        raise ConfigBroken(
            f"Two profiles in profile_list have the slug `{twice[0]}`: give one another `slug`."
        )
    return profiles


def visible_profiles(profiles: Iterable[Profile], groups: Collection[str]) -> tuple[Profile, ...]:
    """Return those of `profiles` that a member of `groups` may see and use, in their order."""
    return tuple(p for p in profiles if not p.groups or not set(p.groups).isdisjoint(groups))


def find_profile(profiles: Sequence[Profile], slug: str, groups: Collection[str]) -> Profile | None:
    """Return the profile `slug`, or her default one when `slug` is "".

    None only when the site has no profiles and none was asked for. A profile that is not hers reads
    like one that does not exist.

    Raises:
        RequestRefused: no such profile for her; lists the ones she may use.
    """
    hers = visible_profiles(profiles, groups)
    if not slug:
        if hers or not profiles:
            return next((p for p in hers if p.default), hers[0] if hers else None)
        raise RequestRefused("No profile is open to you: ask your admin to add you to a group that has one.")
    found = next((p for p in hers if p.slug == slug), None)
    if found is None:
        offer = ", ".join(f"`{p.slug}`" for p in hers) or "none; start without `profile`, or ask your admin"
        raise RequestRefused(
            f"There is no profile {describe(slug)} for you. You may use: {offer}.", field="profile"
        )
    return found


def overrides_for(profile: Profile | None, options: UserOptions) -> dict[str, object]:
    """Return the traits to override: the profile's, then those of each of its options, in order.

    An option that is not chosen counts with its default choice (the first, if none is marked).

    Raises:
        RequestRefused: an option or choice that the profile does not have, or a text that does not
            match its pattern.
    """
    offered = profile.options if profile else ()
    slugs = {option.slug for option in offered}
    unknown = next((slug for slug in options.profile_options if slug not in slugs), None)
    if unknown is not None:
        raise RequestRefused(f"This profile has no option {describe(unknown)}: {suggest(unknown, slugs)}")
    merged: dict[str, object] = dict(profile.override) if profile else {}
    for option in offered:
        merged.update(_override_of(option, options.profile_options.get(option.slug)))
    return merged


def _override_of(option: ProfileOption, chosen: str | Unlisted | None) -> Mapping[str, object]:
    if isinstance(chosen, Unlisted):
        return _fill(option, chosen.unlisted)
    if not chosen:
        default = next((c for c in option.choices if c.default), None)
        return default.override if default else option.choices[0].override if option.choices else {}
    found = next((c for c in option.choices if c.slug == chosen), None)
    if found is None:
        names = {c.slug for c in option.choices}
        message = f"`{option.slug}` has no choice {describe(chosen)}: {suggest(chosen, names)}"
        raise RequestRefused(message)
    return found.override


def _fill(option: ProfileOption, text: str) -> Mapping[str, object]:
    if not option.allows_unlisted:
        raise RequestRefused(f"`{option.slug}` takes no text of your own: take one of its choices.")
    matches = re.fullmatch(option.unlisted_pattern, text) if option.unlisted_pattern else text
    if not matches:
        hint = option.unlisted_message or "that does not have the form which your admin asks for."
        raise RequestRefused(f"{option.unlisted_display_name} ({describe(text)}): {hint}")
    # replace(), since format() would follow {value.__class__} and the like.
    return {trait: template.replace(_VALUE, text) for trait, template in option.unlisted_override.items()}


def _explain(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    path = ["profile_list", *(str(part) for part in first["loc"])]
    if first["type"] != "extra_forbidden":
        return f"{'.'.join(path)} is wrong ({first['msg']}): correct it in the Hub's config."
    where, key = ".".join(path[:-1]), path[-1]
    if key == "kubespawner_override":
        return f"{where} has `kubespawner_override`, which is called `spawner_override` here: rename it."
    return f"{where} has an unknown key {describe(key)}: {suggest(key, _KNOWN)}"


def _read_profile(shape: _Profile) -> Profile:
    slug = shape.slug or _slugify(shape.display_name)
    where = f"The profile {describe(shape.display_name)}"
    _check_slug(slug, where)
    return Profile(
        slug=slug,
        display_name=shape.display_name,
        description=shape.description,
        default=shape.default,
        groups=shape.groups,
        options=tuple(_read_option(key, option, where) for key, option in shape.profile_options.items()),
        override=_check_override(shape.spawner_override, where),
    )


def _read_option(slug: str, shape: _Option, where: str) -> ProfileOption:
    where = f"{where}, option {describe(slug)},"
    for name in (slug, *shape.choices):
        _check_slug(name, where)
    unlisted = shape.unlisted_choice
    if UNLISTED_CHOICE in shape.choices or not (shape.choices or unlisted.enabled):
        raise ConfigBroken(f"{where} needs a choice, none of them called `{UNLISTED_CHOICE}`.")
    choices = tuple(
        ProfileChoice(
            slug=key,
            display_name=choice.display_name or key,
            default=choice.default,
            override=_check_override(choice.spawner_override, where),
        )
        for key, choice in shape.choices.items()
    )
    option = ProfileOption(slug=slug, display_name=shape.display_name or slug, choices=choices)
    return _add_unlisted(option, unlisted, where) if unlisted.enabled else option


def _add_unlisted(option: ProfileOption, shape: _UnlistedChoice, where: str) -> ProfileOption:
    _check_override(shape.spawner_override, where)
    wrong = _NOT_FOR_FREE_TEXT & shape.spawner_override.keys()
    if wrong:
        raise ConfigBroken(f"{where} lets a free text set `{min(wrong)}`: offer choices for that instead.")
    try:
        re.compile(shape.validation_regex)
    except re.error as exc:
        raise ConfigBroken(f"{where} has a `validation_regex` that is no pattern: {exc}.") from exc
    return ProfileOption(
        slug=option.slug,
        display_name=option.display_name,
        choices=option.choices,
        unlisted_display_name=shape.display_name or "Other",
        unlisted_choice_name=shape.display_name_in_choices or "Other…",
        unlisted_pattern=shape.validation_regex,
        unlisted_message=shape.validation_message,
        unlisted_override=shape.spawner_override,
    )


def _check_slug(slug: str, where: str) -> None:
    if not _SLUG.fullmatch(slug):
        rule = "take letters and digits, joined by single `-`, `_` or `.`"
        raise ConfigBroken(f"{where} has the slug {describe(slug)}: {rule}.")


def _check_override(override: Mapping[str, object], where: str) -> Mapping[str, object]:
    wrong = next((key for key in override if not key.isidentifier()), None)
    if wrong is not None:
        raise ConfigBroken(
            f"{where} overrides {describe(wrong)}, which cannot be a trait's name: correct it."
        )
    return override


def _slugify(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
