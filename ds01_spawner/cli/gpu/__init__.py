"""`ds01 gpu`: who has which GPU, and what an admin does about it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...model import FULL_GPU, MOST_GPUS, NO_GPU
from ..parsing import add_parser
from ..sources import Sources
from ..times import make_reader, parse_since, parse_until
from .changes import allocate, drain, release, undrain
from .events import show_history
from .person import show_person
from .status import show_status

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace, Sources], None]

_STATUS = """\
With --json, an object; times are ISO 8601 in UTC, null where there is none:
  slots     list, in the order of the table:
    id, node, uuid, profile     strings; `id` is the index, 0 or 0:1
    memory_mib, share           numbers; a whole GPU is a share of 1
    state                       free, pending, leased, held, reserved, external,
                                contested, unhealthy or drained
    why                         string, empty where there is nothing to say
    lease                       null, or an object with id, user, server,
                                container, state, since, until
  queue     list, in the order in which it is served:
    position, user, server, profile, count, priority, requested_at, expected_at
  problem   null, or a sentence: the GPUs cannot be read, so none is handed out
"""
_PERSON = """\
With --json, an object; times are ISO 8601 in UTC, null where there is none:
  user, group                   strings
  servers, slots, gpu_share, cpus, memory_bytes, pids
                objects with used, allowed and left; null is unlimited, a whole
                GPU is a share of 1. What servers may take counts as used, not
                what they do take
  leases        list of objects: id, server, container, state, since, until,
                ending (string, why it is being ended), and slots, a list of
                objects with id, uuid and profile
  queue         list of objects: position, server, profile, count, priority,
                requested_at, expected_at
  queue_length  number, of all who wait
  reservations  list of objects: start, end, gpus, devices, reason
"""
_ALLOCATE = """\
The slots are the user's until TIME, without a server; what runs on them is
hers. Her limits hold, but for the run time of a server, which is for TIME to
say. Queue and reservations hold always. `ds01 gpu release` ends it before.

TIME is local: +4h, +2d, 18:00 (the next), 2026-03-06 (its end),
2026-03-06T18:00, or with a zone.

With --json, an object:
  lease         number; null with --dry-run
  user, until   strings
  slots         list of objects with id, uuid and profile
  dry_run       true or false
"""
_RELEASE = """\
With --json, an object:
  lease                     number
  user, server, container   strings
  container_removed         true or false
  released                  true or false; false with --dry-run
  dry_run                   true or false
"""
_MARKS = """\
SLOT is an index (0:1; 0 for the whole GPU with all its slices) or a UUID.

With --json, an object:
  slots     list of objects with id, uuid, changed (true or false), lease (null,
            or the number of the one that still has it) and fault (string, why
            it stays out of use all the same)
  dry_run   true or false
"""
_HISTORY = """\
TIME is local: 7d (ago), 12h, 18:00 (the last), 2026-03-06, 2026-03-06T18:00, or
with a zone.

With --json, a list of objects, the oldest first:
  id                        number
  at                        string, ISO 8601 in UTC
  kind, who, why, server    strings
  lease                     number, or null
  slots                     list of UUIDs
"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs of `gpu`; `files` are the options that every command has."""
    about = "GPUs: who has which, and give, take back or drain them"
    verbs = commands.add_parser("gpu", help=about, description=f"{about}.", parents=[files])
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    _add(subcommands, files, "status", show_status, "show all slots and who waits", _STATUS)
    person = _add(subcommands, files, "user-status", show_person, "show where a user stands", _PERSON)
    _add_user(person)
    _add_allocate(subcommands, files)
    releasing = _add(subcommands, files, "release", release, "end a lease and free its slots", _RELEASE)
    releasing.add_argument(
        "name", metavar="LEASE|CONTAINER", help="its number, or the container's whole name"
    )
    releasing.add_argument("--force", action="store_true", help="also when its container runs or starts")
    _add_change(releasing, reason="why, for the history and for the user")
    draining = _add(
        subcommands, files, "drain", drain, "hand a slot out no more; who has it keeps it", _MARKS
    )
    draining.add_argument("slot", metavar="SLOT", help="index or UUID")
    _add_change(draining, reason="why, for the history and for whoever looks")
    undraining = _add(
        subcommands, files, "undrain", undrain, "hand a slot out again, be it after an error", _MARKS
    )
    undraining.add_argument("slot", metavar="SLOT", help="index or UUID")
    _add_change(undraining)
    events = _add(
        subcommands, files, "history", show_history, "show what happened, the newest last", _HISTORY
    )
    events.add_argument("--user", metavar="USER", default="", help="only what concerns, or was done by, USER")
    events.add_argument(
        "--since",
        metavar="TIME",
        type=make_reader(parse_since, "7d, 18:00 or 2026-03-06"),
        help="only from then",
    )
    events.add_argument(
        "--limit", metavar="N", type=_read_number, default=100, help="only the newest N (default: 100)"
    )


def _add(
    subcommands: Commands, files: argparse.ArgumentParser, verb: str, run: Run, about: str, epilog: str
) -> argparse.ArgumentParser:
    parser = add_parser(subcommands, files, verb, about, epilog)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=run, needs_hub=True)
    return parser


def _add_allocate(subcommands: Commands, files: argparse.ArgumentParser) -> None:
    about = "give a user slots for a time, without a server"
    parser = _add(subcommands, files, "allocate", allocate, about, _ALLOCATE)
    _add_user(parser)
    parser.add_argument(
        "wish",
        metavar="PROFILE[:COUNT]",
        type=_read_wish,
        help="a MIG profile as `ds01 gpu status` has it, or `full`; one slot unless COUNT says more",
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        type=make_reader(parse_until, "+4h, 18:00, 2026-03-06 or 2026-03-06T18:00"),
        required=True,
        help="when it ends",
    )
    parser.add_argument("--force", action="store_true", help="past her limits; the history says so")
    _add_change(parser, reason="why, for the history")


def _add_user(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="the login name")
    parser.add_argument(
        "--group",
        metavar="NAME",
        action="append",
        default=[],
        help="a JupyterHub group of the user, several times for several; else those that load_groups names",
    )


def _add_change(parser: argparse.ArgumentParser, *, reason: str = "") -> None:
    if reason:
        parser.add_argument("--reason", metavar="TEXT", default="", help=reason)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")


def _read_wish(text: str) -> tuple[str, int]:
    profile, _, count = text.strip().lower().partition(":")
    number = _read_number(count) if ":" in text else 1
    if profile == NO_GPU or not re.fullmatch(r"[a-z0-9][a-z0-9.+_-]*", profile) or number > MOST_GPUS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no wish; write 1g.10gb, 1g.10gb:2 or {FULL_GPU}, with {MOST_GPUS} at most"
        )
    return profile, number


def _read_number(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
