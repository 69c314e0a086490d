"""The real nvidia-ml-py on the simulated library, in a process of its own, read by our adapter."""

from __future__ import annotations

import ctypes
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from ds01_spawner.adapters.box import read_box
from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.inventory import explain_gpu_error
from ds01_spawner.model import Inventory, UnreadableGpu

from .build import find_header, write_stubs
from .cdi import write_cdi_spec
from .machine import A100, DEMO, run_python, write

READ = """
import pathlib, pickle, sys
from ds01_spawner.adapters.nvml import read_inventory
from ds01_spawner.errors import InventoryUnavailable
try:
    answer = read_inventory(pathlib.Path({capabilities!r}))
except InventoryUnavailable as exc:
    answer = exc.message
sys.stdout.buffer.write(pickle.dumps(answer))
"""


def read(library: Path, box: Path | None, capabilities: Path = Path("/nowhere")) -> Inventory | str:
    code = READ.format(capabilities=str(capabilities))
    answer = pickle.loads(run_python(code, library, box))
    assert isinstance(answer, Inventory | str)
    return answer


def as_nvml_reads(box: Path) -> Inventory:
    """Return what a box file says, without the capabilities, of which NVML knows nothing."""
    found = read_box(box)
    slots = tuple(replace(slot, device_nodes=slot.device_nodes[:1]) for slot in found.slots)
    return replace(found, slots=slots, simulated=False)


def test_the_demos_machine_reads_the_same_through_nvml_and_from_its_box_file(library: Path) -> None:
    expected = as_nvml_reads(DEMO)
    assert len(expected.slots) == 8
    assert read(library, DEMO) == expected


def test_every_kind_of_gpu_reads_the_same_through_nvml_and_from_its_box_file(
    library: Path, tmp_path: Path
) -> None:
    box = write(
        tmp_path / "box",
        "driver 570.86.10 # the newest",
        f"gpu 0 uuid=GPU-a {A100} mig=on",
        "mig 0:6 uuid=MIG-late profile=1g.10gb+me gi=13 ci=0 slices=1 memory_mib=9728",
        "mig 0:1 uuid=MIG-early profile=4g.40gb gi=1 ci=0 slices=4 memory_mib=40448",
        f"gpu 1 uuid=GPU-b {A100} mig=on lost=1",
        "mig 1:0 uuid=MIG-lost profile=7g.80gb gi=0 ci=0 slices=7 memory_mib=80384",
        f"gpu 2 uuid=GPU-c {A100} mig=on # no instance was made yet",
        'gpu 3 uuid=GPU-d name="NVIDIA L40S" memory_mib=46068 cc=8.9 mig=none',
        'gpu 4 uuid=GPU-e name="NVIDIA A30" memory_mib=24576 cc=8.0 mig=on max_mig=4',
        "mig 4:3 uuid=MIG-a30 profile=1g.6gb gi=3 ci=0 slices=1 memory_mib=5952",
    )
    inventory = read(library, box)
    assert isinstance(inventory, Inventory)
    assert [slot.uuid for slot in inventory.slots] == ["MIG-early", "MIG-late", "GPU-d", "MIG-a30"]
    assert [gpu.index for gpu in inventory.gpus] == [0, 2, 3, 4]
    assert inventory.unreadable == (UnreadableGpu(index=1, why=explain_gpu_error(1, 15)),)
    assert inventory == as_nvml_reads(box)


# As NVIDIA's driver tells them in /proc/driver/nvidia/capabilities.
CAPABILITIES = {
    "gpu0/mig/gi1/access": 12,
    "gpu0/mig/gi1/ci0/access": 13,
    "gpu0/mig/gi7/access": 66,
    "gpu0/mig/gi7/ci1/access": 68,
    "gpu1/mig/gi0/access": 138,
    "gpu1/mig/gi0/ci0/access": 139,
}


