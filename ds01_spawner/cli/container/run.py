"""`ds01 container run`: a shell in a container of one's own, which is started first if it does not run."""

from __future__ import annotations

import argparse

from ...adapters.local_service import name_path
from ..service import open_service
from .starting import start
from .terminal import relay


def run_container(options: argparse.Namespace) -> int:
    """Open a shell, or run a command; returns its exit status."""
    service = open_service(options)
    if service.get(name_path(options.name))["state"] != "running":
        start(service, options.name, {})
    return relay(service.path, options.name, options.command)
