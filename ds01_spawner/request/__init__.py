"""From what an admin offers and a student asks to one `ServerRequest`: the path of form and REST alike.

    profile = find_profile(visible_profiles(parse_profiles(profile_list), groups), options.profile)
    overrides_for(profile, options)          what to set on the traits
    build_request(options, profile, defaults)

`parse_options` refuses whatever is not written as `UserOptions` says, stored options as well as new
ones. All checks here are on the values alone: whether the catalog has the framework, a directory is
hers to mount, or her limits suffice, is decided by those who know. Refusals are `RequestRefused`;
an admin's mistake is `ConfigBroken`.
"""

from __future__ import annotations

from ..model import ServerDefaults
from .build import build_request
from .options import Unlisted, UserOptions, parse_options
from .profiles import find_profile, overrides_for, parse_profiles, visible_profiles
from .starts import IMAGE_SETTINGS, starts_of

__all__ = [
    "IMAGE_SETTINGS",
    "ServerDefaults",
    "Unlisted",
    "UserOptions",
    "build_request",
    "find_profile",
    "overrides_for",
    "parse_options",
    "parse_profiles",
    "starts_of",
    "visible_profiles",
]
