"""What the site's profiles start, read from the Hub's settings where no Hub runs.

Whoever keeps, removes or builds images beforehand has to know which ones profiles need. What only a Hub can
know is said, never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from jupyterhub.spawner import Spawner
from jupyterhub.traitlets import EntryPointType
from traitlets.config import Config

from .. import request
from ..core.stock import Start, Starts
from ..errors import ConfigBroken, DS01Error
from ..model import Profile
from ..site import DS01
from .server import DS01Spawner

MOST_STARTS = 64
"""For so many different images of one profile it is known that it needs them."""
_SPAWNER_CLASS = EntryPointType(Spawner, klass=Spawner, entry_point_group="jupyterhub.spawners")


def find_starts(site: DS01) -> Starts:
    """Return what each profile starts, for each combination of choices that may need another image.

    Profiles for some groups only count as well. Without profiles it is what a start without options gets.
    Texts that a student may type are left out.
    """
    try:
        settings = _open_settings(site.config)
        profiles = _read_profiles(settings)
    except DS01Error as exc:
        return Starts(problems=(str(exc),))
    starts, problems = list[Start](), list(_find_overrides(settings))
    for profile in profiles or (None,):
        about = f"Profile {profile.slug}: " if profile else ""
        options = tuple(islice(_list_options(profile), MOST_STARTS + 1))
        if len(options) > MOST_STARTS:
            problems.append(f"{about}its choices ask for more than {MOST_STARTS} different images.")
        for chosen in options[:MOST_STARTS]:
            try:
                starts.append(_make_start(site, profile, chosen))
            except DS01Error as exc:
                problems.append(f"{about}{exc.detail or exc}")
    return Starts(starts=tuple(starts), problems=tuple(dict.fromkeys(problems)))


def find_start(site: DS01, slug: str, choices: Mapping[str, str]) -> Start:
    """Return what the profile `slug` starts with these choices of its options, the default ones for others.

    What is none of an option's choices is taken as its free text, where it has one.

    Raises:
        RequestRefused: there is no such profile, option or choice.
        ConfigBroken: only the Hub knows the profiles, or this one cannot be used.
    """
    profiles = _read_profiles(_open_settings(site.config))
    everybody = {group for profile in profiles for group in profile.groups}
    profile = request.find_profile(profiles, slug, everybody)
    free = {
        option.slug: {choice.slug for choice in option.choices}
        for option in (profile.options if profile else ())
        if option.allows_unlisted
    }
    chosen = {
        name: {"unlisted": value} if name in free and value not in free[name] else value
        for name, value in choices.items()
    }
    return _make_start(site, profile, request.parse_options({"profile": slug, "profile_options": chosen}))


def find_profiles(site: DS01, groups: Collection[str]) -> tuple[Profile, ...]:
    """Return the profiles that somebody of these groups of the Hub may choose; none where only it knows them.

    Raises:
        ConfigBroken: they cannot be used.
    """
    settings = _open_settings(site.config)
    if callable(settings.profile_list):
        return ()
    return request.visible_profiles(_read_profiles(settings), groups)


def find_wished(site: DS01, options: Mapping[str, object], groups: Collection[str]) -> Start:
    """Return what `user_options` start for somebody of these groups of the Hub.

    Raises:
        RequestRefused: they cannot be meant.
        ConfigBroken: only the Hub knows the profiles, or this one cannot be used.
    """
    chosen = request.parse_options(options)
    profiles = _read_profiles(_open_settings(site.config))
    return _make_start(site, request.find_profile(profiles, chosen.profile, groups), chosen)


def _list_options(profile: Profile | None) -> Iterable[request.UserOptions]:
    return (request.UserOptions(),) if profile is None else request.starts_of(profile)


def _make_start(site: DS01, profile: Profile | None, chosen: request.UserOptions) -> Start:
    settings = _open_settings(site.config)
    settings.set_all(request.overrides_for(profile, chosen))
    asked = request.build_request(chosen, profile, settings.defaults(site.use_cases))
    return Start(profile=asked.profile, request=asked)


def _open_settings(config: Config) -> DS01Spawner:
    """Return a spawner of nobody, with the settings that each server has before its profile.

    Raises:
        ConfigBroken: the settings cannot be used, or the Hub's spawner is not ours.
    """
    try:
        named = config.JupyterHub.get("spawner_class", DS01Spawner)
        spawner_class: type[Spawner] = _SPAWNER_CLASS.validate(None, named)
        if issubclass(spawner_class, DS01Spawner):
            settings: DS01Spawner = spawner_class(config=config)
            return settings
    # A class of the admin's own may raise anything.
    except Exception as exc:
        raise ConfigBroken(
            f"The settings of servers cannot be read without the Hub ({type(exc).__name__}: {exc})."
        ) from exc
    raise ConfigBroken(
        f"The Hub starts servers with {spawner_class.__name__}, which is not DS01 Spawner, so nobody knows "
        "what they need."
    )


def _read_profiles(settings: DS01Spawner) -> tuple[Profile, ...]:
    if callable(settings.profile_list):
        raise ConfigBroken(
            "`profile_list` is a function that asks for the user's server, so what profiles need is known to "
            "the Hub alone."
        )
    return request.parse_profiles(settings.profile_list)


def _find_overrides(settings: DS01Spawner) -> Iterable[str]:
    """Yield how groups of the Hub change the images of their members, which profiles do not tell."""
    overrides = settings.group_overrides
    if callable(overrides):
        yield "`group_overrides` is a function, so what it changes is known to the Hub alone."
        return
    for name, override in overrides.items():
        changed = sorted({*request.IMAGE_SETTINGS, "profile_list"} & override["spawner_override"].keys())
        if changed:
            yield f"`group_overrides` changes {', '.join(changed)} in {name}, so more images may be needed."
