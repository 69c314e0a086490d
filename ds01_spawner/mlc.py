"""The AIME contract: the names, labels and create arguments that make a container one of AIME's.

`mlc-open`, `mlc list`, `mlc stop` and the others, unchanged, work on what `create_kwargs` describes.
No label of a container is named anywhere else. Every value is a plain string, number, list or dict,
as docker-py's low-level `create_container` and `create_host_config` take them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import NameTaken, RequestRefused
from .model import ALL_DEVICES, DEFAULT_SERVER, Account, Container, Mount

LABEL = "aime.mlc"
LEASE_LABEL = f"{LABEL}.DS01_LEASE"
MANAGED_LABEL = f"{LABEL}.DS01_MANAGED"
BASE_IMAGE_LABEL = f"{LABEL}.BASE_IMAGE"
CUSTOM_IMAGE_LABEL = f"{LABEL}.CUSTOM_IMAGE"
MAINTAINER_LABEL = f"{LABEL}.MAINTAINER"
MAINTAINER_ID_LABEL = f"{LABEL}.MAINTAINER_ID"
LOOK_LABEL = f"{LABEL}.DS01_LOOK"
LOOK_NAME = "ds01-look-"
"""What the names of containers begin with that are made to look into an image."""
MLC_VERSION = "4"

WORKSPACE, DATA, MODELS = "/workspace", "/data", "/models"
HOST_NETWORK = "host"

_SLUG = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
_HOOK_MOUNTS = "/var/run/nvidia-container-devices"


def project_name(server: str) -> str:
    """Return the NAME of the container of the Hub's server `server` ("" is the default server).

    A slug stands for itself; any other name (servers made before JupyterHub had slugs) becomes its
    readable part and a hash behind an underscore, which no slug has, so that two never meet.

    Raises:
        RequestRefused: the name is the one reserved for the default server.
    """
    if server == "":
        return DEFAULT_SERVER
    if server == DEFAULT_SERVER:
        raise RequestRefused(
            f"The name {DEFAULT_SERVER!r} is reserved for your default server. Give this one another name."
        )
    if _SLUG.fullmatch(server):
        return server
    readable = re.sub(r"[^a-z0-9]+", "-", server.lower())[:30].strip("-") or "server"
    return f"{readable}_{hashlib.sha256(server.encode()).hexdigest()[:8]}"


def is_project_name(name: str) -> bool:
    """Whether a server's container is called as the server is, if it has this name."""
    return _SLUG.fullmatch(name) is not None and name != DEFAULT_SERVER


def container_name(server: str, uid: int) -> str:
    """Return `NAME._.UID`, the name under which AIME's tools look for the container."""
    return f"{project_name(server)}._.{uid}"


def refuse_name(container: str, *, detail: str) -> NameTaken:
    """Return the refusal of a container's name that somebody else's container has."""
    return NameTaken(
        f"A container named {container} exists already and was not made by this Hub. Rename or remove it "
        "(mlc remove), or give your server another name.",
        detail=detail,
    )


def image_name(container: str, user: str) -> str:
    """Return the own image tag of the container named `container`, `PROJECT-USER-image:UID`.

    `mlc remove` deletes the image its container was made from: it shall remove a tag, never the
    image that others share. The UID keeps `a-b`/`c` and `a`/`b-c` apart.
    """
    project, _, uid = container.rpartition("._.")
    return f"{own_image_name(project, user)}:{uid}"


def own_image_name(project: str, user: str) -> str:
    """Return `PROJECT-USER-image`, what DS01 calls the image that a person built herself."""
    safe_user = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-") or "user"
    return f"{project}-{safe_user}-image"


def image_labels(
    *, base: str, maintainer: str, maintainer_id: str, custom_image: str
) -> tuple[tuple[str, str], ...]:
    """Return the labels of an image that we build."""
    return (
        (BASE_IMAGE_LABEL, base),
        (MAINTAINER_LABEL, maintainer),
        (MAINTAINER_ID_LABEL, maintainer_id),
        (CUSTOM_IMAGE_LABEL, custom_image),
    )


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
        # `mlc-open` stops a container that has only two lines in `docker top` when one leaves its shell.
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
