"""The second Engine of the tests: Debian 12's own Docker, with our stand-ins for NVIDIA's toolkit."""

from __future__ import annotations

import re
from pathlib import Path

from ..conftest import ROOT, PrivateEngine, run_tool
from .toolkit import Toolkit

# Not the one that `engine.py up --legacy` starts by hand: the tests end theirs, and change its settings.
DIRECTORY = ROOT / ".cache" / "engine-legacy-tests"


def bring_up(toolkit: Toolkit, *, with_runtime: bool, directory: Path = DIRECTORY) -> PrivateEngine:
    """Start it anew with the hook on dockerd's PATH, and perhaps NVIDIA's runtime as the default."""
    call("down", directory=directory)
    runtime = ["--nvidia-runtime", str(toolkit.runtime)] if with_runtime else []
    said = call("up", "--programs", str(toolkit.programs), *runtime, directory=directory)
    found = re.search(r"Docker (\S+) on (unix://\S+),", said)
    assert found is not None, said
    assert found[1].startswith("20.10."), said
    specs = directory / "unread-cdi"
    specs.mkdir(exist_ok=True)
    return PrivateEngine(docker_host=found[2], cdi_directory=specs)


def take_down() -> None:
    """End it; its images stay for the next run."""
    call("down")


def call(command: str, *arguments: str, directory: Path = DIRECTORY) -> str:
    """Run a command of tools/engine.py on it, and return what that said."""
    done = run_tool("engine", command, "--legacy", "--directory", str(directory), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