def test_the_nodes_of_an_instance_are_its_gpus_and_those_of_its_capabilities(
    library: Path, tmp_path: Path
) -> None:
    for name, minor in CAPABILITIES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 256\nDeviceFileModify: 1\n")
    box = write(
        tmp_path / "box",
        f"gpu 0 uuid=GPU-a {A100} mig=on",
        "mig 0:0 uuid=MIG-a profile=4g.40gb gi=1 ci=0 slices=4 memory_mib=40448",
        "mig 0:1 uuid=MIG-b profile=1g.10gb gi=7 ci=1 slices=1 memory_mib=9728",
        f"gpu 1 uuid=GPU-b {A100} mig=on",
        "mig 1:0 uuid=MIG-c profile=7g.80gb gi=0 ci=0 slices=7 memory_mib=80384",
        f"gpu 2 uuid=GPU-c {A100} mig=off",
    )
    inventory = read(library, box, tmp_path)
    assert inventory == replace(read_box(box), simulated=False)
    assert {slot.uuid: slot.device_nodes for slot in inventory.slots} == {
        "MIG-a": ("nvidia0", "nvidia-cap12", "nvidia-cap13"),
        "MIG-b": ("nvidia0", "nvidia-cap66", "nvidia-cap68"),
        "MIG-c": ("nvidia1", "nvidia-cap138", "nvidia-cap139"),
        "GPU-c": ("nvidia2",),
    }


@pytest.mark.parametrize("told", ["", "DeviceFileMode: 256\n"])
def test_capabilities_that_are_not_told_whole_are_left_out(library: Path, tmp_path: Path, told: str) -> None:
    folder = tmp_path / "gpu0/mig/gi7"
    (folder / "ci0").mkdir(parents=True)
    (folder / "access").write_text("DeviceFileMinor: 66\n")
    (folder / "ci0" / "access").write_text(told)
    box = write(
        tmp_path / "box",
        f"gpu 0 uuid=GPU-a {A100} mig=on",
        "mig 0:1 uuid=MIG-a profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728",
    )
    assert read(library, box, tmp_path) == as_nvml_reads(box)


def test_a_gpu_whose_instances_make_no_sense_is_unreadable_by_its_uuid(library: Path, tmp_path: Path) -> None:
    box = write(
        tmp_path / "box",
        f"gpu 0 uuid=GPU-a {A100} mig=on",
        "mig 0:0 uuid=MIG-a profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=99999",
        f"gpu 1 uuid=GPU-b {A100} mig=off",
    )
    inventory = read(library, box)
    assert isinstance(inventory, Inventory)
    assert [slot.uuid for slot in inventory.slots] == ["GPU-b"]
    (unreadable,) = inventory.unreadable
    assert (unreadable.index, unreadable.uuid) == (0, "GPU-a")
    assert "is no MIG instance" in unreadable.why


@pytest.mark.parametrize("code", [9, 12, 18, 999])
def test_a_driver_that_does_not_start_is_told_in_the_same_words(
    library: Path, tmp_path: Path, code: int
) -> None:
    box = write(tmp_path / "box", f"init {code}")
    with pytest.raises(InventoryUnavailable) as refused:
        read_box(box)
    assert read(library, box) == refused.value.message


def test_a_machine_without_a_box_has_no_driver(library: Path) -> None:
    message = read(library, None)
    assert isinstance(message, str)
    assert "driver is not loaded" in message


def test_a_machine_without_the_library_is_told_so(tmp_path: Path) -> None:
    message = read(tmp_path / "nothing-here.so", DEMO)
    assert isinstance(message, str)
    assert "library is not installed" in message


def test_a_box_that_changes_is_a_machine_that_changes(library: Path, tmp_path: Path) -> None:
    box = write(tmp_path / "box", f"gpu 0 uuid=GPU-a {A100} mig=on")
    changed = box.read_text() + "\nmig 0:2 uuid=MIG-new profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728"
    code = f"""
import json, pathlib
from ds01_spawner.adapters.nvml import read_inventory
before = read_inventory()
pathlib.Path({str(box)!r}).write_text({changed!r})
print(json.dumps([[slot.index for slot in found.slots] for found in (before, read_inventory())]))
"""
    assert json.loads(run_python(code, library, box)) == [[], ["0:2"]]


