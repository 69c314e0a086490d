"""Slots, drafts and decisions as the tests of the ledger write them down."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import sqlalchemy as sa

from ds01_spawner.allocator import LeaseDraft, PoolView, choose
from ds01_spawner.errors import LimitExceeded, NothingFree
from ds01_spawner.model import FULL_GPU, Resources, Slot

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
LATER = NOW + timedelta(minutes=5)
BERLIN = timezone(timedelta(hours=1))

SMALL = Slot(
    uuid="MIG-0",
    index="0:0",
    profile="1g.10gb",
    gpu_uuid="GPU-0",
    gpu_name="A100",
    memory_mib=9728,
    share=Fraction(1, 7),
)
SECOND = replace(SMALL, uuid="MIG-1", index="0:1")
FULL = replace(SMALL, uuid="GPU-2", gpu_uuid="GPU-2", index="2", profile=FULL_GPU, share=Fraction(1))
# More bytes than a 32-bit column has room for, and a sum of CPUs that floats do not get right.
TAKES = Resources(cpus=0.1, memory=32 * 1024**3, pids=4096)


def draft(user: str = "ada", server: str = "", *, node: str = "local") -> LeaseDraft:
    return LeaseDraft(
        user=user,
        server=server,
        container_name=f"{server or 'jupyter'}._.{user}",
        group="students",
        nonce=os.urandom(8).hex(),
        created_at=NOW,
        deadline=LATER,
        fingerprint="image-1",
        takes=TAKES,
        node=node,
    )


def take(*slots: Slot) -> Callable[[PoolView], tuple[Slot, ...]]:
    return lambda _view: slots


def take_free(view: PoolView) -> tuple[Slot, ...]:
    return choose(view.slots, view.taken, profile="1g.10gb", count=1, allow_full_gpu=False, strategy="pack")


def refuse(_view: PoolView) -> tuple[Slot, ...]:
    raise LimitExceeded("You have 3 of 3 slots.")


def nothing_free(_view: PoolView) -> tuple[Slot, ...]:
    raise NothingFree("All of them are taken.")


def events(sql: sa.Connection) -> list[tuple[str, str, str]]:
    """Return kind, who and why of each line of the history."""
    return [tuple(row) for row in sql.execute(sa.text("SELECT kind, who, why FROM lease_events ORDER BY id"))]


def kinds(sql: sa.Connection) -> list[str]:
    return [kind for kind, _, _ in events(sql)]
