"""What Docker says of a container, ours or anybody's, as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..model import ALL_DEVICES, Container
from .names import CUSTOM_IMAGE_LABEL, LABEL, LEASE_LABEL, LOOK_LABEL, LOOK_NAME


def is_shown_by_aime(container: Container, login: str, uid: int) -> bool:
    """Whether AIME's tools show a container to a person as hers; labels alone would say it of any copy."""
    is_named = container.name.endswith(f"._.{uid}")
    return is_named and container.labels.get(f"{LABEL}.USER") == login


def describe_labels(container: Container) -> tuple[str, str]:
    """Return framework and image of a container as its labels say, "" where they do not."""
    labels = container.labels
    custom = labels.get(CUSTOM_IMAGE_LABEL, "")
    return labels.get(f"{LABEL}.FRAMEWORK", "").strip("-"), custom if custom != "-" else ""


def from_inspect(inspected: Mapping[str, object]) -> Container:
    """Return the container that Docker's inspect JSON describes."""
    state = _mapping(inspected.get("State"))
    config = _mapping(inspected.get("Config"))
    exit_code = state.get("ExitCode")
    names = {str(key): str(value) for key, value in _mapping(config.get("Labels")).items()}
    name = str(inspected.get("Name", "")).lstrip("/")
    return Container(
        id=str(inspected["Id"]),
        name=name,
        image=str(config.get("Image", "")),
        state=str(state.get("Status", "")),
        labels=names,
        nonce=names.get(LEASE_LABEL, ""),
        devices=pinned_devices(inspected),
        exit_code=exit_code if isinstance(exit_code, int) else 0,
        looker=names.get(LOOK_LABEL, "") if name.startswith(LOOK_NAME) else "",
    )


def from_list(row: Mapping[str, object]) -> Container:
    """Return the container of one row of Docker's list, which does not tell its devices."""
    names = {str(key): str(value) for key, value in _mapping(row.get("Labels")).items()}
    return Container(
        id=str(row["Id"]),
        name=str(next(iter(_sequence(row.get("Names"))), "")).lstrip("/"),
        image=str(row.get("Image", "")),
        state=str(row.get("State", "")),
        labels=names,
        nonce=names.get(LEASE_LABEL, ""),
    )


def pinned_devices(inspected: Mapping[str, object]) -> tuple[str, ...]:
    """Return what GPUs a container was given, by anybody's tool, as ids in its own words.

    Ids are an index, `0:1`, a GPU- or MIG-UUID; `all` stands for a count of -1. Read from device
    requests (drivers nvidia, cdi and empty), under the nvidia runtime from the environment (the image's
    is in it), and from device nodes.
    """
    host = _mapping(inspected.get("HostConfig"))
    found: list[str] = []
    for request in _items(host.get("DeviceRequests")):
        if request.get("Driver") in ("", "nvidia", "cdi", None):
            found += [str(item) for item in _sequence(request.get("DeviceIDs"))] or _counted(request)
    if host.get("Runtime") == "nvidia":
        found += _visible(_mapping(inspected.get("Config")))
    for device in _items(host.get("Devices")):
        match = re.fullmatch(r"/dev/nvidia(\d+)", str(device.get("PathOnHost", "")))
        if match:
            found.append(match[1])
    return tuple(dict.fromkeys(device.removeprefix("nvidia.com/gpu=") for device in found))


def _counted(request: Mapping[str, object]) -> list[str]:
    """Return the devices of a request by number: Docker takes the first ones."""
    count = request.get("Count")
    if count == -1:
        return [ALL_DEVICES]
    return [str(index) for index in range(count)] if isinstance(count, int) else []


def _visible(config: Mapping[str, object]) -> list[str]:
    """Return what NVIDIA's runtime reads in the environment, whose last entry holds."""
    entries = dict(str(entry).partition("=")[::2] for entry in _sequence(config.get("Env")))
    devices = [device.strip() for device in entries.get("NVIDIA_VISIBLE_DEVICES", "").split(",")]
    return [device for device in devices if device not in ("void", "none", "")]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


def _items(value: object) -> list[Mapping[str, object]]:
    return [_mapping(item) for item in _sequence(value)]
