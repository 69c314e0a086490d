"""GPUs and their slots: what there is, what marks them, and for whom they are reserved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from fractions import Fraction

NO_GPU = "none"
FULL_GPU = "full"
LOCAL_NODE = "local"
MOST_GPUS = 16  # of one server
ALL_DEVICES = "all"
"""Stands among a container's devices for a request of every GPU."""


def name_gpu(profile: str) -> str:
    """Return a GPU profile as it is shown; NVIDIA's own spelling but for a full GPU."""
    return "full GPU" if profile == FULL_GPU else profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One GPU or one MIG instance of a node, keyed by its UUID.

    `index` is what a person reads: `0` for a GPU, `0:1` for a MIG instance. `profile` is NVIDIA's
    spelling of the MIG profile (`1g.10gb`) or `full`. `gpu_uuid` is the physical GPU it lies on,
    its own UUID for a full GPU. `fault` says why it must not be handed out, empty when healthy.
    `device_nodes` are the nodes in /dev that a container of it needs, as `devices` names them: its GPU's,
    then those of a MIG instance's capabilities; what nobody could read is left out.
    """

    uuid: str
    index: str
    profile: str
    gpu_uuid: str
    gpu_name: str
    memory_mib: int
    share: Fraction
    node: str = LOCAL_NODE
    fault: str = ""
    device_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleDevices:
    """The device nodes of GPUs and MIG instances in a running container, as `devices` names them.

    A `privileged` container has every node of the host.
    """

    nodes: frozenset[str]
    privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A physical GPU as NVML names it; `compute_capability` is (major, minor)."""

    uuid: str
    index: int
    name: str
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableGpu:
    """A GPU that is there and cannot be read, since it is lost or fails a call.

    `index` is NVML's; `uuid` is "" where NVML does not give even that, as for a lost GPU. `why` is a
    sentence for the admin.
    """

    index: int
    why: str
    uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All that one reading of NVML (or of a box file) says of this machine.

    `slots` and `gpus` are what could be read whole. Which slots an `unreadable` GPU has is not known:
    none of them is in `slots`, and none of them is gone.
    """

    slots: tuple[Slot, ...]
    gpus: tuple[Gpu, ...]
    unreadable: tuple[UnreadableGpu, ...] = ()
    simulated: bool = False


class SlotState(str, Enum):
    """What a slot is at one moment, in the words of `ds01 gpu status`."""

    FREE = "free"
    PENDING = "pending"
    LEASED = "leased"
    HELD = "held"
    RESERVED = "reserved"
    EXTERNAL = "external"
    CONTESTED = "contested"
    UNHEALTHY = "unhealthy"
    DRAINED = "drained"


class MarkKind(str, Enum):
    """Why a slot is not handed out, whoever leases it: each is a `SlotState` too."""

    EXTERNAL = "external"
    CONTESTED = "contested"
    UNHEALTHY = "unhealthy"
    DRAINED = "drained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One reason not to hand out a slot; `slot` is its UUID, `why` a sentence for whoever asks.

    `external` and `contested` come and go with containers that are not ours, `unhealthy` with what
    NVML says; `drained` is an admin's, named by `who`, or the self-test's, and stays until an admin ends it.
    """

    slot: str
    kind: MarkKind
    why: str
    since: datetime
    who: str = ""
    node: str = LOCAL_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A window of time, `start` included and `end` not, in which slots belong to one user.

    `gpus` are as the admin wrote them: `0`, `0:1`, or a UUID. `devices` are the UUIDs of GPUs or MIG
    instances that they meant when they were first read, empty until then; a GPU means all its slices.
    """

    user: str
    start: datetime
    end: datetime
    gpus: tuple[str, ...]
    reason: str = ""
    devices: tuple[str, ...] = ()

    def covers(self, slot: Slot) -> bool:
        return slot.uuid in self.devices or slot.gpu_uuid in self.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """How many slots of one profile there are, and how many of them are free now."""

    profile: str
    total: int
    free: int
    memory_mib: int
    share: Fraction