def test_calls_answer_as_nvidia_documents_them(library: Path, tmp_path: Path) -> None:
    box = write(
        tmp_path / "box",
        "driver 570.86.10",
        "cuda 12080",
        f"gpu 0 uuid=GPU-a {A100} mig=on",
        "mig 0:1 uuid=MIG-a profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728",
        f"gpu 1 uuid=GPU-b {A100} mig=off",
        "util 1 gpu=35 memory=10",
        "process MIG-a pid=41 memory_mib=100",
        "process MIG-a pid=42 memory_mib=200",
        f"gpu 2 uuid=GPU-c {A100} mig=none",
        f"gpu 3 uuid=GPU-lost {A100} mig=none lost=1",
    )
    code = """
import ctypes, json
import pynvml
from pynvml import *
nvmlInit()
def ask(function, *arguments):
    try:
        return function(*arguments)
    except NVMLError as exc:
        return f"error {exc.value}"
cut, whole, plain = (nvmlDeviceGetHandleByIndex(index) for index in range(3))
instance = nvmlDeviceGetHandleByUUID("MIG-a")
short = c_uint(1)
room = (c_nvmlProcessInfo_v3_t * 1)()
print(json.dumps({
    "driver": nvmlSystemGetDriverVersion(),
    "cuda": nvmlSystemGetCudaDriverVersion(),
    "MIG mode": [ask(nvmlDeviceGetMigMode, gpu) for gpu in (cut, whole, plain)],
    "places": [ask(nvmlDeviceGetMaxMigDeviceCount, gpu) for gpu in (cut, whole, plain)],
    "empty place": ask(nvmlDeviceGetMigDeviceHandleByIndex, cut, 0),
    "name": nvmlDeviceGetName(instance),
    "ids": [nvmlDeviceGetGpuInstanceId(instance), nvmlDeviceGetComputeInstanceId(instance)],
    "parent": nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)),
    "use of cut": [ask(nvmlDeviceGetUtilizationRates, handle) for handle in (instance, cut)],
    "use of whole": nvmlDeviceGetUtilizationRates(whole).gpu,
    "unknown": ask(nvmlDeviceGetHandleByUUID, "GPU-nobody"),
    "lost": [ask(nvmlDeviceGetHandleByUUID, "GPU-lost"), ask(nvmlDeviceGetHandleByIndex, 3)],
    "processes": [found.pid for found in nvmlDeviceGetComputeRunningProcesses_v3(instance)],
    "of the parent": [found.gpuInstanceId for found in nvmlDeviceGetComputeRunningProcesses_v3(cut)],
    "of the other": nvmlDeviceGetComputeRunningProcesses_v3(whole),
    "short": pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3(instance, ctypes.byref(short), room),
    "used": nvmlDeviceGetMemoryInfo(instance).used >> 20,
    "used, v2": nvmlDeviceGetMemoryInfo(instance, nvmlMemory_v2).used >> 20,
    "stub": ask(nvmlDeviceGetFanSpeed, whole),
}))
"""
    assert json.loads(run_python(code, library, box)) == {
        "driver": "570.86.10",
        "cuda": 12080,
        "MIG mode": [[1, 1], [0, 0], "error 3"],
        "places": [7, 0, 0],
        "empty place": "error 6",
        "name": "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "ids": [7, 0],
        "parent": "GPU-a",
        "use of cut": ["error 3", "error 3"],
        "use of whole": 35,
        "unknown": "error 6",
        "lost": ["error 15", "error 15"],
        "processes": [41, 42],
        "of the parent": [7, 7],
        "of the other": [],
        "short": 7,
        "used": 300,
        "used, v2": 300,
        "stub": "error 3",
    }


