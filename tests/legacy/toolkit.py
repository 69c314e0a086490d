"""NVIDIA's Container Toolkit as tests install it: programs under its names, which are our stand-ins."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolkit:
    """A folder for dockerd's PATH, the two programs in it, and the box file whose devices they give out."""

    programs: Path
    hook: Path
    runtime: Path
    box: Path


def install(directory: Path) -> Toolkit:
    """Write the programs into a new folder below `directory`; the box file, beside it, is the caller's."""
    programs = directory / "programs"
    programs.mkdir(parents=True)
    toolkit = Toolkit(
        programs=programs,
        hook=programs / "nvidia-container-runtime-hook",
        runtime=programs / "nvidia-container-runtime",
        box=directory / "gpus.box",
    )
    write_program(toolkit.hook, "hook", toolkit.box)
    write_program(toolkit.runtime, "runtime", toolkit.hook)
    return toolkit


@contextmanager
def giving_all(toolkit: Toolkit) -> Iterator[None]:
    """Let the hook give every GPU to every container that has it, `void` or not."""
    write_program(toolkit.hook, "leak", toolkit.box)
    try:
        yield
    finally:
        write_program(toolkit.hook, "hook", toolkit.box)


def write_program(path: Path, module: str, argument: Path) -> None:
    """Write a program that runs a module of this folder with `argument` before its own arguments."""
    command = shlex.join([sys.executable, "-m", f"{__package__}.{module}", str(argument)])
    path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {command} "$@"\n')
    path.chmod(0o755)
