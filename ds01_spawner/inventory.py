"""What NVML's numbers mean here: the share of a GPU, its architecture, and what a failed start says.

Guarantees: one reading of the same numbers gives one answer, whether they come from NVML or from a box
file. A share is never taken from a profile's name: `1g.10gb` is another thing on another GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from .model import Inventory

# Compute capability as far as it decides, and AIME's name for it in the catalog of images.
_ARCHITECTURES = {
    7: "CUDA",
    8: "CUDA_AMPERE",
    9: "CUDA_ADA",
    10: "CUDA_BLACKWELL",
    12: "CUDA_BLACKWELL",
}
_ADA = (8, 9)

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


def explain_init_error(code: int) -> str:
    """Return the sentence for a person when NVML did not start; `code` is NVML's own."""
    cause = _INIT_ERRORS.get(code, f"NVIDIA's management library failed with error {code}")
    return (
        f"The GPUs of this machine cannot be used now: {cause}. "
        "Start a server without a GPU, or tell the admin, who can look with `nvidia-smi`."
    )
