"""The GPUs and MIG instances of this machine, as NVML has them now, and the XIDs that GPUs report.

Guarantees: every call is a fresh reading (nothing is remembered, an admin may change MIG at any time),
the library is shut down again whatever happens, and what cannot be read whole is not offered: a GPU
that answers with an error is told as unreadable and has no slots, NVML itself failing is
InventoryUnavailable.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pynvml

from ds01_spawner.devices import name_capability_node, name_gpu_node
from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.inventory import explain_gpu_error, explain_init_error, share_of
from ds01_spawner.model import FULL_GPU, Gpu, Inventory, Slot, SlotUse, UnreadableGpu

_log = logging.getLogger(__name__)

# nvidia-ml-py has no types: a handle is a pointer that only it looks into.
_Handle = object
_EventSet = object

_MIB = 2**20
_WAIT_MILLISECONDS = 1000
_MIG_NAME = re.compile(r".* MIG (\S+)")
_CAPABILITY_MINOR = re.compile(r"^DeviceFileMinor: *(\d+)$", re.MULTILINE)
CAPABILITIES = Path("/proc/driver/nvidia/capabilities")
"""Where the driver tells the numbers of the nodes that a MIG instance needs besides its GPU's."""


def read_inventory(capabilities: Path = CAPABILITIES) -> Inventory:
    """Read every GPU and its slots: one per MIG instance where MIG is on, else one `full`.

    Raises InventoryUnavailable when NVML does not start or does not answer.
    """
    with _open_nvml():
        return _read_all(capabilities)


def read_uses() -> tuple[SlotUse, ...]:
    """Read how each slot is used now; None where a GPU or an instance gives no answer.

    Raises InventoryUnavailable when NVML does not start or does not answer.
    """
    with _open_nvml():
        return tuple(_read_all_uses())


def listen_for_xids(on_xid: Callable[[str, int], None], *, stop: threading.Event) -> None:
    """Call `on_xid` with a GPU's UUID and the number of every XID that it reports, until `stop` is set.

    Blocks, so it wants a thread of its own; `on_xid` is called there, and what it raises ends this.
    `stop` is seen within about a second. NVML tells no XID from before the call. The UUID is the GPU's
    even if a MIG instance is meant. A GPU that cannot be listened to is passed over with a line in the
    log until the next call; where none of them reports XIDs this only waits for `stop`. As long as it
    listens it is a client of the GPUs, and a reset of one has to wait until it has ended.

    Raises InventoryUnavailable when NVML fails, as it does when one of the GPUs is lost: call it again
    later, and the others are listened to.
    """
    with _open_nvml():
        events = pynvml.nvmlEventSetCreate()
        try:
            uuids = _register_gpus(events)
            while uuids and not stop.is_set():
                reported = _wait_for_xid(events, uuids)
                if reported:
                    on_xid(*reported)
        finally:
            pynvml.nvmlEventSetFree(events)
    stop.wait()


@contextmanager
def _open_nvml() -> Iterator[None]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as exc:
        raise InventoryUnavailable(explain_init_error(exc.value), detail=f"nvmlInit: {exc}") from exc
    try:
        yield
    except pynvml.NVMLError as exc:
        raise InventoryUnavailable(explain_init_error(exc.value), detail=f"NVML: {exc}") from exc
    finally:
        pynvml.nvmlShutdown()


def _read_all(capabilities: Path) -> Inventory:
    gpus: list[Gpu] = []
    slots: list[Slot] = []
    unreadable: list[UnreadableGpu] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        uuid = ""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            gpu = _read_gpu(handle, index, uuid)
            found = list(_read_slots(handle, gpu, capabilities))
        # A GPU that fell off the bus must not take the others' slots with it.
        except pynvml.NVMLError as exc:
            why = explain_gpu_error(index, exc.value)
        except ValueError as exc:
            why = f"GPU {index} cannot be read: {exc}."
        else:
            gpus.append(gpu)
            slots += found
            continue
        _log.warning("A GPU is left out: %s", why)
        unreadable.append(UnreadableGpu(index=index, uuid=uuid, why=why))
    return Inventory(slots=tuple(slots), gpus=tuple(gpus), unreadable=tuple(unreadable))


def _read_gpu(handle: _Handle, index: int, uuid: str) -> Gpu:
    return Gpu(
        uuid=uuid,
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        compute_capability=pynvml.nvmlDeviceGetCudaComputeCapability(handle),
    )


def _read_slots(handle: _Handle, gpu: Gpu, capabilities: Path) -> Iterator[Slot]:
    memory_mib = pynvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB
    if _has_mig_on(handle):
        yield from _read_instances(handle, gpu, memory_mib, capabilities)
    else:
        yield Slot(
            uuid=gpu.uuid,
            index=str(gpu.index),
            profile=FULL_GPU,
            gpu_uuid=gpu.uuid,
            gpu_name=gpu.name,
            memory_mib=memory_mib,
            share=Fraction(1),
            device_nodes=_name_nodes(handle),
        )


