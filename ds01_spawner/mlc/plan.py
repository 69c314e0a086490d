"""What a container is created from: its labels, and Docker's arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import RequestRefused
from ..model import Account, Mount
from .names import (
    CUSTOM_IMAGE_LABEL,
    DATA,
    HOST_NETWORK,
    LABEL,
    LEASE_LABEL,
    LOOK_LABEL,
    MANAGED_LABEL,
    MLC_VERSION,
    MODELS,
    WORKSPACE,
)

_HOOK_MOUNTS = "/var/run/nvidia-container-devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """Everything that decides what a container is, gathered before Docker is asked.

    `gpu_wish` is what was asked for, `devices` are the slot UUIDs that were leased for it; `limits` are
    host-config arguments made by the limits; `environment` is the server's. `ulimits` maps a name to
    its value (-1 is unlimited).
    """

    name: str
    project: str
    account: Account
    image: str
    framework: str
    architecture: str
    custom_image: str
    nonce: str
    command: tuple[str, ...]
    port: int
    network: str
    device_mode: str
    gpu_wish: str = ""
    devices: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, object] = field(default_factory=dict)
    ulimits: Mapping[str, int] = field(default_factory=dict)
    image_labels: Mapping[str, str] = field(default_factory=dict)
    group_ids: tuple[int, ...] = ()
    allow_sudo: bool = False
    privileged: bool = False
    host_ipc: bool = False


def labels(plan: ContainerPlan) -> dict[str, str]:
    """Return every label of the container; none has a comma, which would crash `mlc list`.

    A label inherited from the image is overridden when it has a comma, or when it is one of AIME's:
    a base image that somebody committed carries somebody else's name.

    Raises:
        RequestRefused: the image has a label whose name breaks `mlc list`; no name can be taken away.
    """
    _refuse_label_names(plan.image_labels)
    mounts = {mount.target: mount.source for mount in plan.mounts}
    own = {
        LABEL: plan.account.name,
        f"{LABEL}.NAME": plan.project,
        f"{LABEL}.USER": plan.account.name,
        f"{LABEL}.ARCH": plan.architecture or "-",
        f"{LABEL}.MLC_VERSION": MLC_VERSION,
        f"{LABEL}.VERSION": MLC_VERSION,
        f"{LABEL}.WORK_MOUNT": mounts.get(WORKSPACE, "-"),
        f"{LABEL}.DATA_MOUNT": mounts.get(DATA, "-"),
        f"{LABEL}.MODELS_MOUNT": mounts.get(MODELS, "-"),
        f"{LABEL}.FRAMEWORK": plan.framework,
        f"{LABEL}.GPUS": ";".join(plan.devices) or "-",
        CUSTOM_IMAGE_LABEL: plan.custom_image,
        MANAGED_LABEL: "true",
        LEASE_LABEL: plan.nonce,
    }
    inherited = {
        name: value
        for name, value in plan.image_labels.items()
        if "," in value or name.startswith(f"{LABEL}.")
    }
    return {name: value.replace(",", ";") for name, value in (inherited | own).items()}


def look_labels(image_labels: Mapping[str, str], looker: str) -> dict[str, str]:
    """Return the labels of a container by which `looker` looks into an image.

    It lives for a moment only, but whoever lists containers then shall be able to; it is nobody's.

    Raises:
        RequestRefused: as `labels` does.
    """
    _refuse_label_names(image_labels)
    inherited = {
        name: "-" if f"{name}.".startswith(f"{LABEL}.") else value.replace(",", ";")
        for name, value in image_labels.items()
    }
    return inherited | {LOOK_LABEL: looker}


def _refuse_label_names(names: Iterable[str]) -> None:
    # `mlc list` splits at commas and then at `=`: such a name crashes it, or shows another person's.
    for name in names:
        if "," in name or "=" in name:
            raise RequestRefused(
                f"The base image has a label whose name has a comma or an equals sign, {name[:60]!r}. AIME's "
                "mlc list cannot read it. Take another image, or build this one without the label."
            )


def device_requests(mode: str, devices: Sequence[str]) -> list[dict[str, object]]:
    """Return Docker's device requests for the slots `devices`; one request only, never a count."""
    if not devices or mode == "none":
        return []
    if mode == "cdi":
        names = [f"nvidia.com/gpu={device}" for device in devices]
        return [{"Driver": "cdi", "DeviceIDs": names}]
    return [{"Driver": "nvidia", "DeviceIDs": list(devices), "Capabilities": [["gpu"]]}]


