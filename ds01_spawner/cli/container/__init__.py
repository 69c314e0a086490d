"""`ds01 container`: one's own containers from a terminal, the same ones as in the browser."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..parsing import add_parser
from ..service import add_socket, add_user
from .adopt import adopt_container
from .create import create_container
from .mine import clean_up, list_containers, remove_container, show_log, show_use, stop_container
from .run import run_container

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_CONTAINER = """\
  name, container   strings; `container` is the name that Docker has
  state             running, starting, held (stopped, with its GPUs kept), stopping
                    or stopped
  made_by           ds01, or aime for what AIME's tools made
  server            string, the Hub's name; null for what AIME's tools made
  framework, image  strings, empty where they are not known
  lease             null, or an object as the service has it (docs/service.md)
"""
_LIST = f"""\
With --json, an object: problems, a list of sentences about what could not be
asked, and containers, a list of objects by name:
{_CONTAINER}"""
_CREATE = f"""\
Without a name, or with --guided, a wizard asks in three phases. What is not said is
as the profile has it. Limits can only be made lower than your own.

PROFILE of a GPU is as `ds01 status --all` shows it, such as 1g.10gb, or `full`.

With --json, an object:
{_CONTAINER}\
and with --dry-run: gets, holds, image (strings), and problem, why it would be
refused, or empty
"""
_RUN = """\
It is started first if it does not run. Behind -- stands a command to run in place of
a shell; its exit status is that of `ds01`. Leaving the shell stops nothing.
"""
_USE = """\
With --json, a list of objects:
  name                        string
  cpu_percent                 number; 100 is one CPU
  memory_bytes, processes     numbers
  memory_limit                number, null for none
"""
_CLEANUP = """\
What is held keeps its GPUs and stays; so does what AIME's tools made.

With --json, an object: removed, a list of names
"""
_ADOPT = f"""\
AIME's containers see every GPU and run without Jupyter, so none can be taken over as
it is. Its files (not /workspace and what else is mounted: those stay where they are)
become an image of yours, NAME-USER-image, and a container of the same name is made
from that; the old one stays, stopped, as NAME-aime.

With --json, an object:
{_CONTAINER}"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs of `container`; `files` are the options that every command has."""
    about = "containers: make, open, look at and remove your own"
    verbs = commands.add_parser(
        "container", help=about, description=f"{about.capitalize()}.", parents=[files]
    )
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    _add_create(subcommands, files)
    listing = _add(subcommands, files, "list", list_containers, "list your containers", _LIST)
    listing.add_argument("-a", "--all", action="store_true", help="also those that are stopped")
    running = _add(
        subcommands, files, "run", run_container, "open a shell in a container, which starts it", _RUN
    )
    _add_name(running)
    running.add_argument("command", metavar="COMMAND", nargs="*", help="behind --, in place of a shell")
    using = _add(subcommands, files, "stats", show_use, "show what your containers take", _USE)
    using.add_argument("name", metavar="NAME", nargs="?", default="", help="else all that run")
    reading = _add(subcommands, files, "logs", show_log, "show what a container's server printed", "")
    _add_name(reading)
    reading.add_argument(
        "-n", "--lines", metavar="N", type=int, default=100, help="so many of the last lines (100)"
    )
    stopping = _add(
        subcommands, files, "stop", stop_container, "stop a container: its GPUs are free again", ""
    )
    _add_name(stopping)
    removing = _add(subcommands, files, "remove", remove_container, "stop a container and forget it", "")
    _add_name(removing)
    removing.add_argument("--yes", action="store_true", help="do not ask")
    cleaning = _add(subcommands, files, "cleanup", clean_up, "forget all your stopped containers", _CLEANUP)
    cleaning.add_argument("--yes", action="store_true", help="do not ask")
    adopting = _add(
        subcommands, files, "adopt", adopt_container, "make one of AIME's containers a server", _ADOPT
    )
    _add_name(adopting)
    adopting.add_argument(
        "--profile", metavar="PROFILE", default="", help="of the Hub's form; else the default one"
    )
    adopting.add_argument("--yes", action="store_true", help="do not ask")


def _add_create(subcommands: Commands, files: argparse.ArgumentParser) -> None:
    parser = _add(subcommands, files, "create", create_container, "make a container and start it", _CREATE)
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="such as my-thesis")
    parser.add_argument(
        "framework", metavar="FRAMEWORK", nargs="?", default="", help="as `ds01 catalog list` has it"
    )
    parser.add_argument("version", metavar="VERSION", nargs="?", default="", help="of the framework")
    parser.add_argument(
        "--profile", metavar="PROFILE", default="", help="of the Hub's form; else the default one"
    )
    parser.add_argument(
        "--image", metavar="IMAGE", default="", help="in place of a framework: any, or your own"
    )
    gpus = parser.add_mutually_exclusive_group()
    gpus.add_argument("--gpu", metavar="PROFILE[:COUNT]", default="", help="such as 1g.10gb, or full:2")
    gpus.add_argument("--cpu-only", action="store_true", help="no GPU")
    for letter, name, what in (
        ("w", "workspace", "/workspace"),
        ("d", "data", "/data, for reading"),
        ("m", "models", "/models, for reading"),
    ):
        parser.add_argument(
            f"-{letter}", f"--{name}", metavar="DIR", default="", help=f"what is {what} in the container"
        )
    parser.add_argument("--cpus", metavar="N", type=float, default=None)
    parser.add_argument("--memory", metavar="SIZE", default="", help="such as 8g")
    parser.add_argument("--shm-size", metavar="SIZE", default="", help="such as 2g")
    parser.add_argument("--pids-limit", metavar="N", type=int, default=None, help="processes")
    parser.add_argument("--dry-run", action="store_true", help="only say what would come of it")
    parser.add_argument("--guided", action="store_true", help="ask everything, with explanations")
    parser.set_defaults(parser=parser)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as `ds01 container list` shows it")


def _add(
    subcommands: Commands,
    files: argparse.ArgumentParser,
    verb: str,
    run: Callable[[argparse.Namespace], object],
    about: str,
    epilog: str,
) -> argparse.ArgumentParser:
    parser = add_parser(subcommands, files, verb, about, epilog)
    if verb != "run":
        parser.add_argument("--json", action="store_true", help="for scripts")
        add_user(parser)
    add_socket(parser)
    parser.set_defaults(run=run, asks_service=True)
    return parser
