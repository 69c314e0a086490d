"""`ds01 user setup`: the first time on this machine: the account, the limits, and a first project."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..service import find_socket
from ..sources import Sources
from . import add_options

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_AWAY = 3


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add the verbs of `user`; `files` are the options that every command has."""
    about = "your first time here"
    verbs = commands.add_parser("user", help=about, description=f"{about.capitalize()}.", parents=[files])
    subcommands = verbs.add_subparsers(metavar="VERB", required=True)
    about = "look at your account and your limits, then begin a project"
    add_options(subcommands, files, "setup", about, setup_user)


def setup_user(options: argparse.Namespace, sources: Sources) -> int:
    """Check the account, say the limits, and begin a project; returns the exit status."""
    # Imported here, since the help of all commands needs none of it.
    from .. import main
    from ..image.folder import show_path
    from ..image.recipe import find_owner
    from ..questions import open_terminal
    from . import tutor, workspace
    from .init import init_project
    from .result import answering

    interview = open_terminal(guided=options.guided)
    interview.begin("Welcome to DS01", tutor.WELCOME)
    workspace.check_home()
    place = workspace.find_workspace()
    there = "is there" if place.is_dir() else "is made with your first project"
    interview.tell(f"You are {find_owner().login}. {show_path(place)} {there}.")
    with answering(as_json=options.json):
        status = main(("status", "--all", "--socket", find_socket(options)))
    if status and not (status == _AWAY and options.no_container):
        return status
    return init_project(options, sources)
