"""`ds01 image list --all`: every image that was built on this machine, what it takes, and who needs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..sources import Sources, open_core
from ..tables import Block, Cell, print_json, print_table, show, show_size
from ..times import show_time, write_time
from .parts import say

if TYPE_CHECKING:
    from ...core.stock import ListedImage, OwnImage, ProfileImage, Starts, Stock

_HEADINGS = ("IMAGE", "SIZE", "SHARED", "USERS", "LAST USE", "NOTE", "NEEDED BY", "CONTENTS")
_MOST_USERS = 3


def list_all(options: argparse.Namespace, sources: Sources) -> None:
    """Print all images, and what profiles lack."""
    stock = open_core(sources).image_store.stock(read_starts(sources))
    if options.json:
        print_json(_as_json(stock))
        return
    if stock.images or stock.own:
        print_table(_HEADINGS, _list_images(stock))
        print()
    print(_sum_up(stock))
    offer = _offer(stock.profiles)
    if offer:
        print(show(offer))
    tell_problems(stock.problems)


def read_starts(sources: Sources) -> Starts:
    """Return what the site's profiles start, and what of it is not known."""
    # Imported here, since it brings all of JupyterHub.
    from ...spawner.starts import find_starts

    assert sources.site is not None
    return find_starts(sources.site)


def tell_problems(problems: Sequence[str]) -> None:
    """Say what of the profiles is not known."""
    for problem in problems:
        say(f"Not all that profiles need is known. {show(problem)}")


def short_name(name: str) -> str:
    """Return the name of an image as every verb takes it back, e.g. `0f3a99c1-27bd`."""
    from ...image import abbreviate

    return abbreviate(name)


def name_profiles(profiles: Sequence[str]) -> str:
    """Return profiles as a person reads them; the slug "" stands for a site without any."""
    return ", ".join(slug or "starts without a profile" for slug in profiles)


def state_of(wanted: ProfileImage) -> str:
    """Return `ready`, `older base` or `absent`."""
    if wanted.built is None:
        return "absent"
    return "older base" if wanted.built.is_outdated else "ready"


def _as_json(stock: Stock) -> dict[str, object]:
    return {
        "images": [_image_as_json(one) for one in stock.images],
        "own": [_own_as_json(one) for one in stock.own],
        "profiles": [
            {
                "profiles": list(one.profiles),
                "base": one.base.image,
                "image": one.built and one.built.tag,
                "state": state_of(one),
            }
            for one in stock.profiles
        ],
        "build_cache_bytes": stock.build_cache,
        "problems": list(stock.problems),
    }


def _image_as_json(one: ListedImage) -> dict[str, object]:
    stored = one.stored
    return {
        "name": stored.names[0],
        "id": stored.id,
        "base": one.base,
        "older_base": one.is_outdated,
        "contents": one.build.summary if one.build else "",
        "size_bytes": stored.size,
        "shared_bytes": stored.shared_size,
        "built_at": write_time(stored.made_at),
        "last_used_at": write_time(stored.last_used_at),
        "users": [{"user": use.user, "last_used_at": write_time(use.last_used_at)} for use in stored.uses],
        "containers": list(one.containers),
        "profiles": list(one.profiles),
    }


def _own_as_json(one: OwnImage) -> dict[str, object]:
    return {
        "name": one.name,
        "user": one.user,
        "base": one.base,
        "size_bytes": one.size,
        "shared_bytes": one.shared_size,
        "built_at": write_time(one.created_at),
        "containers": list(one.containers),
    }


def _list_images(stock: Stock) -> list[Block]:
    blocks: dict[str, list[Sequence[Cell]]] = {}
    for one in stock.images:
        title = f"On {one.base}" if one.base else "On a base that is not known"
        blocks.setdefault(title, []).append(_draw(one, stock.at))
    if stock.own:
        blocks["Made by people with ds01 image create"] = [_draw_own(one) for one in stock.own]
    return list(blocks.items())


def _draw(one: ListedImage, now: datetime) -> Sequence[Cell]:
    stored = one.stored
    users = [use.user for use in stored.uses]
    more = f" and {len(users) - _MOST_USERS} more" if len(users) > _MOST_USERS else ""
    needed = [*one.containers, *((f"profile {name_profiles(one.profiles)}",) if one.profiles else ())]
    return (
        short_name(stored.names[0]),
        show_size(stored.size),
        show_size(stored.shared_size),
        ", ".join(users[:_MOST_USERS]) + more,
        show_time(stored.last_used_at, now) or "never",
        ("older base", "yellow") if one.is_outdated else "",
        ", ".join(needed),
        one.build.summary if one.build else "",
    )


def _draw_own(one: OwnImage) -> Sequence[Cell]:
    needed = ", ".join(one.containers)
    return (one.name, show_size(one.size), show_size(one.shared_size), one.user, "", "", needed, one.base)


def _sum_up(stock: Stock) -> str:
    count = len(stock.images)
    own = show_size(sum(one.stored.own_size for one in stock.images))
    cache = show_size(stock.build_cache)
    return f"{count} image{'' if count == 1 else 's'} with {own} for themselves; the build cache has {cache}"


def _offer(wanted: Sequence[ProfileImage]) -> str:
    """Say which profiles lack an image, or have an older one, and what to do; "" where all is well."""
    said = []
    for state, words in (("absent", "No image yet"), ("older base", "On an older base image")):
        profiles = dict.fromkeys(slug for one in wanted if state_of(one) == state for slug in one.profiles)
        if profiles:
            said.append(f"{words}: {name_profiles(tuple(profiles))}.")
    return " ".join((*said, "Build now with: ds01 image prebuild")) if said else ""
