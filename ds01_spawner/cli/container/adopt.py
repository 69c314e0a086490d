"""`ds01 container adopt`: one of AIME's containers becomes a server of the Hub's, with its files."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from ...adapters.local_service import LocalService, name_path
from ...errors import DS01Error, NoContainer, RequestRefused
from ..leaving import Abandoned
from ..questions import YesNo, open_terminal
from ..service import make_query, open_service
from ..tables import print_json
from .create import check
from .starting import start

# Of a container that has grown large.
_IMAGE_SECONDS = 3600.0


def adopt_container(options: argparse.Namespace) -> None:
    """Make a server from one of AIME's containers, after asking."""
    service, query, name = open_service(options), make_query(options), options.name
    wanted = {"profile": options.profile} if options.profile else {}
    # The profile's own rules, before anything is made.
    found = check(service, name, {**wanted, "base_image": f"{name.lower()}:aime"}, query)
    if found["problem"]:
        raise RequestRefused(found["problem"])
    if not options.yes:
        prompt = (
            f"Make an image of {name}'s files, set {name} aside as {name}-aime, and start a server from it?"
        )
        if not open_terminal().ask(YesNo(prompt=prompt, default=False)):
            print("ds01: Nothing was changed.", file=sys.stderr)
            return
    image = _begin(service, name, query)
    try:
        start(service, name, query, {**wanted, "base_image": image}, quiet=options.json)
    except DS01Error:
        _give_back(service, name, query)
        raise
    if options.json:
        print_json(service.get(name_path(name), query))
    else:
        print(
            f"{name} runs as a server of the Hub, in the browser and here: ds01 container run {name}. The "
            f"old one stays, stopped, as {name}-aime; once you need it no more: mlc-remove {name}-aime"
        )


def _begin(service: LocalService, name: str, query: dict[str, str]) -> str:
    """Have the image made; returns its name."""
    print(f"ds01: An image is made of {name}'s files, which may take some minutes.", file=sys.stderr)
    patient = LocalService(service.path, seconds=_IMAGE_SECONDS)
    try:
        return str(patient.post(name_path(name, "adopt"), query)["image"])
    except KeyboardInterrupt as exc:
        raise Abandoned(
            f"The image is made all the same, and {name} is set aside as {name}-aime then. The same command "
            "goes on from there."
        ) from exc


def _give_back(service: LocalService, name: str, query: dict[str, str]) -> None:
    """Leave all as it was: a server that did not come up is forgotten, AIME's container has its name back."""
    try:
        # One that was refused is forgotten already.
        with suppress(NoContainer):
            service.post(name_path(name, "remove"), query)
        service.post(name_path(name, "give-back"), query)
    except DS01Error as exc:
        print(f"ds01: {name} stays set aside as {name}-aime: {exc}", file=sys.stderr)
    else:
        print(f"ds01: {name} is again what it was.", file=sys.stderr)
