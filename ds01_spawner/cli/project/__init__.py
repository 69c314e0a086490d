"""`ds01 project`: a folder, an image and a container of one name, as the seeds' `project-init` made them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..parsing import add_parser
from ..service import add_socket
from ..sources import Sources

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_INIT = """\
Without a name or a framework, or with --guided, a wizard asks in three phases. Made are
~/workspace/NAME with README.md, requirements.txt and a link to the Dockerfile in
~/dockerfiles/NAME, the image NAME-USER-image, and a container. What is there already is
kept: after a failure, the same command goes on.

PKGS are names with blanks between: -p "wandb torch>=2.1". They go into a new
requirements.txt.

With --json, an object:
  name, folder, recipe  strings; the latter two are the paths of ~/workspace/NAME and
                        ~/dockerfiles/NAME
  image, container      strings, null for what there is not
  made                  list of what was not there before: README.md,
                        requirements.txt, recipe, image, container
"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs of `project`; `files` are the options that every command has."""
    about = "projects: folder, image and container in one go"
    verbs = commands.add_parser("project", help=about, description=f"{about.capitalize()}.", parents=[files])
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    add_options(subcommands, files, "init", "begin a project, or go on with one", _init_project)


def _init_project(options: argparse.Namespace, sources: Sources) -> int:
    from .init import init_project

    return init_project(options, sources)


def add_options(
    subcommands: Commands,
    files: argparse.ArgumentParser,
    verb: str,
    about: str,
    run: Callable[[argparse.Namespace, Sources], Any],
) -> None:
    """Add a verb that begins a project, with all that can be said about one."""
    parser = add_parser(subcommands, files, verb, about, _INIT)
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="such as my-thesis")
    parser.add_argument(
        "-f", "--framework", metavar="FRAMEWORK", default="", help="as `ds01 catalog list` has it"
    )
    parser.add_argument("-V", "--version", metavar="VERSION", default="", help="of it; else the newest")
    parser.add_argument(
        "-t",
        "--type",
        "--use-case",
        dest="use_case",
        metavar="USECASE",
        default="",
        help="ml, cv, nlp, rl, …",
    )
    parser.add_argument(
        "-p", "--packages", metavar="PKGS", action="append", default=[], help="more Python packages"
    )
    gpus = parser.add_mutually_exclusive_group()
    gpus.add_argument("--gpu", metavar="PROFILE[:COUNT]", default="", help="such as 1g.10gb, or full:2")
    gpus.add_argument("--cpu-only", action="store_true", help="no GPU")
    parser.add_argument(
        "--profile", metavar="PROFILE", default="", help="of the Hub's form; else the default one"
    )
    parser.add_argument(
        "--no-image", action="store_true", help="build none; the container is made from the framework"
    )
    parser.add_argument("--no-container", action="store_true", help="make no container")
    parser.add_argument("--arch", metavar="ARCH", default="", help="as for `ds01 catalog resolve`")
    parser.add_argument("--guided", action="store_true", help="ask everything, with explanations")
    parser.add_argument("--json", action="store_true", help="for scripts")
    add_socket(parser)
    parser.set_defaults(run=run, parser=parser)
