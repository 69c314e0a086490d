"""How the commands that ask the service find it, and for whom they ask."""

from __future__ import annotations

import argparse
import os

from ..adapters.local_service import SOCKET, LocalService


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the socket."""
    parser.add_argument(
        "--socket", metavar="PATH", default="", help=f"of the service ($DS01_SOCKET, else {SOCKET})"
    )


def add_user(parser: argparse.ArgumentParser) -> None:
    """Add the option by which an admin asks for somebody else."""
    parser.add_argument("--user", metavar="USER", default="", help="admin: for this user of the Hub")


def find_socket(options: argparse.Namespace) -> str:
    """Return the socket that is named, else that of the environment, else the usual one."""
    return str(options.socket or os.environ.get("DS01_SOCKET", "") or SOCKET)


def open_service(options: argparse.Namespace) -> LocalService:
    """Return the service."""
    return LocalService(find_socket(options))


def make_query(options: argparse.Namespace) -> dict[str, str]:
    """Return for whom is asked."""
    return {"user": options.user} if options.user else {}
