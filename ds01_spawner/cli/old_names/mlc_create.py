"""The arguments of AIME's `mlc-create`, of versions 1 and 2 and as DS01 patched it, as those of today.

What the limits decide today is accepted, left out, and said; so are GPUs by name, since the allocator
chooses them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from ...errors import RequestRefused
from ...model import FULL_GPU

# A kind of GPU, such as 1g.10gb or full:2, and no GPU by name.
_KIND = re.compile(rf"(?:\d+g\.\d+gb(?:\+[\w.]+)*|{FULL_GPU})(?::\d+)?")
_KEPT = ("workspace", "data", "models", "cpus", "memory", "shm_size", "pids_limit")
# Each with the sentence that says why it has no effect.
_IGNORED = {
    "architecture": "The architecture is that of this machine's GPUs",
    "cgroup_parent": "The cgroup is that of your group in the limits file",
    "memory_swap": "The swap is as the limits file has it",
    "tmpfs": "Temporary files have the room that the limits file gives",
}


class _Reader(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestRefused(f"{message[:1].upper()}{message[1:]}.")


def translate_create(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments of `ds01 container create`, and sentences about what is otherwise today.

    Raises:
        RequestRefused: they are none of mlc-create's.
    """
    old = _make_reader().parse_intermixed_args(list(arguments))
    if len(old.words) > 3:
        raise RequestRefused(f"There is one word too many, {old.words[3]!r}.")
    words, notes = list(old.words), []
    if old.image and len(words) > 1:
        notes.append(f"The image takes the place of {' '.join(words[1:])}.")
        words = words[:1]
    if old.image:
        words += ["--image", old.image]
    for name in _KEPT:
        if getattr(old, name):
            words += [f"--{name.replace('_', '-')}", getattr(old, name)]
    if _KIND.fullmatch(old.gpus):
        words += ["--gpu", old.gpus]
    elif old.gpus:
        notes.append(
            f"No GPU can be named any more, as {old.gpus!r} does: you get what the profile has, and the "
            "allocator chooses which. Ask for a kind with --gpu, such as --gpu 1g.10gb."
        )
    notes += [
        f"{why}; {getattr(old, name)!r} is ignored." for name, why in _IGNORED.items() if getattr(old, name)
    ]
    return tuple(words), tuple(notes)


def _make_reader() -> _Reader:
    reader = _Reader(prog="mlc-create", add_help=False, allow_abbrev=False)
    reader.add_argument("words", nargs="*")
    for dest, *spellings in (
        ("workspace", "-w", "--workspace", "--workspace_dir"),
        ("data", "-d", "--data", "--data_dir"),
        ("models", "-m", "--models", "--models_dir"),
        ("gpus", "-g", "--gpus", "--gpu", "-ng", "--num_gpus"),
        ("architecture", "-arch", "--architecture"),
        ("image", "--image"),
        ("cpus", "--cpus"),
        ("memory", "--memory"),
        ("memory_swap", "--memory-swap"),
        ("shm_size", "--shm-size"),
        ("pids_limit", "--pids-limit"),
        ("tmpfs", "--tmpfs"),
        ("cgroup_parent", "--cgroup-parent"),
    ):
        reader.add_argument(*spellings, dest=dest, default="")
    # Neither says anything today: what is named is not asked.
    reader.add_argument("-s", "--script", "-i", "--interactive", dest="is_script", action="store_true")
    return reader
