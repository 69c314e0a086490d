"""What all commands have in common on their command lines."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(
    commands: Commands,
    files: argparse.ArgumentParser,
    name: str,
    about: str,
    epilog: str,
    *,
    description: str = "",
) -> argparse.ArgumentParser:
    """Add a command or a verb: `about` is its line in the help of all, `epilog` the end of its own help."""
    return commands.add_parser(
        name,
        help=about,
        description=description or f"{about.capitalize()}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[files],
        allow_abbrev=False,
    )
