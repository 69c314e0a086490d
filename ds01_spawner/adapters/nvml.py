"""The GPUs and MIG instances of this machine, as NVML has them now.

Guarantees: every call is a fresh reading (nothing is remembered, an admin may change MIG at any time),
the library is shut down again whatever happens, and what cannot be read whole is not offered: a GPU
that answers with an error is left out with a line in the log, NVML itself failing is
InventoryUnavailable.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from fractions import Fraction

import pynvml

from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.inventory import explain_init_error, share_of
from ds01_spawner.model import FULL_GPU, Gpu, Inventory, Slot

_log = logging.getLogger(__name__)

# nvidia-ml-py has no types: a handle is a pointer that only it looks into.
_Handle = object

_MIB = 2**20
_MIG_NAME = re.compile(r".* MIG (\S+)")


def read_inventory() -> Inventory:
    """Read every GPU and its slots: one per MIG instance where MIG is on, else one `full`.

    Raises InventoryUnavailable when NVML does not start or does not answer.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as exc:
        raise InventoryUnavailable(explain_init_error(exc.value), detail=f"nvmlInit: {exc}") from exc
    try:
        return _read_all()
    except pynvml.NVMLError as exc:
        raise InventoryUnavailable(explain_init_error(exc.value), detail=f"NVML: {exc}") from exc
    finally:
        pynvml.nvmlShutdown()


def _read_all() -> Inventory:
    gpus: list[Gpu] = []
    slots: list[Slot] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            gpu = _read_gpu(handle, index)
            found = list(_read_slots(handle, gpu))
        except (pynvml.NVMLError, ValueError) as exc:
            # A GPU that fell off the bus must not take the others' slots with it.
            _log.warning("GPU %d is left out: %s", index, exc)
            continue
        gpus.append(gpu)
        slots += found
    return Inventory(slots=tuple(slots), gpus=tuple(gpus))


def _read_gpu(handle: _Handle, index: int) -> Gpu:
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        compute_capability=pynvml.nvmlDeviceGetCudaComputeCapability(handle),
    )


def _read_slots(handle: _Handle, gpu: Gpu) -> Iterator[Slot]:
    memory_mib = pynvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB
    if _has_mig_on(handle):
        yield from _read_instances(handle, gpu, memory_mib)
    else:
        yield Slot(
            uuid=gpu.uuid,
            index=str(gpu.index),
            profile=FULL_GPU,
            gpu_uuid=gpu.uuid,
            gpu_name=gpu.name,
            memory_mib=memory_mib,
            share=Fraction(1),
        )


def _has_mig_on(handle: _Handle) -> bool:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _read_instances(handle: _Handle, gpu: Gpu, gpu_memory_mib: int) -> Iterator[Slot]:
    """Yield the GPU's MIG instances. Their places can be sparse: an empty one says nothing of the next."""
    places = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    for place in range(places):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except pynvml.NVMLError_NotFound:
            continue
        attributes = pynvml.nvmlDeviceGetAttributes_v2(instance)
        name = pynvml.nvmlDeviceGetName(instance)
        profile = _MIG_NAME.fullmatch(name)
        if profile is None:
            raise ValueError(f"MIG instance {gpu.index}:{place} has a name without a profile: {name!r}")
        yield Slot(
            uuid=pynvml.nvmlDeviceGetUUID(instance),
            index=f"{gpu.index}:{place}",
            profile=profile[1],
            gpu_uuid=gpu.uuid,
            gpu_name=gpu.name,
            memory_mib=attributes.memorySizeMB,
            share=share_of(attributes.gpuInstanceSliceCount, places, attributes.memorySizeMB, gpu_memory_mib),
        )
