"""`ds01 container run`: a shell in a container of one's own, which is started first if it does not run."""

from __future__ import annotations

import argparse

from ...adapters.local_service import name_path
from ...errors import RequestRefused
from ..service import open_service
from .starting import start
from .terminal import relay


def run_container(options: argparse.Namespace) -> int:
    """Open a shell, or run a command; returns its exit status."""
    service, name = open_service(options), options.name
    found = service.get(name_path(name))
    if found["made_by"] == "aime":
        raise RequestRefused(
            f"{name} was made with AIME's tools. Open it with those (mlc-open {name}), or bring it here: "
            f"ds01 container adopt {name}"
        )
    if found["state"] != "running":
        start(service, name, {})
    return relay(service.path, f"/api/{name_path(name, 'shell')}", options.command)
