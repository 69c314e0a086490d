"""The GPUs of a simulated machine, read from a box file.

A box file is text: one thing a line, `#` begins a comment, a value with blanks stands in double quotes.

    driver 570.86.10
    cuda 12080
    gpu 0 uuid=GPU-… name="NVIDIA A100-SXM4-80GB" memory_mib=81920 cc=8.0 mig=on max_mig=7
    mig 0:1 uuid=MIG-… profile=1g.10gb gi=3 ci=0 slices=1 memory_mib=9728
    process MIG-… pid=1234 memory_mib=500
    util 1 gpu=35 memory=10
    xid GPU-… 79
    init 18

`gpu` lines count from 0; `mig=none` is a GPU that knows no MIG, `max_mig` is 7 unless told; `lost=1`
is a GPU that fell off the bus, `events=0` one that reports no XIDs. A `mig` line follows its GPU's, its
places may be sparse. `xid` is an XID that the GPU reports, once to everyone who listens, also if the line
was there before; the same line once more is a second report. `init` lets NVML's start fail with that
code. The tests' NVML library reads the same file, and the two must agree.

Guarantees: what NVML would say of that machine, or InventoryUnavailable with the number of the line
that is wrong; nothing unknown is passed over.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ds01_spawner.devices import name_capability_node, name_gpu_node
from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.inventory import explain_gpu_error, explain_init_error, share_of
from ds01_spawner.model import FULL_GPU, Gpu, Inventory, Slot, SlotUse, UnreadableGpu

_log = logging.getLogger(__name__)

_GPU_IS_LOST = 15  # as NVML numbers it
_POLL_SECONDS = 0.2

_WORD = re.compile(r'(?:[^\s"#=]+=)?"[^"]*"|[^\s"#]+|#.*|\S')
_NUMBER = r"[0-9]{1,9}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9.+_/:-]{0,90}"
_VALUES = {
    "uuid": r"(GPU|MIG)-[A-Za-z0-9-]{1,60}",
    "name": r"[ -~]{1,90}",
    "memory_mib": _NUMBER,
    "cc": r"[0-9]{1,2}\.[0-9]",
    "mig": r"on|off|none",
    "max_mig": r"[1-9]",
    "lost": r"[01]",
    "events": r"[01]",
    "profile": _NAME,
    "gi": _NUMBER,
    "ci": _NUMBER,
    "slices": r"[1-9]",
    "pid": _NUMBER,
    "gpu": _NUMBER,
    "memory": _NUMBER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a kind of line looks: its subject, perhaps a number, the keys it must and those it may have."""

    subject: str
    has_number: bool = False
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


_FORMS = {
    "driver": _Form(subject=_NAME),
    "cuda": _Form(subject=_NUMBER),
    "init": _Form(subject=_NUMBER),
    "gpu": _Form(
        subject=_NUMBER,
        required=frozenset({"uuid", "name", "memory_mib", "cc", "mig"}),
        optional=frozenset({"max_mig", "lost", "events"}),
    ),
    "mig": _Form(
        subject=rf"{_NUMBER}:{_NUMBER}",
        required=frozenset({"uuid", "profile", "gi", "ci", "slices", "memory_mib"}),
    ),
    "process": _Form(subject=_VALUES["uuid"], required=frozenset({"pid", "memory_mib"})),
    "util": _Form(subject=_NUMBER, required=frozenset({"gpu", "memory"})),
    "xid": _Form(subject=_VALUES["uuid"], has_number=True),
}


@dataclass(slots=True)
class _Box:
    """What was read so far: GPUs by index, every UUID that was given away, XIDs with their GPU's UUID,
    how many processes each UUID has and what memory they use, and how much each GPU is used, in percent,
    by its index.
    """

    gpus: list[_Device] = field(default_factory=list)
    uuids: set[str] = field(default_factory=set)
    xids: list[tuple[str, int]] = field(default_factory=list)
    processes: Counter[str] = field(default_factory=Counter)
    memory_mib: Counter[str] = field(default_factory=Counter)
    utilisation: dict[int, int] = field(default_factory=dict)
    init_error: int = 0


@dataclass(slots=True, kw_only=True)
class _Device:
    gpu: Gpu
    memory_mib: int
    mig: str
    max_mig: int
    is_lost: bool
    has_events: bool
    instances: dict[int, Slot] = field(default_factory=dict)


