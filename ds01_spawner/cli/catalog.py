"""`ds01 catalog`: which base images there are, and which one a framework and a version mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from .. import catalog
from ..adapters.site_files import read_catalog
from ..errors import CatalogBroken
from ..model import CatalogEntry
from .parsing import add_parser
from .sources import Sources, find_architecture
from .tables import align, print_json

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_LIST_EPILOG = """\
With --json, a list of objects, in the same order:
  framework, version, image   strings, as the catalog spells them
  architectures               list of strings
"""
_RESOLVE_EPILOG = """\
Prints the name of the image and nothing else on stdout, warnings on stderr.
With --json, an object:
  framework, version, image   strings, as the catalog spells them
  architecture                string, empty where it is not known
  warning                     string, empty where it is just what was asked for
"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add `catalog list` and `catalog resolve`; `files` are the options that every command has."""
    about = "base images: what AIME's catalog offers"
    verbs = commands.add_parser(
        "catalog", help=about, description=f"{about[:1].upper()}{about[1:]}.", parents=[files]
    )
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    listing = _add(subcommands, files, "list", "list the base images, newest first", _LIST_EPILOG)
    listing.set_defaults(run=list_images)
    resolving = _add(subcommands, files, "resolve", "print the image of a framework", _RESOLVE_EPILOG)
    resolving.add_argument("framework", metavar="FRAMEWORK", help="in any case; torch and tf will do")
    resolving.add_argument(
        "version",
        metavar="VERSION",
        nargs="?",
        default="",
        help="2.8.0, or only its beginning; else the newest",
    )
    resolving.set_defaults(run=resolve_image)


def _add(
    subcommands: Commands, files: argparse.ArgumentParser, verb: str, about: str, epilog: str
) -> argparse.ArgumentParser:
    parser = add_parser(subcommands, files, verb, about, epilog)
    parser.add_argument(
        "--arch",
        metavar="ARCH",
        default="",
        help=f"{', '.join(catalog.ARCHITECTURES)}; else the setting, $MLC_ARCH, or what the GPUs are",
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    return parser


def list_images(options: argparse.Namespace, sources: Sources) -> None:
    """Print the catalog's entries for an architecture."""
    text = read_catalog(sources.catalog_file, catalog.SEARCH_PATHS)
    if text is None:
        raise CatalogBroken(
            "No catalog of base images is installed. Name one with --catalog, or set c.DS01.catalog_file.",
            detail=f"searched {', '.join(catalog.SEARCH_PATHS)}",
        )
    architecture = find_architecture(sources, options.arch)
    entries = _sort(catalog.parse_catalog(text), architecture)
    if options.json:
        print_json([asdict(entry) for entry in entries])
    elif entries:
        print(_draw(entries))
    else:
        print(f"ds01: Nothing in the catalog is for {architecture}.", file=sys.stderr)


def resolve_image(options: argparse.Namespace, sources: Sources) -> None:
    """Print the image that a framework, and perhaps a version, mean."""
    text = read_catalog(sources.catalog_file, catalog.SEARCH_PATHS)
    architecture = find_architecture(sources, options.arch)
    base = catalog.find_base(text, options.framework, options.version, architecture)
    if base.warning:
        print(f"ds01: {base.warning}", file=sys.stderr)
    if options.json:
        print_json(asdict(base))
    else:
        print(base.image)


def _sort(entries: Sequence[CatalogEntry], architecture: str) -> list[CatalogEntry]:
    """Return the entries for an architecture in the order in which the form offers them."""
    offered = catalog.frameworks(entries, architecture)
    pairs = [(name.casefold(), version) for name, versions in offered for version in versions]
    wanted = architecture.strip().upper()
    shown = [entry for entry in entries if not wanted or wanted in entry.architectures]
    order = {pair: place for place, pair in enumerate(pairs)}
    # A second spelling of a framework's name in one catalog goes last.
    return sorted(shown, key=lambda entry: order.get((entry.framework.casefold(), entry.version), len(order)))


def _draw(entries: Sequence[CatalogEntry]) -> str:
    # The name stands above its versions, so that a row with an image's long name fits 80 columns.
    blocks = []
    for name, group in groupby(entries, key=lambda entry: entry.framework):
        rows = [(entry.version, entry.image, ";".join(entry.architectures)) for entry in group]
        blocks.append(f"{name}\n{align(rows, indent=' ')}")
    return "\n\n".join(blocks)
