"""Write the CDI spec that nvidia-ctk would write on the machine of a box file.

With it a real Docker Engine gives a container real device nodes, and only those that were asked for.
The nodes need no driver and no node on the host: type, major and minor are in the spec.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ds01_spawner.adapters.box import read_box
from ds01_spawner.model import Slot

KIND = "nvidia.com/gpu"
SPEC = "simulated-nvidia.json"
GPU_MAJOR = 195
CAPS_MAJOR = 235


def write_cdi_spec(box_path: Path, directory: Path) -> Path:
    """Write the spec of the box's slots into `directory` (replacing the last one), and return its path.

    Devices are named as nvidia-ctk names them: by index (`2`, `0:1`), by UUID, and `all`. A GPU with
    MIG on is no device of its own.
    """
    slots = read_box(box_path).slots
    nodes = {slot.uuid: list_nodes(slot) for slot in slots}
    devices = [
        {"name": name, "containerEdits": {"deviceNodes": nodes[slot.uuid]}}
        for slot in slots
        for name in (slot.index, slot.uuid)
    ]
    unique = {str(node["path"]): node for found in nodes.values() for node in found}
    if slots:
        devices.append({"name": "all", "containerEdits": {"deviceNodes": list(unique.values())}})
    spec = {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": devices,
        # As nvidia-ctk: the hook of a default nvidia runtime must not add what CDI did not give.
        "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"]},
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SPEC
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(spec, indent=1))
    return unfinished.rename(path)


def list_nodes(slot: Slot) -> list[dict[str, object]]:
    """Return one slot's CDI device nodes: its GPU's, and those of a MIG instance's capabilities."""
    return [make_node(name) for name in slot.device_nodes]


def make_node(name: str) -> dict[str, object]:
    """Return the CDI device node of that name, as `devices` names it."""
    kind, number = re.fullmatch(r"(\D+)(\d+)", name).groups()
    folder, major = ("/dev/nvidia-caps", CAPS_MAJOR) if kind == "nvidia-cap" else ("/dev", GPU_MAJOR)
    return {
        "path": f"{folder}/{name}",
        "type": "c",
        "major": major,
        "minor": int(number),
        "fileMode": 0o666,
        "permissions": "rw",
    }
