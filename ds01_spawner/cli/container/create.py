"""`ds01 container create`: a container from options, or from a wizard's answers."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from ...adapters.local_service import LocalService, name_path
from ...errors import RequestRefused
from ...model import MOST_GPUS, NO_GPU
from ..leaving import leaving
from ..questions import open_terminal
from ..service import make_query, open_service
from ..tables import align, print_json, show
from .starting import start
from .wizard import Wizard

_GPU = re.compile(r"([A-Za-z0-9.+-]{1,40})(?::([0-9]{1,3}))?")
_SAID = {"gets": "You get", "holds": "Then you have", "image": "Image", "problem": "But"}


def create_container(options: argparse.Namespace) -> None:
    """Make a container and start it, or only say what would come of it."""
    if options.image and (options.framework or options.version):
        options.parser.error("--image takes the place of a framework")
    service, query = open_service(options), make_query(options)
    wanted = read_wish(options)
    name = options.name
    if not name or options.guided:
        with leaving():
            wizard = Wizard(open_terminal(guided=options.guided), service, query)
            name, wanted = wizard.complete(name, wanted)
            found = check(service, name, wanted, query)
            if not wizard.confirm(found, asks=not options.dry_run):
                _print_check(options, found)
                return
    elif options.dry_run:
        wanted = add_own_image(service, name, wanted, query)
        _print_check(options, check(service, name, wanted, query))
        return
    wanted = add_own_image(service, name, wanted, query)
    start(service, name, query, wanted, quiet=options.json)
    made = service.get(name_path(name), query)
    if options.json:
        print_json(made)
    else:
        print(f"{name} runs. Open a shell in it: ds01 container run {name}")


def read_wish(options: argparse.Namespace) -> dict[str, Any]:
    """Return the user options that the command line asks for.

    Raises:
        RequestRefused: what is said of the GPU cannot be read.
    """
    wanted: dict[str, Any] = {
        "profile": options.profile,
        "framework": options.framework,
        "framework_version": options.version,
        "base_image": options.image,
        "workspace_dir": _find_path(options.workspace),
        "data_dir": _find_path(options.data),
        "models_dir": _find_path(options.models),
        "cpus": options.cpus,
        "memory": options.memory,
        "shm_size": options.shm_size,
        "pids_limit": options.pids_limit,
    }
    if options.cpu_only:
        wanted["gpu_profile"] = NO_GPU
    elif options.gpu:
        wanted |= read_gpu(options.gpu)
    return {key: value for key, value in wanted.items() if value not in ("", None)}


def add_own_image(
    service: LocalService, name: str, wanted: dict[str, Any], query: dict[str, str]
) -> dict[str, Any]:
    """Take the image that she made for this NAME, where nothing else is said about what runs in it."""
    if wanted.keys() & {"framework", "base_image"}:
        return wanted
    own = service.get("selection", query)["images"].get(name)
    if own is None:
        return wanted
    print(f"ds01: It is made from your image {own}.", file=sys.stderr)
    return {**wanted, "base_image": own}


def read_gpu(text: str) -> dict[str, Any]:
    """Return what `1g.10gb` or `full:2` asks for.

    Raises:
        RequestRefused: it is written otherwise.
    """
    found = _GPU.fullmatch(text)
    if found is None or not 1 <= int(found[2] or 1) <= MOST_GPUS:
        raise RequestRefused(f"{text[:40]!r} is no GPU: write a profile such as 1g.10gb, or full:2 for two.")
    return {"gpu_profile": found[1], "gpu_count": int(found[2] or 1)}


def _find_path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text)) if text else ""


def check(service: LocalService, name: str, wanted: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
    """Return in sentences what a start would give and cost, and why it would be refused."""
    return service.post("check", {**query, "server": name}, {"options": wanted})


def _print_check(options: argparse.Namespace, found: dict[str, Any]) -> None:
    if options.json:
        print_json(found)
        return
    if not options.dry_run:
        print("ds01: Nothing was changed.", file=sys.stderr)
        return
    if found["problem"]:
        raise RequestRefused(found["problem"])
    print(describe_check(found))


def describe_check(found: Mapping[str, Any]) -> str:
    """Return what a start would come to, as lines."""
    return align([(f"{said}:", show(found[key])) for key, said in _SAID.items() if found[key]])
