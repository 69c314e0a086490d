"""The verbs of `ds01 image` for an admin: they concern the images that the Hub builds, whoever uses them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from ...sizes import parse_bytes
from ..sources import Sources
from ..times import parse_span
from .logs import show_log
from .prebuilding import build_profile, prebuild
from .removal import prune_images, remove_images

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

LIST_ALL = """\
With --all and --json, an object; sizes are in bytes, times ISO 8601 in UTC,
null where there is none:
  images    list, what was used last first:
    name, id, base, contents  strings; `contents` is empty where it is forgotten
    older_base                true where its base image was pulled anew since
    size_bytes, shared_bytes  numbers; the latter is what other images have too
    built_at, last_used_at    strings
    users                     list of objects with user and last_used_at
    containers, profiles      lists of strings, what needs it; the profile "" is
                              a start on a site without profiles
  own       list of what people made: name, user, base, size_bytes,
            shared_bytes, built_at, containers
  profiles  list of what profiles ask for: profiles, base, image (null, or the
            one that a start gets now), state (ready, older base or absent)
  build_cache_bytes   number, of what no image holds
  problems            list of sentences: why not all that profiles need is known
"""
_BUILD = """\
Prints the name of the image on stdout, the steps of the build on stderr.

With --json, an object:
  profile, base           strings
  image                   string, or null with --dry-run
  built                   true or false; false for one that was there
  seconds, steps, reused  numbers, null where nothing was built
  dry_run                 true or false
"""
_PREBUILD = """\
An image on an older base image stays in use until the new one is there, and
servers that run from it go on. Nothing is downloaded that is on the machine;
run `docker pull` first to have a base image anew.

With --json, an object:
  images    list of objects:
    profiles                list of slugs
    base, state, error      strings; `state` is what it was: ready, older base
                            or absent; `error` is empty where nothing failed
    image                   string, or null
    built                   true or false
  problems  list of sentences: why not all that profiles need is known
  dry_run   true or false
"""
_REMOVE = """\
IMAGE is a name as `ds01 image list --all` shows it, or its beginning. An image
that a container is made from, running or not, stays, and so does one that a
start is about to use. One that a profile needs goes, and is built again at the
next start.

With --json, an object:
  images    list of objects with name, id, freed_bytes and profiles (those that
            need it)
  dry_run   true or false
"""
_PRUNE = """\
Never removed is what a container, running or not, a start or a profile needs,
and what was used or built just now. Of the rest goes what was not used for
SPAN, then what was used longest ago, until all together fit SIZE; each image
counts without the layers that it shares with others. Where it is not known what
all profiles need, --budget has no effect. What is not said here is as c.DS01
has it.

With --json, an object:
  images    list of objects with name, id, kept (true or false), why, own_bytes;
            first those that go, in this order
  build_cache_freed_bytes   number, or null where it is not bounded
  problems  list of sentences: why not all that profiles need is known
  dry_run   true or false
"""
_LOG = """\
Without IMAGE, lists the builds of late, the newest last. With --json, a list of
objects, or for one image an object:
  image, user, base, contents   strings
  started_at                    string, ISO 8601 in UTC
  seconds, steps, reused        numbers
  outcome                       built, failed or given up
  why, log                      strings; `log` is the name of a file
  text                          string, the log itself; for one image only
"""


def add_verbs(subcommands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs; `files` are the options that every command has."""
    building = _add(subcommands, files, "build", build_profile, "build the image of a profile now", _BUILD)
    building.add_argument("profile", metavar="PROFILE", help="its slug")
    building.add_argument(
        "--option",
        dest="choices",
        metavar="OPTION=CHOICE",
        type=_read_choice,
        action="append",
        default=[],
        help="a choice of one of its options, several times for several; else its defaults",
    )
    about = "build what profiles lack, or have on an older base image"
    _add(subcommands, files, "prebuild", prebuild, about, _PREBUILD)
    removing = _add(subcommands, files, "remove", remove_images, "remove images that the Hub built", _REMOVE)
    removing.add_argument("names", metavar="IMAGE", nargs="+", help="0f3a99c1-27bd, or a whole name")
    _add_prune(subcommands, files)
    about = "show what builds said, and which failed"
    logs = _add(subcommands, files, "log", show_log, about, _LOG, changes=False)
    logs.add_argument("name", metavar="IMAGE", nargs="?", default="", help="0f3a99c1-27bd, or a whole name")
    logs.add_argument("--failed", action="store_true", help="only builds that failed")
    logs.add_argument(
        "--limit", metavar="N", type=_read_number, default=50, help="only the newest N (default: 50)"
    )


def _add_prune(subcommands: Commands, files: argparse.ArgumentParser) -> None:
    about = "remove images that are too old or too much"
    pruning = _add(subcommands, files, "prune", prune_images, about, _PRUNE)
    pruning.add_argument("--older-than", metavar="SPAN", type=_read_span, help="such as 30d")
    pruning.add_argument("--budget", metavar="SIZE", type=_read_size, help="of all images, such as 200g")
    pruning.add_argument(
        "--build-cache", metavar="SIZE", type=_read_size, help="of Docker's build cache besides, such as 50g"
    )


def _add(
    subcommands: Commands,
    files: argparse.ArgumentParser,
    verb: str,
    run: Callable[[argparse.Namespace, Sources], None],
    about: str,
    epilog: str,
    *,
    changes: bool = True,
) -> argparse.ArgumentParser:
    parser = subcommands.add_parser(
        verb,
        help=f"admin: {about}",
        description=f"{about[:1].upper()}{about[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[files],
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    if changes:
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be done, and change nothing"
        )
    parser.set_defaults(run=run, needs_hub=True)
    return parser


def _read_choice(text: str) -> tuple[str, str]:
    option, is_given, choice = text.partition("=")
    if not is_given or not option or not choice:
        raise argparse.ArgumentTypeError(f"{text!r} is no choice; write OPTION=CHOICE")
    return option, choice


def _read_span(text: str) -> timedelta:
    try:
        return parse_span(text)
    except (ValueError, OverflowError) as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time; write 30d, 2w or 12h") from exc


def _read_size(text: str) -> int:
    try:
        return parse_bytes(text)
    except (ValueError, OverflowError) as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 200g or 500m") from exc


def _read_number(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 9999")
    return int(text)
