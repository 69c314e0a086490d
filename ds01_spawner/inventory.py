"""What NVML's numbers mean here: a GPU's share and architecture, its errors, and a failed start.

Guarantees: one reading of the same numbers gives one answer, whether they come from NVML or from a box
file. A share is never taken from a profile's name: `1g.10gb` is another thing on another GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction

from .model import Inventory, Slot

# Compute capability as far as it decides, and AIME's name for it in the catalog of images.
_ARCHITECTURES = {
    7: "CUDA",
    8: "CUDA_AMPERE",
    9: "CUDA_ADA",
    10: "CUDA_BLACKWELL",
    12: "CUDA_BLACKWELL",
}
_ADA = (8, 9)

_GPU_ERRORS = {
    15: "is lost: it does not answer any more, and mostly only a restart of the machine brings it back",
    16: "needs a reset before it can be used again",
}

# XIDs of broken hardware. 13, 31, 43 and 45 are mostly the application's; no other drains a GPU either.
# https://docs.nvidia.com/deploy/xid-errors/
_DRAINING_XIDS = {
    48: "its memory had an error that could not be corrected",
    64: "it could not put a bad part of its memory out of use",
    74: "an NVLink connection of it failed",
    79: "it fell off the bus",
    95: "a memory error was not contained, so any program on it may have lost data",
}

_INIT_ERRORS = {
    9: "the NVIDIA driver is not loaded",
    12: "NVIDIA's management library is not installed",
    18: "the NVIDIA driver and its library have different versions, usually until a reboot after an update",
}


def share_of(slices: int, max_slices: int, memory_mib: int, gpu_memory_mib: int) -> Fraction:
    """Return which part of its GPU a MIG instance takes away from others, above 0 and at most 1.

    The larger of its compute slices (of `max_slices`) and its memory, in steps of one more than there
    are compute slices: an A100 has seven of these and eight of memory. So `1g` is 1/7, `1g` with
    double memory 1/4, `3g` 1/2. Raises ValueError for numbers that no MIG instance has.
    """
    if not (0 < slices <= max_slices and 0 < memory_mib <= gpu_memory_mib):
        raise ValueError(
            f"{slices} of {max_slices} slices with {memory_mib} of {gpu_memory_mib} MiB is no MIG instance"
        )
    steps = max_slices + 1
    memory = Fraction(math.floor(Fraction(memory_mib * steps, gpu_memory_mib) + Fraction(1, 2)), steps)
    return max(Fraction(slices, max_slices), memory)


def architecture_of(compute_capability: tuple[int, int]) -> str:
    """Return AIME's name of the architecture that a (major, minor) compute capability belongs to.

    Empty for a GPU that the catalog has no images for.
    """
    if compute_capability == _ADA:
        return "CUDA_ADA"
    return _ARCHITECTURES.get(compute_capability[0], "")


def find_architecture(named: str, environ: Mapping[str, str], read: Callable[[], Inventory]) -> str:
    """Return the architecture that is named, else `$MLC_ARCH`, else that of the first GPU, "" without one.

    `read` is called only where neither names it; what it raises comes through.
    """
    named = named or environ.get("MLC_ARCH", "")
    if named:
        return named.strip("[]")
    gpus = read().gpus
    return architecture_of(gpus[0].compute_capability) if gpus else ""


def keep_unreadable(known: Iterable[Slot], inventory: Inventory) -> tuple[Slot, ...]:
    """Return the slots of `inventory`, and with a fault those that its unreadable GPUs had before.

    `known` are the slots that the machine had when it was read last. An index alone says little, since
    the order can change when the machine restarts: a slot whose GPU was read, under any index, is gone.
    """
    read = {gpu.uuid for gpu in inventory.gpus}
    why_of_uuid = {gpu.uuid: gpu.why for gpu in inventory.unreadable if gpu.uuid}
    why_of_index = {str(gpu.index): gpu.why for gpu in inventory.unreadable if not gpu.uuid}
    kept = []
    for slot in known:
        why = why_of_uuid.get(slot.gpu_uuid) or why_of_index.get(slot.index.partition(":")[0])
        if why and slot.gpu_uuid not in read:
            kept.append(replace(slot, fault=why))
    return (*inventory.slots, *kept)


def explain_gpu_error(index: int, code: int) -> str:
    """Return the sentence for the admin when the GPU at `index` cannot be read; `code` is NVML's own."""
    cause = _GPU_ERRORS.get(code, f"cannot be read: NVML answers with error {code}")
    return f"GPU {index} {cause}. Look with `nvidia-smi` and in the kernel's log."


def explain_xid(xid: int) -> str:
    """Return the sentence for the admin when an XID means that the GPU must not be used any more.

    Empty for one that does not: it is mostly the application's, or only worth a line in the log.
    """
    cause = _DRAINING_XIDS.get(xid, "")
    if not cause:
        return ""
    return (
        f"The GPU reported XID {xid}: {cause}. Reset it or restart the machine before it is used again, "
        "and have the hardware checked if this comes back."
    )


def explain_init_error(code: int) -> str:
    """Return the sentence for a person when NVML did not start; `code` is NVML's own."""
    cause = _INIT_ERRORS.get(code, f"NVIDIA's management library failed with error {code}")
    return (
        f"The GPUs of this machine cannot be used now: {cause}. "
        "Start a server without a GPU, or tell the admin, who can look with `nvidia-smi`."
    )
