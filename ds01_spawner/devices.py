"""Which GPUs the container of some slots must show, and what it shows beyond them or lacks.

A device node is named by what it is and by the number that the driver gave it, whatever it is called
elsewhere: `nvidia0` is a GPU, `nvidia-cap12` the right to a GPU instance or to a compute instance, so that a
MIG instance has three. What a program needs on any GPU (`nvidiactl`, `nvidia-uvm`) is nobody's, and has no
name here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .model import FULL_GPU, Slot, VisibleDevices

_NODE = re.compile(r"(nvidia|nvidia-cap)(\d+)")
_MOST_TOLD = 6


def name_gpu_node(minor: int) -> str:
    """Return the name of a GPU's node by its minor number."""
    return f"nvidia{minor}"


def name_capability_node(minor: int) -> str:
    """Return the name of the node of a MIG capability by its minor number."""
    return f"nvidia-cap{minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A leased slot that a container does not show, or not wholly, and the nodes that are not there."""

    slot: Slot
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a container differs from its lease: slots that it `lacks`, nodes that no `leased` slot has."""

    leased: tuple[Slot, ...]
    lacks: tuple[Lack, ...]
    surplus: tuple[str, ...]

    @property
    def suspects(self) -> tuple[Slot, ...]:
        """Slots to hand out no more: those that are lacking, else all, since any may have brought more."""
        return tuple(lack.slot for lack in self.lacks) or self.leased


def compare(leased: Sequence[Slot], visible: VisibleDevices, *, device_mode: str) -> Difference | None:
    """Return how a container differs from its lease, None if it shows exactly the leased slots.

    `device_mode` says how GPUs are handed over: by `cdi` and by `nvidia` all nodes of the slots are, by
    `none` no node is. Of a slot whose nodes nobody could read nothing is missed, and beside it no node of the
    kind is surplus. In a privileged container none is.
    """
    expected = () if device_mode == "none" else tuple(leased)
    lacks = tuple(
        Lack(slot=slot, nodes=lacking)
        for slot in expected
        if (lacking := tuple(node for node in slot.device_nodes if node not in visible.nodes))
    )
    surplus = () if visible.privileged else _find_surplus(expected, visible.nodes)
    if not lacks and not surplus:
        return None
    return Difference(leased=tuple(leased), lacks=lacks, surplus=surplus)


def _find_surplus(expected: Sequence[Slot], nodes: frozenset[str]) -> tuple[str, ...]:
    known = {
        "nvidia": all(slot.device_nodes for slot in expected),
        "nvidia-cap": all(slot.profile == FULL_GPU or len(slot.device_nodes) > 1 for slot in expected),
    }
    wanted = {node for slot in expected for node in slot.device_nodes}
    return tuple(sorted((node for node in nodes - wanted if known[_parse(node)[0]]), key=_parse))


def _parse(node: str) -> tuple[str, int]:
    match = _NODE.fullmatch(node)
    if match is None:
        raise ValueError(f"{node!r} is no name of a node")
    return match[1], int(match[2])


def tell(found: Difference) -> str:
    """Return what was wrong with a server and what was done, after "Your server", without a full stop."""
    seen = f"{_tell_seen(found)}, so it was stopped"
    if not found.suspects:
        return seen
    names = " and ".join(slot.index or slot.uuid for slot in found.suspects)
    is_one = len(found.suspects) == 1
    return (
        f"{seen}, and {'slot' if is_one else 'slots'} {names} {'was' if is_one else 'were'} taken out of use"
    )


def _tell_seen(found: Difference) -> str:
    if not found.leased:
        return "saw a GPU although none was leased for it"
    if not found.lacks:
        return "saw a GPU that was not leased for it"
    if found.surplus:
        return "saw another GPU than was leased for it"
    return "did not see " + ("the GPU" if len(found.leased) == 1 else "all GPUs") + " leased for it"


def explain(found: Difference) -> str:
    """Return the same for the admin, by nodes."""
    parts = [
        f"{_list(lack.nodes)} of slot {lack.slot.index} ({lack.slot.uuid}) missing" for lack in found.lacks
    ]
    parts += [f"{_list(found.surplus)} visible without a lease"] if found.surplus else []
    return "; ".join(parts)


def advise(found: Difference, *, device_mode: str) -> str:
    """Return what an admin may look at."""
    causes = []
    if found.lacks and device_mode == "cdi":
        causes.append("CDI specs may be older than the GPUs' slices: nvidia-ctk cdi generate writes new ones")
    elif found.lacks:
        causes.append("NVIDIA's hook did not hand them over")
    if found.surplus:
        causes.append("Docker's default runtime, a CDI spec or extra_host_config may give GPUs unasked")
    return "; ".join(causes)


def _list(nodes: Sequence[str]) -> str:
    told = ", ".join(nodes[:_MOST_TOLD])
    return told if len(nodes) <= _MOST_TOLD else f"{told} and {len(nodes) - _MOST_TOLD} more"
