"""Slots, wishes and whole pools as the tests of the rules write them down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from fractions import Fraction

from ds01_spawner.allocator import PoolView
from ds01_spawner.model import (
    FULL_GPU,
    GpuWish,
    Holdings,
    Mark,
    MarkKind,
    QueueEntry,
    Reservation,
    Slot,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def mig(index: str, profile: str = "1g.10gb", sevenths: int = 1, memory_mib: int = 9728) -> Slot:
    return Slot(
        uuid=f"MIG-{index}",
        index=index,
        profile=profile,
        gpu_uuid=f"GPU-{index.split(':')[0]}",
        gpu_name="A100",
        memory_mib=memory_mib,
        share=Fraction(sevenths, 7),
    )


def gpu(index: str) -> Slot:
    return Slot(
        uuid=f"GPU-{index}",
        index=index,
        profile=FULL_GPU,
        gpu_uuid=f"GPU-{index}",
        gpu_name="A100",
        memory_mib=81920,
        share=Fraction(1),
    )


def find(slots: Iterable[Slot], index: str) -> Slot:
    return next(slot for slot in slots if slot.index == index)


def wish(
    user: str = "ada",
    *,
    profile: str = "1g.10gb",
    count: int = 1,
    asked: datetime = NOW,
    hours: float | None = None,
    priority: int = 0,
    allow_full_gpu: bool = True,
) -> GpuWish:
    """What `user` wants, to run for `hours` from NOW (None: without an end)."""
    return GpuWish(
        user=user,
        profile=profile,
        count=count,
        requested_at=asked,
        allow_full_gpu=allow_full_gpu,
        priority=priority,
        runs_until=None if hours is None else NOW + hours * HOUR,
    )


def waits(
    user: str,
    minutes: float,
    *,
    profile: str = "1g.10gb",
    count: int = 1,
    hours: float | None = None,
    priority: int = 0,
    allow_full_gpu: bool = True,
) -> QueueEntry:
    """The place of `user` who asked and entered so many `minutes` before NOW, to run for `hours`."""
    entered = NOW - minutes * MINUTE
    return QueueEntry(
        id=0,
        wish=GpuWish(
            user=user,
            profile=profile,
            count=count,
            requested_at=entered,
            allow_full_gpu=allow_full_gpu,
            priority=priority,
            runs_until=None if hours is None else entered + hours * HOUR,
        ),
        server="",
        container_name=f"jupyter._.{user}",
        entered_at=entered,
    )


def reserve(user: str, start: float, end: float, *devices: str, reason: str = "") -> Reservation:
    """A window from `start` to `end`, in hours from NOW."""
    return Reservation(
        user=user,
        start=NOW + start * HOUR,
        end=NOW + end * HOUR,
        gpus=devices,
        devices=devices,
        reason=reason,
    )


def mark(slot: Slot, kind: MarkKind, why: str = "", who: str = "") -> Mark:
    return Mark(slot=slot.uuid, kind=kind, why=why, since=NOW - HOUR, who=who)


def pool(
    slots: Iterable[Slot],
    *taken: str,
    ends: Mapping[str, float] | None = None,
    marks: Iterable[Mark] = (),
    queue: Iterable[QueueEntry] = (),
    reservations: Iterable[Reservation] = (),
) -> PoolView:
    """A pool in which the slots of the indexes `taken` are leased without a known end, and those of `ends`
    for so many hours from NOW."""
    members = tuple(slots)
    until: dict[str, datetime | None] = {find(members, index).uuid: None for index in taken}
    for index, hours in (ends or {}).items():
        until[find(members, index).uuid] = NOW + hours * HOUR
    return PoolView(
        slots=members,
        taken=frozenset(until),
        holdings=Holdings(),
        ends=until,
        marks=tuple(marks),
        queue=tuple(queue),
        reservations=tuple(reservations),
    )
