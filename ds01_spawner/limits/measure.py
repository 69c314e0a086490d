"""Measuring a request against a user's limits; what does not fit is refused with the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from ds01_spawner.errors import LimitExceeded, NotAllowed, RequestRefused, about
from ds01_spawner.limits.keys import MIN_CPUS, MIN_MEMORY
from ds01_spawner.model import Holdings, Limits, Resources
from ds01_spawner.sizes import format_bytes

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One field of `Resources`, and the words for it; no server can have less than `least`."""

    field: str
    name: str
    unit: str
    least: float

    def show(self, value: float) -> str:
        return format_bytes(int(value)) if self.field == "memory" else f"{value:.10g}"


_KINDS = (
    _Kind(field="cpus", name="CPUs", unit="CPUs", least=MIN_CPUS),
    _Kind(field="memory", name="memory", unit="of memory", least=MIN_MEMORY),
    _Kind(field="pids", name="processes", unit="processes", least=1),
)


def check(
    limits: Limits,
    holdings: Holdings,
    *,
    slots: int,
    gpu_share: Fraction,
    full_gpu: bool,
    takes: Resources,
) -> None:
    """Return if one more server fits the limits of a user who holds `holdings`.

    The server asks for `slots` GPUs or MIG slices whose shares sum up to `gpu_share`; `full_gpu`
    says that one of them is a whole GPU. `takes` is what it may take, whether it uses it or not; what has no
    limit counts as all that her servers may take together.

    Raises:
        NotAllowed: a full GPU, which her group may not have.
        LimitExceeded: says what she has, what she asks for, and what is allowed.
    """
    if full_gpu and not limits.allow_full_gpu:
        raise NotAllowed(
            f"Your group ({limits.group}) may use MIG slices, but not a full GPU. "
            "Choose a MIG profile, or ask your admin for `allow_full_gpu`."
        )
    if limits.containers is not None and holdings.containers + 1 > limits.containers:
        raise LimitExceeded(
            f"You have {_count(holdings.containers, 'server')} and ask for 1 more; "
            f"your limit is {limits.containers}. Stop one that you do not need, then try again."
        )
    _check_together(limits.aggregate, holdings, takes)
    if slots == 0:
        return
    if limits.slots_per_container is not None and slots > limits.slots_per_container:
        raise LimitExceeded(
            f"You ask for {_count(slots, 'GPU slot')} in one server; your limit is "
            f"{limits.slots_per_container} per server. Choose fewer."
        )
    if limits.slots is not None and holdings.slots + slots > limits.slots:
        raise LimitExceeded(
            f"You hold {_count(holdings.slots, 'GPU slot')} and ask for {slots} more; your limit is "
            f"{limits.slots}. Choose fewer, or stop a server that holds one."
        )
    if limits.gpu_share is not None and holdings.gpu_share + gpu_share > limits.gpu_share:
        raise LimitExceeded(
            f"You hold GPU shares of {_share(holdings.gpu_share)} and ask for {_share(gpu_share)} more; "
            f"your limit is {_share(limits.gpu_share)} (1 is a whole GPU). "
            "Choose a smaller GPU profile, or stop a server that holds one."
        )


def _check_together(allowed: Resources, holdings: Holdings, takes: Resources) -> None:
    """Refuse what is too much beside her other servers, all of it at once."""
    facts, lower_to = [], []
    for kind in _KINDS:
        most, held, asked = (getattr(one, kind.field) for one in (allowed, holdings.takes, takes))
        if most is None:
            continue
        asked = most if asked is None else asked
        left = 0 if held is None else max(0, round(most - held, 9))
        if asked > left:
            facts.append(_explain(kind, holdings.containers, held, asked, most))
            lower_to.append(f"{kind.name} to {kind.show(left)}" if left >= kind.least else "")
    if not facts:
        return
    if all(lower_to):
        cure = f"Lower this server's {' and '.join(lower_to)}, or stop a server that you do not need."
    else:
        cure = "Stop a server that you do not need, then try again."
    raise LimitExceeded(f"{' '.join(facts)} {cure}")


def _explain(kind: _Kind, servers: int, held: float | None, asked: float, most: float) -> str:
    if held is None:
        return (
            f"Nobody knows a limit of {kind.name} for one of your servers, so it counts as all of the "
            f"{kind.show(most)} that you may have together."
        )
    return (
        f"You hold {kind.show(held)} {kind.unit} in {_count(servers, 'server')} and ask for "
        f"{kind.show(asked)} more; together your limit is {kind.show(most)}."
    )


def bound(limits: Limits) -> Limits:
    """Return the limits with those of one server not above what all servers together may take.

    So a server that the file sets no limit gets one where there is one for all together, and counts as what
    it can really take.
    """
    own, together = limits.per_container, limits.aggregate
    return lower(
        limits,
        cpus=_if_less(together.cpus, own.cpus),
        memory=_if_less(together.memory, own.memory),
        pids_limit=_if_less(together.pids, own.pids),
    )


def lower(
    limits: Limits,
    *,
    cpus: float | None = None,
    memory: int | None = None,
    shm_size: int | None = None,
    pids_limit: int | None = None,
) -> Limits:
    """Return the limits with some of them lowered as the user asks; None leaves one as it is.

    With less memory there is no more swap than before. Sizes are in bytes.

    Raises:
        RequestRefused: not a positive number (Docker reads 0 as unlimited).
        LimitExceeded: more than the limit.
    """
    if cpus is not None:
        with about("cpus"):
            _check_lower("CPUs", cpus, limits.cpus, f"{cpus:g}", f"{limits.cpus or 0:g}")
    for field, what, asked, allowed in (
        ("memory", "of memory", memory, limits.memory),
        ("shm_size", "of shared memory", shm_size, limits.shm_size),
    ):
        if asked is not None:
            with about(field):
                _check_lower(what, asked, allowed, format_bytes(asked), format_bytes(allowed or 0))
    if pids_limit is not None:
        with about("pids_limit"):
            _check_lower("processes", pids_limit, limits.pids_limit, str(pids_limit), str(limits.pids_limit))
    return replace(
        limits,
        cpus=limits.cpus if cpus is None else cpus,
        memory=limits.memory if memory is None else memory,
        memory_swap=limits.memory_swap if memory is None else _lower_swap(limits, memory),
        shm_size=limits.shm_size if shm_size is None else shm_size,
        pids_limit=limits.pids_limit if pids_limit is None else pids_limit,
    )


def _lower_swap(limits: Limits, memory: int) -> int | None:
    if limits.memory_swap is None:
        return None
    swap = max(0, limits.memory_swap - limits.memory) if limits.memory is not None else 0
    return memory + swap


def _check_lower(what: str, asked: float, allowed: float | None, asked_text: str, allowed_text: str) -> None:
    if not (math.isfinite(asked) and asked > 0):
        raise RequestRefused(f"You ask for {asked_text} {what}; ask for more than 0, or leave it open.")
    if allowed is not None and asked > allowed:
        raise LimitExceeded(
            f"You ask for {asked_text} {what}; your limit is {allowed_text}. Ask for less, or leave it open."
        )


def _if_less(most: _Number | None, own: _Number | None) -> _Number | None:
    """Return `most` if it is less than her own limit, None where that may stay."""
    return most if most is not None and (own is None or most < own) else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _share(share: Fraction) -> str:
    return f"{float(share):.3g}"
