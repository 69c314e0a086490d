"""`ds01 old-names`, and `ds01` called by an old name: the commands that people and their scripts know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import RequestRefused
from ..parsing import add_parser
from ..tables import print_json, print_table
from .links import find_program, is_ours, make_link, remove_link, sort_places
from .table import OLD_NAMES, asks_help, describe, translate

__all__ = ["OLD_NAMES", "add_commands", "run_old"]

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_DONE, _MISUSED = 0, 2
_FOLDER = "/usr/local/bin"
_HEADINGS = ("OLD NAME", "TODAY")
_LIST = """\
With --json, a list of objects with name, old and today: strings, the old command,
its arguments, and what it is today.
"""
_INSTALL = """\
Called by one of these names, `ds01` does what the old command did. What is there by
such a name and is no link to a `ds01`, such as AIME's own mlc-create, is left alone.
"""


def run_old(name: str, arguments: Sequence[str], run: Callable[[Sequence[str]], int]) -> int:
    """Do what an old command did, by `run`, which runs today's; return the exit status."""
    if asks_help(arguments):
        print(describe(name))
        return _DONE
    try:
        order = translate(name, arguments)
    except RequestRefused as error:
        print(f"ds01: {error}", file=sys.stderr)
        return _MISUSED
    for note in order.notes:
        print(f"ds01: {note}", file=sys.stderr)
    try:
        return run(order.arguments) if order.arguments else _DONE
    except SystemExit as left:
        if left.code == _MISUSED:
            print(f"ds01: {name} is an old name. Today it is: {OLD_NAMES[name].today}", file=sys.stderr)
        raise


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs of `old-names`."""
    about = "the commands of old: what they are today, and links by their names"
    verbs = commands.add_parser(
        "old-names", help=about, description=f"{about.capitalize()}.", parents=[files]
    )
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    listing = _add(subcommands, files, "list", list_names, "list the old names", _LIST)
    listing.add_argument("--json", action="store_true", help="for scripts")
    installing = _add(subcommands, files, "install", install, "make links by the old names", _INSTALL)
    installing.add_argument("folder", metavar="DIR", nargs="?", default=_FOLDER, help=f"else {_FOLDER}")
    installing.add_argument("--remove", action="store_true", help="remove them")
    installing.add_argument("--dry-run", action="store_true", help="only say what would be done")


def list_names(options: argparse.Namespace) -> None:
    """Print the table."""
    if options.json:
        print_json([{"name": name, "old": one.old, "today": one.today} for name, one in OLD_NAMES.items()])
    else:
        print_table(_HEADINGS, [("", [(name, one.today) for name, one in OLD_NAMES.items()])])


def install(options: argparse.Namespace) -> None:
    """Make or remove the links, and say what is in their way."""
    folder = Path(options.folder).absolute()
    if not folder.is_dir():
        raise RequestRefused(f"There is no folder {folder}.")
    places, taken = sort_places(folder)
    would = "would be " if options.dry_run else ""
    if options.remove:
        for place in filter(is_ours, places):
            if not options.dry_run:
                remove_link(place)
            print(f"{place}: {would}removed")
        return
    program = find_program()
    for place in places:
        is_right = is_ours(place) and place.readlink() == program
        if not is_right and not options.dry_run:
            make_link(place, program)
        print(f"{place}: is there" if is_right else f"{place}: {would}linked to {program}")
    for place in taken:
        print(f"ds01: {place} is no link to ds01, and stays as it is.", file=sys.stderr)


def _add(
    subcommands: Commands,
    files: argparse.ArgumentParser,
    verb: str,
    run: Callable[[argparse.Namespace], None],
    about: str,
    epilog: str,
) -> argparse.ArgumentParser:
    parser = add_parser(subcommands, files, verb, about, epilog)
    # It reads none of the site's files.
    parser.set_defaults(run=run, asks_service=True)
    return parser
