"""`ds01 image remove` and `ds01 image prune`: images that go, and why the others stay."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import RequestRefused
from ..sources import Sources, open_core
from ..tables import print_json, print_table, show, show_size
from .site import name_profiles, read_starts, short_name, tell_problems

if TYPE_CHECKING:
    from ...core.image_store import Pruned, Removal

_HEADINGS = ("IMAGE", "SIZE", "", "WHY")


def remove_images(options: argparse.Namespace, sources: Sources) -> None:
    """Remove the images that are named, all or none."""
    store = open_core(sources).image_store
    removed = store.remove(options.names, read_starts(sources), dry_run=options.dry_run)
    if options.json:
        images = [
            {
                "name": name,
                "id": one.image.id,
                "freed_bytes": one.image.own_size,
                "profiles": list(one.profiles),
            }
            for one in removed
            for name in one.image.names
        ]
        print_json({"images": images, "dry_run": options.dry_run})
        return
    for one in removed:
        print(show(_describe_removal(one, dry_run=options.dry_run)))


def prune_images(options: argparse.Namespace, sources: Sources) -> None:
    """Remove what is too old or too much, by what is said here and by the site's settings."""
    store = open_core(sources).image_store
    bounds = replace(
        store.bounds,
        max_age=store.bounds.max_age if options.older_than is None else options.older_than,
        budget=store.bounds.budget if options.budget is None else options.budget,
    )
    cache_budget = store.build_cache_budget if options.build_cache is None else options.build_cache
    if bounds.max_age is None and bounds.budget is None and cache_budget is None:
        raise RequestRefused(
            "Nothing says what is too much. Give --older-than, --budget or --build-cache, or set "
            "image_max_age_days, image_disk_budget or build_cache_budget of c.DS01."
        )
    pruned = store.prune(read_starts(sources), bounds, dry_run=options.dry_run)
    freed = None
    if cache_budget is not None:
        freed = store.prune_build_cache(cache_budget, dry_run=options.dry_run)
    if options.json:
        print_json(_as_json(pruned, freed, dry_run=options.dry_run))
    else:
        _print(pruned, freed, dry_run=options.dry_run)
    tell_problems(pruned.problems)


def _describe_removal(removal: Removal, *, dry_run: bool) -> str:
    verb = "would be" if dry_run else "is"
    size = show_size(removal.image.own_size)
    again = (
        f"; the next start of {name_profiles(removal.profiles)} builds it again" if removal.profiles else ""
    )
    return f"{', '.join(removal.image.names)} {verb} removed, which frees {size}{again}."


def _as_json(pruned: Pruned, freed: int | None, *, dry_run: bool) -> dict[str, object]:
    return {
        "images": [
            {
                "name": name,
                "id": one.image.id,
                "kept": one.is_kept,
                "why": one.why,
                "own_bytes": one.image.own_size,
            }
            for one in pruned.verdicts
            for name in one.image.names
        ],
        "build_cache_freed_bytes": freed,
        "problems": list(pruned.problems),
        "dry_run": dry_run,
    }


def _print(pruned: Pruned, freed: int | None, *, dry_run: bool) -> None:
    gone = "would go" if dry_run else "removed"
    rows = [
        (
            short_name(one.image.names[0]),
            show_size(one.image.own_size),
            "stays" if one.is_kept else (gone, "red"),
            one.why,
        )
        for one in pruned.verdicts
    ]
    if rows:
        print_table(_HEADINGS, [("", rows)])
        print()
    went = [one.image.own_size for one in pruned.verdicts if not one.is_kept]
    verb = "would be removed" if dry_run else "removed"
    print(f"{len(went)} of {len(rows)} images {verb}, which frees {show_size(sum(went))} or more.")
    if freed is not None:
        print(f"Of the build cache {'about ' if dry_run else ''}{show_size(freed)} {verb}.")
