"""A stand-in for NVIDIA's `nvidia-container-runtime-hook`: what it does for a container, without a driver.

Docker runs it as `… BOX prestart` before a container's own program, with the container's state on stdin;
the box file says which devices there are. Guarantees: the last entry of that name in the environment
counts; what it names, and nothing else, gets the device nodes of a CDI spec and a line of the container's
`nvidia-smi`; a container that names an unknown device does not start, for NVIDIA's own reason.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ds01_spawner.adapters.box import read_box
from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.model import FULL_GPU, Slot

from ..simulator.cdi import list_nodes

VARIABLE = "NVIDIA_VISIBLE_DEVICES"
NOTHING = ("", "void", "none")
SMI = Path("/usr/bin/nvidia-smi")
CLONE_NEWNS = 0x20000


class UnknownDevice(Exception):
    """No device of the machine has this name."""


def read_wish(environment: Sequence[str]) -> list[str]:
    """Return the devices that a container's environment names; none for `void`, `none` and nothing."""
    values = dict(entry.partition("=")[::2] for entry in environment)
    wish = values.get(VARIABLE, "")
    return [] if wish in NOTHING else wish.split(",")


def find_slots(names: Sequence[str], slots: Sequence[Slot]) -> list[Slot]:
    """Return the slots that `names` mean, by UUID, index or `all`; a GPU that is cut means all its slices."""
    found: list[Slot] = []
    for name in names:
        meant = [
            slot
            for slot in slots
            if name in ("all", slot.uuid, slot.index, slot.gpu_uuid, slot.index.partition(":")[0])
        ]
        if not meant:
            raise UnknownDevice(name)
        found += [slot for slot in meant if slot not in found]
    return sorted(found, key=slots.index)


def write_listing(slots: Sequence[Slot]) -> str:
    """Return what `nvidia-smi -L` prints where there is nothing but `slots`."""
    lines = []
    for index, (gpu, group) in enumerate(groupby(slots, key=lambda slot: (slot.gpu_name, slot.gpu_uuid))):
        lines.append(f"GPU {index}: {gpu[0]} (UUID: {gpu[1]})\n")
        cut = [slot for slot in group if slot.profile != FULL_GPU]
        lines += [
            f"  MIG {slot.profile:<13} Device {place:>2}: (UUID: {slot.uuid})\n"
            for place, slot in enumerate(cut)
        ]
    return "".join(lines)


def enter(pid: int, root: Path) -> None:
    """Go where the process `pid` sees its files, and take `root` there for the root of all."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/mnt").open("rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), f"the mount namespace of {pid} cannot be entered")
    os.chroot(root)
    os.chdir("/")


def give(slots: Sequence[Slot]) -> None:
    """Make the device nodes of `slots`, and a `nvidia-smi` that lists them, below the root."""
    nodes: dict[str, dict[str, Any]] = {
        str(node["path"]): node for slot in slots for node in list_nodes(slot)
    }
    for path, node in nodes.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mknod(path, stat.S_IFCHR, os.makedev(node["major"], node["minor"]))
        os.chmod(path, node["fileMode"])
    SMI.parent.mkdir(parents=True, exist_ok=True)
    SMI.write_text(f"#!/bin/sh\ncat <<'END'\n{write_listing(slots)}END\n")
    SMI.chmod(0o755)


def prestart(
    box: Path, state: dict[str, Any], *, read: Callable[[Sequence[str]], list[str]] = read_wish
) -> None:
    """Give a container what its environment names; SystemExit, in NVIDIA's words, for what there is not."""
    bundle = Path(state["bundle"])
    config = json.loads((bundle / "config.json").read_text())
    wish = read(config["process"].get("env") or [])
    if not wish:
        return
    try:
        slots = find_slots(wish, read_box(box).slots)
    except InventoryUnavailable:
        sys.exit("nvidia-container-cli: initialization error: nvml error: driver not loaded")
    except UnknownDevice as exc:
        sys.exit(f"nvidia-container-cli: device error: {exc}: unknown device")
    enter(state["pid"], bundle / config["root"]["path"])
    give(slots)


if __name__ == "__main__":
    if sys.argv[2:] == ["prestart"]:
        prestart(Path(sys.argv[1]), json.load(sys.stdin))
