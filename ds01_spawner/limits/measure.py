"""Measuring a request against a user's limits; what does not fit is refused with the numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from ds01_spawner.errors import LimitExceeded, NotAllowed, RequestRefused
from ds01_spawner.model import Holdings, Limits
from ds01_spawner.sizes import format_bytes


def check(limits: Limits, holdings: Holdings, *, slots: int, gpu_share: Fraction, full_gpu: bool) -> None:
    """Return if one more server fits the limits of a user who holds `holdings`.

    The server asks for `slots` GPUs or MIG slices whose shares sum up to `gpu_share`; `full_gpu`
    says that one of them is a whole GPU. A server without a GPU is measured by the number of
    servers only.

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
        _check_lower("CPUs", cpus, limits.cpus, f"{cpus:g}", f"{limits.cpus or 0:g}")
    for what, asked, allowed in (
        ("of memory", memory, limits.memory),
        ("of shared memory", shm_size, limits.shm_size),
    ):
        if asked is not None:
            _check_lower(what, asked, allowed, format_bytes(asked), format_bytes(allowed or 0))
    if pids_limit is not None:
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _share(share: Fraction) -> str:
    return f"{float(share):.3g}"