def create_kwargs(plan: ContainerPlan) -> dict[str, object]:
    """Return the arguments of docker-py's `create_container`; `host_config` holds those of
    `create_host_config`.

    The container runs unprivileged, as the person, behind an init, without new privileges and
    without capabilities, unless the plan says otherwise.
    """
    _refuse_hook_mounts(plan.mounts)
    environment = dict(plan.environment)
    # Under a default nvidia runtime an image with NVIDIA_VISIBLE_DEVICES=all would get every GPU.
    environment["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {
        "image": plan.image,
        "name": plan.name,
        "command": list(plan.command),
        "entrypoint": [],
        "environment": environment,
        "labels": labels(plan),
        "user": f"{plan.account.uid}:{plan.account.gid}",
        "working_dir": WORKSPACE,
        "ports": {} if plan.network == HOST_NETWORK else {f"{plan.port}/tcp": None},
        "tty": False,
        "stdin_open": False,
        "host_config": _host_config(plan),
    }


def _host_config(plan: ContainerPlan) -> dict[str, object]:
    config: dict[str, object] = {
        # AIME's `open` stops a container with few lines in `docker top` when one leaves its shell: version 2
        # one with two. Version 1 one with three, so templates/start.py adds a process.
        "init": True,
        "auto_remove": False,
        # What a student prints is on the host's disk, and no limit of hers counts it.
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "network_mode": plan.network,
        "mounts": [
            {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
            for mount in plan.mounts
        ],
        "device_requests": device_requests(plan.device_mode, plan.devices),
        "ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in plan.ulimits.items()],
        "group_add": [str(gid) for gid in plan.group_ids],
        "privileged": plan.privileged,
        **plan.limits,
    }
    if plan.host_ipc:
        config["ipc_mode"] = "host"
    if not plan.allow_sudo and not plan.privileged:
        config["security_opt"] = ["no-new-privileges"]
        config["cap_drop"] = ["ALL"]
    return config


def _refuse_hook_mounts(mounts: Sequence[Mount]) -> None:
    # A mount below this path is a request for GPUs to NVIDIA's hook.
    for mount in mounts:
        if mount.target.startswith(_HOOK_MOUNTS):
            raise RequestRefused(f"Nothing can be mounted at {mount.target}. Choose another place.")


def fingerprint(plan: ContainerPlan, image_id: str) -> str:
    """Return a hash of what a resumed container must have in common with a fresh one.

    The environment (tokens) and the nonce differ at each start and do not count; the image counts by
    its content, since its tag moves, and a mount by the directory that it is.
    """
    kwargs = create_kwargs(plan)
    directories = [(mount.target, mount.device, mount.inode) for mount in plan.mounts]
    own = {name: value for name, value in kwargs.items() if name not in ("environment", "labels")}
    text = repr((image_id, plan.gpu_wish, directories, _sorted(own), sorted(_stable_labels(kwargs).items())))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _stable_labels(kwargs: Mapping[str, object]) -> dict[str, str]:
    given = kwargs.get("labels")
    assert isinstance(given, Mapping)
    return {name: value for name, value in given.items() if name != LEASE_LABEL}


def _sorted(value: object) -> object:
    if isinstance(value, Mapping):
        return sorted((str(key), _sorted(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value