def read_box(path: Path) -> Inventory:
    """Read the box file at `path`; `simulated` is true. Raises InventoryUnavailable."""
    return _describe(_load(path))


def read_uses(path: Path) -> tuple[SlotUse, ...]:
    """Return how each slot of the box file at `path` is used. Raises InventoryUnavailable."""
    box = _load(path)
    return tuple(
        SlotUse(
            slot=slot.uuid,
            profile=slot.profile,
            processes=box.processes[slot.uuid],
            utilisation_percent=box.utilisation.get(device.gpu.index, 0) if device.mig != "on" else None,
            memory_used_mib=box.memory_mib[slot.uuid],
        )
        for device in box.gpus
        if not device.is_lost
        for slot in _list_slots(device)
    )


def parse_box(text: str) -> Inventory:
    """Return what NVML would say of the machine that `text` describes.

    Raises ValueError with the number of the wrong line, InventoryUnavailable for an `init` line.
    """
    return _describe(_parse(text))


def listen_for_xids(path: Path, on_xid: Callable[[str, int], None], *, stop: threading.Event) -> None:
    """Do for the box file at `path` what `nvml.listen_for_xids` does for a machine, until `stop` is set.

    A file that says less for a moment changes nothing: what was told once is not told again.
    Raises InventoryUnavailable when the file cannot be read, or says that a GPU is lost now.
    """
    box = _load(path)
    heard = _find_reporting(box)
    told: Counter[tuple[str, int]] = Counter()
    while heard and not stop.is_set():
        written = Counter(xid for xid in box.xids if xid[0] in heard)
        for uuid, xid in (written - told).elements():
            on_xid(uuid, xid)
        told |= written
        if any(device.is_lost and device.gpu.uuid in heard for device in box.gpus):
            raise _tell_loss()
        stop.wait(_POLL_SECONDS)
        box = _load(path)
    stop.wait()


def _find_reporting(box: _Box) -> set[str]:
    """Return the UUIDs of the GPUs whose XIDs are told; raise when there could be some but for a loss."""
    for device in box.gpus:
        if device.is_lost or not device.has_events:
            _log.warning("XIDs of GPU %d are not seen: it is lost, or has no events.", device.gpu.index)
    heard = {device.gpu.uuid for device in box.gpus if device.has_events and not device.is_lost}
    if not heard and any(device.is_lost for device in box.gpus):
        raise _tell_loss()
    return heard


def _tell_loss() -> InventoryUnavailable:
    return InventoryUnavailable(explain_init_error(_GPU_IS_LOST), detail="box file: a GPU is lost")


def _load(path: Path) -> _Box:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InventoryUnavailable(explain_init_error(9), detail=f"box file {path}: {exc}") from exc
    try:
        return _parse(text)
    except ValueError as exc:
        message = "The simulated GPUs of this machine cannot be read. Tell the admin."
        raise InventoryUnavailable(
            f"{message} ({path.name}, {exc})", detail=f"box file {path}: {exc}"
        ) from exc


def _parse(text: str) -> _Box:
    box = _Box()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            _add_line(box, line)
        except ValueError as exc:
            raise ValueError(f"line {number}: {exc}") from exc
    if box.init_error:
        raise InventoryUnavailable(
            explain_init_error(box.init_error), detail=f"box file: init {box.init_error}"
        )
    return box


def _describe(box: _Box) -> Inventory:
    present = [device for device in box.gpus if not device.is_lost]
    lost = [device.gpu.index for device in box.gpus if device.is_lost]
    return Inventory(
        slots=tuple(slot for device in present for slot in _list_slots(device)),
        gpus=tuple(device.gpu for device in present),
        unreadable=tuple(UnreadableGpu(index=i, why=explain_gpu_error(i, _GPU_IS_LOST)) for i in lost),
        simulated=True,
    )


