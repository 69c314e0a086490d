"""The values that every room shares, frozen and without I/O.

Memory is in bytes unless a name says `_mib`; times are timezone-aware UTC; a share of a GPU is a
`Fraction` (1 is a whole GPU). `None` in `Limits` means unlimited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath

LOCAL_NODE = "local"
FULL_GPU = "full"
NO_GPU = "none"
NO_USE_CASE = "none"
DEFAULT_SERVER = "jupyter"

RUNNING_STATES = ("running", "paused", "restarting")
"""Docker's states of a container that has its devices."""
ALL_DEVICES = "all"
"""Stands among a container's devices for a request of every GPU."""
MOST_GPUS = 16  # of one server
UNLISTED_CHOICE = "unlisted-choice"  # in the form: the free text besides the choices


def name_gpu(profile: str) -> str:
    """Return a GPU profile as it is shown; NVIDIA's own spelling but for a full GPU."""
    return "full GPU" if profile == FULL_GPU else profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One GPU or one MIG instance of a node, keyed by its UUID.

    `index` is what a person reads: `0` for a GPU, `0:1` for a MIG instance. `profile` is NVIDIA's
    spelling of the MIG profile (`1g.10gb`) or `full`. `gpu_uuid` is the physical GPU it lies on,
    its own UUID for a full GPU. `fault` says why it must not be handed out, empty when healthy.
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
    NVML says; `drained` is an admin's, named by `who`.
    """

    slot: str
    kind: MarkKind
    why: str
    since: datetime
    who: str = ""
    node: str = LOCAL_NODE


class LeaseState(str, Enum):
    """pending → active → (held) → released."""

    PENDING = "pending"
    ACTIVE = "active"
    HELD = "held"
    RELEASED = "released"

    @property
    def is_live(self) -> bool:
        return self is not LeaseState.RELEASED


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one server to run, and to its slots.

    `slots` are the UUIDs (none for a CPU-only server); `share` is the sum of their shares.
    `server` is the Hub's name of the server ("" is the default server). `nonce` stands on the
    container as a label, so that a create that outlived its caller is found. `deadline` is when a
    pending lease expires, or when a held one ends; an active one has none. `owner` is the process
    that starts the server (`adapters.processes`), "" for none. `ending` says why the lease is being
    ended, "" while it is not: once set, nothing makes it active again. `runs_until` is when the
    server's run time is over, None for no limit.
    """

    id: int
    nonce: str
    user: str
    server: str
    container_name: str
    state: LeaseState
    slots: tuple[str, ...]
    share: Fraction
    created_at: datetime
    deadline: datetime | None = None
    container_id: str | None = None
    fingerprint: str = ""
    group: str = ""
    owner: str = ""
    ending: str = ""
    runs_until: datetime | None = None
    node: str = LOCAL_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWish:
    """What somebody wants of the pool, and her place among all who want: the lower `rank`, the sooner.

    `requested_at` is when she asked, not when her image was built; `runs_until` is when the server
    would have to end at the latest, None for no limit.
    """

    user: str
    profile: str
    count: int
    requested_at: datetime
    allow_full_gpu: bool = True
    priority: int = 0
    runs_until: datetime | None = None

    @property
    def rank(self) -> tuple[int, datetime]:
        return -self.priority, self.requested_at


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One spawn that waits for slots, since `entered_at`; `owner` is the process in which it waits."""

    id: int
    wish: GpuWish
    server: str
    container_name: str
    entered_at: datetime
    owner: str = ""
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
class Event:
    """One line of the history: when, who is concerned (or acted), what happened, and why."""

    id: int
    at: datetime
    kind: str
    who: str
    why: str
    lease_id: int | None = None
    server: str = ""
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one user may have, after groups and overrides were applied; None means unlimited.

    `cpus`, `memory`, `memory_swap`, `shm_size`, `pids_limit` and `storage_tmp` are per container;
    `slots` counts GPUs and MIG instances over all containers of the user, `gpu_share` sums their
    shares, `slots_per_container` is per container. `memory_swap` is Docker's: memory plus swap.
    `written` keeps the limits file's own spelling of a value by field name (`1024m`, not `1g`).
    """

    group: str
    cpus: float | None = None
    memory: int | None = None
    memory_swap: int | None = None
    shm_size: int | None = None
    pids_limit: int | None = None
    storage_tmp: int | None = None
    slots: int | None = None
    gpu_share: Fraction | None = None
    slots_per_container: int | None = None
    allow_full_gpu: bool = True
    containers: int | None = None
    priority: int = 0
    idle_timeout: timedelta | None = None
    max_runtime: timedelta | None = None
    gpu_hold_after_stop: timedelta | None = timedelta(0)
    container_hold_after_stop: timedelta | None = timedelta(0)
    written: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsTexts:
    """DS01's limits: the file, `user-overrides.yaml` and `groups/NAME.members` beside it."""

    path: str
    text: str
    overrides: str = ""
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a user has now: live leases, slots in them, and the sum of their GPU shares."""

    containers: int = 0
    slots: int = 0
    gpu_share: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One line of AIME's `ml_images.repo`."""

    framework: str
    version: str
    architectures: tuple[str, ...]
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """The image a build starts FROM, and how it was found.

    `framework` and `version` are the catalog's own spelling (for a custom base: `custom` and the
    tag). `warning` is a sentence for the person when it is not exactly what she asked for.
    """

    framework: str
    version: str
    architecture: str
    image: str
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDefaults:
    """What the spawner's traits say of a server, once its profile's overrides are set; the same names.

    `use_cases` are the names that the site knows, `none` understood.
    """

    framework: str = ""
    framework_version: str = ""
    base_image: str = ""
    use_case: str = NO_USE_CASE
    packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    gpu_profile: str = NO_GPU
    gpu_count: int = 0
    workspace_dir: str = ""
    data_dir: str = ""
    models_dir: str = ""
    allow_custom_base_image: bool = False
    allow_package_options: bool = False
    allow_mount_options: bool = False
    use_cases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """What one server shall be, after defaults, profile, and every check on its own values.

    `gpu_profile` is a MIG profile, `full` or `none`; `gpu_count` is 0 exactly when it is `none`.
    `base_image` is set instead of framework and version when a custom base was allowed. `cpus`,
    `memory`, `shm_size` and `pids_limit` only lower the user's limits. Packages are normalised
    requirement strings; `requirements` are the lines of an uploaded file, likewise normalised.
    """

    profile: str
    framework: str = ""
    framework_version: str = ""
    base_image: str = ""
    use_case: str = "none"
    packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    gpu_profile: str = NO_GPU
    gpu_count: int = 0
    cpus: float | None = None
    memory: int | None = None
    shm_size: int | None = None
    pids_limit: int | None = None
    workspace_dir: str = ""
    data_dir: str = ""
    models_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChoice:
    """One choice of a profile's option: its slug, what is shown, and the traits it overrides."""

    slug: str
    display_name: str
    default: bool = False
    override: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOption:
    """One `profile_options` entry: a set of choices, and perhaps a free text besides them."""

    slug: str
    display_name: str
    choices: tuple[ProfileChoice, ...]
    unlisted_display_name: str = ""
    unlisted_choice_name: str = ""
    unlisted_pattern: str = ""
    unlisted_message: str = ""
    unlisted_override: Mapping[str, str] = field(default_factory=dict)

    @property
    def allows_unlisted(self) -> bool:
        return bool(self.unlisted_display_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What an admin offers on the options form; `groups` empty means everybody."""

    slug: str
    display_name: str
    description: str = ""
    default: bool = False
    groups: tuple[str, ...] = ()
    options: tuple[ProfileOption, ...] = ()
    override: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """How many slots of one profile there are, and how many of them are free now."""

    profile: str
    total: int
    free: int
    memory_mib: int
    share: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user's account on this machine; `groups` are supplementary (name, gid) pairs."""

    name: str
    uid: int
    gid: int
    home: PurePosixPath
    shell: str = "/bin/bash"
    group_name: str = ""
    groups: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Everything that goes into one built image, in the order of its layers.

    `base_id` is the base image's content id, `runtime_id` that of the image a missing Python is
    copied from ("" when none is configured). Two equal specs give one image.
    """

    base: str
    base_id: str
    hub_version: str
    runtime_image: str = ""
    runtime_id: str = ""
    base_packages: tuple[str, ...] = ()
    base_system_packages: tuple[str, ...] = ()
    use_case: str = "none"
    use_case_packages: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """The image a server runs: its tag and content id, its labels, whether it was built just now."""

    tag: str
    id: str
    was_built: bool
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountWish:
    """A directory to mount: what the settings or the person named, and where it goes."""

    source: str
    target: str
    create: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A bind mount that was opened with the user's own credentials.

    `device` and `inode` identify the directory, so that it can be compared before her code runs.
    """

    source: str
    target: str
    device: int
    inode: int
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as Docker reports it, with what matters here.

    `image` is the reference it was created with; `nonce` is the lease's
    that its label names ("" for none); `devices` are the GPUs it was given, in its maker's words.
    """

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]
    nonce: str = ""
    devices: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING_STATES