def _has_mig_on(handle: _Handle) -> bool:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _read_instances(handle: _Handle, gpu: Gpu, gpu_memory_mib: int, capabilities: Path) -> Iterator[Slot]:
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
            device_nodes=(*_name_nodes(handle), *_name_capabilities(handle, instance, capabilities)),
        )


def _name_nodes(handle: _Handle) -> tuple[str, ...]:
    """Return the GPU's own node; none where it has no number."""
    minor = _read_minor(handle)
    return () if minor is None else (name_gpu_node(minor),)


def _name_capabilities(handle: _Handle, instance: _Handle, capabilities: Path) -> tuple[str, ...]:
    """Return the nodes of a MIG instance's two capabilities; none where the driver does not tell them."""
    gpu_instance = (
        capabilities / f"gpu{_read_minor(handle)}/mig/gi{pynvml.nvmlDeviceGetGpuInstanceId(instance)}"
    )
    compute_instance = gpu_instance / f"ci{pynvml.nvmlDeviceGetComputeInstanceId(instance)}"
    found = []
    for folder in (gpu_instance, compute_instance):
        try:
            told = _CAPABILITY_MINOR.search((folder / "access").read_text())
        except OSError:
            told = None
        if told is None:
            return ()
        found.append(name_capability_node(int(told[1])))
    return tuple(found)


def _read_minor(handle: _Handle) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetMinorNumber(handle))
    except pynvml.NVMLError_NotSupported:
        return None


def _read_all_uses() -> Iterator[SlotUse]:
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if _has_mig_on(handle):
                yield from _read_instance_uses(handle)
            else:
                yield SlotUse(
                    slot=pynvml.nvmlDeviceGetUUID(handle),
                    profile=FULL_GPU,
                    processes=_count_processes(handle),
                    utilisation_percent=_read_utilisation(handle),
                    memory_used_mib=_read_used_memory(handle),
                )
        # A slot that is left out was not seen, and what was not seen is not idle.
        except pynvml.NVMLError as exc:
            _log.warning("how GPU %d is used is not seen: %s", index, explain_gpu_error(index, exc.value))


def _read_instance_uses(handle: _Handle) -> Iterator[SlotUse]:
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except pynvml.NVMLError_NotFound:
            continue
        profile = _MIG_NAME.fullmatch(pynvml.nvmlDeviceGetName(instance))
        yield SlotUse(
            slot=pynvml.nvmlDeviceGetUUID(instance),
            profile=profile[1] if profile else "",
            processes=_count_processes(instance),
            memory_used_mib=_read_used_memory(instance),
        )


def _count_processes(handle: _Handle) -> int | None:
    try:
        return len(pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
    except pynvml.NVMLError:
        return None


def _read_utilisation(handle: _Handle) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:
        return None


def _read_used_memory(handle: _Handle) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) // _MIB
    except pynvml.NVMLError:
        return None


def _register_gpus(events: _EventSet) -> dict[int, str]:
    """Ask every GPU for its XIDs; return the UUIDs of those that will report them, by their handles' address.

    The UUIDs are kept, since a GPU that reports its own loss does not tell its UUID any more.
    """
    uuids: dict[int, str] = {}
    failure: pynvml.NVMLError | None = None
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            _register_gpu(handle, events)
        except pynvml.NVMLError_NotSupported:
            _log.warning("XIDs of GPU %d are not seen: it does not support events.", index)
        except pynvml.NVMLError as exc:
            _log.warning("XIDs of GPU %d are not seen: %s", index, explain_gpu_error(index, exc.value))
            failure = exc
        else:
            uuids[_find_address(handle)] = uuid
    if failure is not None and not uuids:
        raise failure
    return uuids


def _register_gpu(handle: _Handle, events: _EventSet) -> None:
    try:
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError_Unknown as exc:
        # NVML says of this one error that the whole event set is of no use any more.
        raise InventoryUnavailable(explain_init_error(exc.value), detail=f"NVML events: {exc}") from exc


def _wait_for_xid(events: _EventSet, uuids: dict[int, str]) -> tuple[str, int] | None:
    """Return the UUID and the XID of the next report, None if there is none for about a second."""
    try:
        data = pynvml.nvmlEventSetWait_v2(events, _WAIT_MILLISECONDS)
    except pynvml.NVMLError_Timeout:
        return None
    if data.eventType != pynvml.nvmlEventTypeXidCriticalError:
        return None
    uuid = uuids.get(_find_address(data.device)) or pynvml.nvmlDeviceGetUUID(data.device)
    return uuid, data.eventData


def _find_address(handle: _Handle) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