def test_events_answer_as_nvidia_documents_them(library: Path, tmp_path: Path) -> None:
    box = write(
        tmp_path / "box",
        f"gpu 0 uuid=GPU-a {A100} mig=on",
        "mig 0:1 uuid=MIG-a profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728",
        f"gpu 1 uuid=GPU-b {A100} mig=off",
        f"gpu 2 uuid=GPU-c {A100} mig=none events=0",
        "xid GPU-b 48 # of a GPU that nobody listens to",
    )
    code = f"""
import json, pathlib, threading
from pynvml import *
box = pathlib.Path({str(box)!r})
def ask(function, *arguments):
    try:
        return function(*arguments)
    except NVMLError as exc:
        return f"error {{exc.value}}"
def wait(events, milliseconds):
    data = ask(nvmlEventSetWait_v2, events, milliseconds)
    return data if isinstance(data, str) else [nvmlDeviceGetUUID(data.device), data.eventType, data.eventData]
before = ask(nvmlEventSetCreate)
nvmlInit()
events, others = nvmlEventSetCreate(), nvmlEventSetCreate()
cut, whole, mute = (nvmlDeviceGetHandleByIndex(index) for index in range(3))
instance = nvmlDeviceGetHandleByUUID("MIG-a")
kinds = (nvmlEventTypeXidCriticalError, nvmlEventTypeClock)
answers = {{
    "before the start": before,
    "supported": [nvmlDeviceGetSupportedEventTypes(handle) for handle in (cut, mute)],
    "register": [ask(nvmlDeviceRegisterEvents, handle, kinds[0], events) for handle in (cut, instance, mute)],
    "register for a clock": ask(nvmlDeviceRegisterEvents, cut, kinds[1], events),
    "nothing": wait(events, 0),
}}
writer = threading.Thread(target=lambda: box.write_text(box.read_text() + "\\nxid GPU-a 79"))
writer.start()
answers["added while it waits"] = wait(events, 60000)
writer.join()
answers["delivered"] = wait(events, 0)
nvmlDeviceRegisterEvents(cut, kinds[0], others)
answers["the other set"] = [wait(others, 0), wait(others, 0)]
nvmlEventSetFree(events)
nvmlInit()
nvmlShutdown()
answers["one of two starts is left"] = nvmlDeviceGetCount()
nvmlShutdown()
answers["after the end"] = [ask(nvmlDeviceGetCount), wait(others, 0), ask(nvmlShutdown)]
print(json.dumps(answers))
"""
    assert json.loads(run_python(code, library, box)) == {
        "before the start": "error 1",
        "supported": [8, 0],
        "register": [None, "error 3", "error 3"],
        "register for a clock": "error 3",
        "nothing": "error 10",
        "added while it waits": ["GPU-a", 8, 79],
        "delivered": "error 10",
        "the other set": [["GPU-a", 8, 79], "error 10"],
        "one of two starts is left": 3,
        "after the end": ["error 1"] * 3,
    }


def test_every_function_of_the_header_is_in_the_library(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    names = [line.split("(")[0][4:] for line in write_stubs(find_header().read_text(), "").splitlines()]
    assert len(names) > 300
    assert [name for name in names if not hasattr(loaded, name)] == []


def test_a_cdi_spec_gives_each_slot_its_gpus_node_and_capabilities_of_its_own(tmp_path: Path) -> None:
    spec = json.loads(write_cdi_spec(DEMO, tmp_path).read_text())
    paths = {
        device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]]
        for device in spec["devices"]
    }
    assert paths["2"] == ["/dev/nvidia2"]
    assert paths["1:3"][0] == "/dev/nvidia1"
    assert paths["1:3"] == paths["MIG-5a1e0000-0000-5000-8000-000000000103"]
    assert "0" not in paths
    assert set(paths["all"]) == {path for found in paths.values() for path in found}
    capabilities = [path for name, found in paths.items() if ":" in name for path in found[1:]]
    assert len(set(capabilities)) == len(capabilities) == 14
