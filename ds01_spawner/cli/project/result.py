"""What `ds01 project init` answers at its end, for people and for scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from ..image.folder import show_path
from ..image.parts import say
from .plan import REQUIREMENTS, Found, Plan


@contextmanager
def answering(*, as_json: bool) -> Iterator[None]:
    """Keep stdout for the one object that a script reads: what the steps print goes to stderr."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def describe_result(
    name: str, image: str, folder: Path, recipe: Path, found: Found, plan: Plan
) -> dict[str, object]:
    """Return what there is now, and what of it was made, for scripts."""
    made = list(plan.files)
    made += ["recipe"] if plan.image and not found.recipe else []
    made += ["image"] if plan.image and plan.has_image else []
    made += ["container"] if plan.container else []
    return {
        "name": name,
        "folder": str(folder),
        "recipe": str(recipe),
        "image": image if plan.has_image else None,
        "container": name if found.container or plan.container else None,
        "made": made,
    }


def print_result(name: str, image: str, folder: Path, found: Found, plan: Plan) -> None:
    """Print the same for people."""
    print(f"The project {name} is ready in {show_path(folder)}.")
    if plan.has_image:
        print(f"  Image      {image}")
    if found.container or plan.container:
        print(f"  Container  ds01 container run {name}, and there: cd /workspace/{name}")


def tell_packages(name: str, plan: Plan) -> None:
    """Say how a container that was made from the framework alone gets the project's packages."""
    if plan.container and not plan.has_image:
        say(
            f"The container has the framework alone. What {REQUIREMENTS} lists comes in with: ds01 container "
            f"run {name} -- pip install --user -r /workspace/{name}/{REQUIREMENTS}"
        )
