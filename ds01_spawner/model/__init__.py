"""The values that every room shares, frozen and without I/O.

Memory is in bytes unless a name says `_mib`; times are timezone-aware UTC; a share of a GPU is a
`Fraction` (1 is a whole GPU). `None` in `Limits` means unlimited.
"""

from .containers import (
    RUNNING_STATES,
    Account,
    Container,
    Mount,
    MountWish,
)
from .gpus import (
    ALL_DEVICES,
    FULL_GPU,
    LOCAL_NODE,
    MOST_GPUS,
    NO_GPU,
    Availability,
    Gpu,
    Inventory,
    Mark,
    MarkKind,
    Reservation,
    Slot,
    SlotState,
    UnreadableGpu,
    name_gpu,
)
from .images import (
    BaseImage,
    BuildOutcome,
    BuildRecord,
    BuiltImage,
    CatalogEntry,
    ImageSpec,
    ImageUse,
    PackageProblem,
)
from .leases import (
    Event,
    GpuWish,
    Holdings,
    Lease,
    LeaseState,
    QueueEntry,
)
from .limits import (
    Limits,
    LimitsTexts,
)
from .servers import (
    DEFAULT_SERVER,
    NO_USE_CASE,
    UNLISTED_CHOICE,
    Profile,
    ProfileChoice,
    ProfileOption,
    ServerDefaults,
    ServerRequest,
)

__all__ = [
    "ALL_DEVICES",
    "DEFAULT_SERVER",
    "FULL_GPU",
    "LOCAL_NODE",
    "MOST_GPUS",
    "NO_GPU",
    "NO_USE_CASE",
    "RUNNING_STATES",
    "UNLISTED_CHOICE",
    "Account",
    "Availability",
    "BaseImage",
    "BuildOutcome",
    "BuildRecord",
    "BuiltImage",
    "CatalogEntry",
    "Container",
    "Event",
    "Gpu",
    "GpuWish",
    "Holdings",
    "ImageSpec",
    "ImageUse",
    "Inventory",
    "Lease",
    "LeaseState",
    "Limits",
    "LimitsTexts",
    "Mark",
    "MarkKind",
    "Mount",
    "MountWish",
    "PackageProblem",
    "Profile",
    "ProfileChoice",
    "ProfileOption",
    "QueueEntry",
    "Reservation",
    "ServerDefaults",
    "ServerRequest",
    "Slot",
    "SlotState",
    "UnreadableGpu",
    "name_gpu",
]