def _add_line(box: _Box, line: str) -> None:
    words = [word for word in _WORD.findall(line) if not word.startswith("#")]
    if not words:
        return
    kind, *rest = words
    form = _FORMS.get(kind)
    if form is None:
        raise ValueError(f"{kind!r} is none of {', '.join(_FORMS)}")
    if not rest or not re.fullmatch(form.subject, rest[0]):
        raise ValueError(f"{kind} is followed by {repr(rest[0]) if rest else 'nothing'}")
    if form.has_number and not re.fullmatch(_NUMBER, rest[1] if len(rest) > 1 else ""):
        raise ValueError(f"a number should follow {rest[0]}")
    values = _read_values(form, rest[2 if form.has_number else 1 :])
    if kind == "gpu":
        _add_gpu(box, int(rest[0]), values)
    elif kind == "mig":
        _add_instance(box, rest[0], values)
    elif kind == "init":
        box.init_error = int(rest[0])
    elif kind == "xid":
        _add_xid(box, rest[0], int(rest[1]))
    elif kind == "process":
        if rest[0] not in box.uuids:
            raise ValueError(f"no GPU or MIG instance before this line is {rest[0]}")
        box.processes[rest[0]] += 1
        box.memory_mib[rest[0]] += int(values["memory_mib"])
    elif kind == "util":
        if int(rest[0]) >= len(box.gpus):
            raise ValueError(f"no GPU before this line is {rest[0]}")
        box.utilisation[int(rest[0])] = int(values["gpu"])


def _read_values(form: _Form, words: list[str]) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key not in form.required | form.optional:
            raise ValueError(f"{word!r} is not known here")
        if key in values:
            raise ValueError(f"{key} stands twice")
        values[key] = value.strip('"')
        if not re.fullmatch(_VALUES[key], values[key]):
            raise ValueError(f"{word!r} has no valid value")
    missing = sorted(form.required - values.keys())
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    return values


def _add_gpu(box: _Box, index: int, values: Mapping[str, str]) -> None:
    if index != len(box.gpus):
        raise ValueError(f"gpu {len(box.gpus)} should come here, not gpu {index}")
    major, minor = values["cc"].split(".")
    gpu = Gpu(
        uuid=_claim_uuid(box, values["uuid"]),
        index=index,
        name=values["name"],
        compute_capability=(int(major), int(minor)),
    )
    box.gpus.append(
        _Device(
            gpu=gpu,
            memory_mib=int(values["memory_mib"]),
            mig=values["mig"],
            max_mig=int(values.get("max_mig", "7")),
            is_lost=values.get("lost") == "1",
            has_events=values.get("events") != "0",
        )
    )


def _add_instance(box: _Box, place: str, values: Mapping[str, str]) -> None:
    gpu_index, index = (int(number) for number in place.split(":"))
    if gpu_index >= len(box.gpus):
        raise ValueError(f"no GPU before this line is {gpu_index}")
    device = box.gpus[gpu_index]
    if device.mig != "on":
        raise ValueError(f"gpu {gpu_index} has mig={device.mig}")
    if index >= device.max_mig or index in device.instances:
        raise ValueError(f"{place} is taken, or past the {device.max_mig} places of gpu {gpu_index}")
    memory_mib = int(values["memory_mib"])
    device.instances[index] = Slot(
        uuid=_claim_uuid(box, values["uuid"]),
        index=f"{gpu_index}:{index}",
        profile=values["profile"],
        gpu_uuid=device.gpu.uuid,
        gpu_name=device.gpu.name,
        memory_mib=memory_mib,
        share=share_of(int(values["slices"]), device.max_mig, memory_mib, device.memory_mib),
        device_nodes=_name_nodes(gpu_index, int(values["gi"]), int(values["ci"])),
    )


def _name_nodes(gpu: int, gpu_instance: int, compute_instance: int) -> tuple[str, ...]:
    """Return the nodes of a MIG instance; its capabilities are numbered as by NVIDIA's open driver."""
    first = 3 + 135 * gpu + 9 * gpu_instance
    capabilities = (first, first + 1 + compute_instance)
    return (name_gpu_node(gpu), *map(name_capability_node, capabilities))


def _add_xid(box: _Box, uuid: str, xid: int) -> None:
    if all(device.gpu.uuid != uuid for device in box.gpus):
        raise ValueError(f"no GPU before this line is {uuid}")
    box.xids.append((uuid, xid))


def _claim_uuid(box: _Box, uuid: str) -> str:
    if uuid in box.uuids:
        raise ValueError(f"{uuid} stands twice")
    box.uuids.add(uuid)
    return uuid


def _list_slots(device: _Device) -> list[Slot]:
    if device.mig == "on":
        return [device.instances[index] for index in sorted(device.instances)]
    full = Slot(
        uuid=device.gpu.uuid,
        index=str(device.gpu.index),
        profile=FULL_GPU,
        gpu_uuid=device.gpu.uuid,
        gpu_name=device.gpu.name,
        memory_mib=device.memory_mib,
        share=Fraction(1),
        device_nodes=(name_gpu_node(device.gpu.index),),
    )
    return [full]
