"""Limits, holdings and slots in the words of the options form."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from ..model import NO_GPU, Availability, Holdings, Limits, Prospect, Resources, name_gpu
from ..sizes import format_bytes

_MEBIBYTE = 1024**2
_MIB_PER_GIB = 1024
# The nearest ones in size; more would be a list to read.
_NAMED_INSTEAD = 2


def describe_holdings(limits: Limits, holdings: Holdings) -> tuple[str, ...]:
    """Return what she holds of what she may hold, e.g. `1 of 2 GPU slots`; no entry is empty."""
    said = (
        f"{holdings.slots}{_of(limits.slots)} GPU slots",
        f"GPU share {_show(holdings.gpu_share)}{_of(limits.gpu_share)}"
        if limits.gpu_share is not None
        else "",
        f"{holdings.containers}{_of(limits.containers)} servers",
        *_describe_together(limits.aggregate, holdings.takes),
    )
    return tuple(phrase for phrase in said if phrase)


def _describe_together(allowed: Resources, held: Resources) -> Iterator[str]:
    """Yield what is limited of all her servers together; what has no known limit counts as all of it."""
    if allowed.cpus is not None:
        yield f"{_show(allowed.cpus if held.cpus is None else held.cpus)}{_of(allowed.cpus)} CPUs"
    if allowed.memory is not None:
        memory = allowed.memory if held.memory is None else held.memory
        yield f"memory {describe_size(memory)} of {describe_size(allowed.memory)}"
    if allowed.pids is not None:
        yield f"{allowed.pids if held.pids is None else held.pids} of {allowed.pids} processes"


def _of(limit: float | Fraction | None) -> str:
    return "" if limit is None else f" of {_show(limit)}"


def _show(number: float | Fraction) -> str:
    return f"{round(float(number), 2):g}"


def describe_limits(limits: Limits) -> tuple[str, ...]:
    """Return what one server of hers gets at most, e.g. `8 CPUs`; empty where nothing is limited."""
    said = (
        f"{limits.cpus:g} CPUs" if limits.cpus is not None else "",
        f"{describe_size(limits.memory)} of memory" if limits.memory is not None else "",
        f"{describe_size(limits.shm_size)} of shared memory" if limits.shm_size is not None else "",
        f"{limits.pids_limit} processes" if limits.pids_limit is not None else "",
    )
    return tuple(phrase for phrase in said if phrase)


def describe_size(count: int) -> str:
    """Return `count` bytes for a person, e.g. `32 GB`; units are powers of 1024."""
    mib = count / _MEBIBYTE
    return f"{_show(mib / _MIB_PER_GIB)} GB" if mib >= _MIB_PER_GIB else f"{_show(mib)} MB"


def name_most(limits: Limits) -> dict[str, str]:
    """Return her limits by the names of the fields that lower them, as one would type them there."""
    return {
        "cpus": f"{limits.cpus:g}" if limits.cpus is not None else "",
        "memory": format_bytes(limits.memory) if limits.memory is not None else "",
        "shm_size": format_bytes(limits.shm_size) if limits.shm_size is not None else "",
        "pids_limit": str(limits.pids_limit) if limits.pids_limit is not None else "",
    }


def count_free(slots: Availability) -> str:
    """Return e.g. `3 of 7 free`."""
    return f"{slots.free} of {slots.total} free" if slots.free else f"all {slots.total} in use"


def write_slots(slots: Availability) -> dict[str, object]:
    """Return the slots of one profile for JSON, with the words of the form."""
    return {
        "profile": slots.profile,
        "free": slots.free,
        "total": slots.total,
        "count": count_free(slots),
        "label": label_slots(slots),
    }


def label_slots(slots: Availability) -> str:
    """Return e.g. `1g.10gb · 10 GB · 3 of 7 free`."""
    return f"{name_gpu(slots.profile)} · {describe_memory(slots)} · {count_free(slots)}"


def describe_memory(slots: Availability) -> str:
    """Return a slot's memory as NVIDIA's names have it: the 40192 MiB of a 3g.40gb are `40 GB`."""
    mib = slots.memory_mib
    return f"{ceil(mib / _MIB_PER_GIB)} GB" if mib >= _MIB_PER_GIB else f"{mib} MB"


def describe_prospect(prospect: Prospect) -> str:
    """Return why she does not get it at once, until when, and what she would get instead; "" if she does."""
    if prospect.is_free:
        return ""
    said = [_describe_wait(prospect)] if prospect.is_taken else [prospect.why]
    others = [name_gpu(profile) for profile in prospect.instead if profile != NO_GPU][:_NAMED_INSTEAD]
    if NO_GPU in prospect.instead:
        others.append("no GPU")
    if others and (prospect.is_taken or len(others) > 1):
        said.append(f"Free at once: {_join(others)}.")
    return " ".join(said)


def _describe_wait(prospect: Prospect) -> str:
    moment = prospect.expected_at
    when = f"by {moment.astimezone():%H:%M on %d %B}" if moment else ""
    if prospect.waits:
        turn = f"; your turn should come {when}" if when else "; nobody can say yet until when"
        return f"Taken: you would wait in the queue{turn}."
    return f"Taken; one should come free {when}." if when else "Taken; nobody can say yet until when."


def _join(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
