#!/usr/bin/env python3
"""Measure what the ledger costs, side by side in one run, and print it as Markdown.

First, reserve and release, both on the disk when they return: the ledger; the sqlite3 module doing the
same two transactions with the same rows on a file of its own; and a process per call that reads a JSON
file, changes it and writes it. They take turns, round by round, so that whatever else the machine does
meets them alike. Second, what decisions and readings take in a full pool with a queue, and in a tenth
of it.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from statistics import median

from rivals import ProcessPerCall, RawSqlite

from ds01_spawner import allocator
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import LeaseDraft, PoolView
from ds01_spawner.errors import NothingFree
from ds01_spawner.model import GpuWish, Slot

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
# All have waited for longer than their patience, and no lease is over yet.
LATER = NOW + timedelta(hours=1)
PATIENCE = timedelta(minutes=10)
PROFILE = "1g.10gb"
SLICES = 7
LEASES_PER_USER = 10
MOST_TIMES_RAW = 5
DECIDE_MS, AVAILABILITY_MS = 5, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """How much there is: slots, leased ones of them, leases without a slot, and spawns that wait."""

    slots: int
    leased: int = 0
    cpu_leases: int = 0
    waiting: int = 0

    @property
    def words(self) -> str:
        parts = [f"{self.slots} slots"]
        if self.leased:
            parts = (
                [f"{self.leased} of {parts[0]} leased"]
                if self.leased < self.slots
                else [f"{parts[0]} leased"]
            )
        parts += [f"{self.cpu_leases:,} more leases"] if self.cpu_leases else []
        parts += [f"{self.waiting} waiting"] if self.waiting else []
        return ", ".join(parts)


CYCLES = (Lab(slots=21), Lab(slots=448), Lab(slots=448, leased=447, cpu_leases=1500, waiting=200))
TENTH = Lab(slots=45, leased=45, cpu_leases=150, waiting=20)
FULL = Lab(slots=448, leased=448, cpu_leases=1500, waiting=200)


def make_slots(number: int) -> list[Slot]:
    return [
        Slot(
            uuid=f"MIG-{n}",
            index=f"{n // SLICES}:{n % SLICES}",
            profile=PROFILE,
            gpu_uuid=f"GPU-{n // SLICES}",
            gpu_name="NVIDIA A100-SXM4-80GB",
            memory_mib=9728,
            share=Fraction(1, SLICES),
        )
        for n in range(number)
    ]


def draft(user: str, server: str = "", *, hours: float = 8) -> LeaseDraft:
    return LeaseDraft(
        user=user,
        server=server,
        container_name=f"{server or 'jupyter'}._.{user}",
        group="students",
        nonce=os.urandom(16).hex(),
        created_at=NOW,
        deadline=NOW + timedelta(minutes=5),
        owner="hub",
        runs_until=NOW + timedelta(hours=hours),
    )


def wish(user: str, number: int, *, priority: int = 0) -> GpuWish:
    """What somebody wants who asked as the one of this number; one of ten asks for two slots."""
    return GpuWish(
        user=user,
        profile=PROFILE,
        count=2 if number % 10 == 9 else 1,
        requested_at=NOW + timedelta(seconds=number),
        priority=priority,
        runs_until=LATER + timedelta(hours=8),
    )


def decide(view: PoolView, wanted: GpuWish) -> tuple[Slot, ...]:
    name = f"jupyter._.{wanted.user}"
    return allocator.decide(view, wanted, LATER, strategy="pack", patience=PATIENCE, container_name=name)


def try_to_decide(view: PoolView, wanted: GpuWish) -> None:
    with suppress(NothingFree):
        decide(view, wanted)


def fill(ledger: Ledger, lab: Lab) -> None:
    """Lease the slots, start servers without one besides, ten of each user, and let others wait."""
    inventory = make_slots(lab.slots)
    ledger.write_slots(inventory, NOW)
    for number in range(lab.leased + lab.cpu_leases):
        taken = tuple(inventory[number : number + 1]) if number < lab.leased else ()
        asked = draft(f"user{number // LEASES_PER_USER}", f"server{number}", hours=2 + number / 6)
        ledger.activate(ledger.reserve(asked, lambda _view, taken=taken: taken).id, f"c{number}", NOW)  # type: ignore[misc]
    for number in range(lab.waiting):
        wanted = wish(f"waiting{number}", number, priority=number % 3)
        with suppress(NothingFree):
            ledger.reserve(draft(wanted.user), refuse, wish=wanted, queue_limit=lab.waiting)


def refuse(_view: PoolView) -> tuple[Slot, ...]:
    raise NothingFree("All are taken.")


@contextmanager
def open_ledger(path: Path, lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{path}")
    fill(ledger, lab)
    yield ledger
    ledger.close()


def clock(call: Callable[[], object]) -> float:
    """Return what one call takes, in milliseconds."""
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def clock_median(call: Callable[[], object], rounds: int) -> float:
    call()
    return median(clock(call) for _ in range(rounds))


def compare_cycles(folder: Path, lab: Lab, rounds: int) -> tuple[float, float, float]:
    """Return the medians of reserve+release in milliseconds: ledger, raw sqlite3, a process per call."""
    path = folder / "ledger.sqlite"
    with open_ledger(path, lab):
        pass
    shutil.copy(path, folder / "raw.sqlite")
    raw = RawSqlite(folder / "raw.sqlite", NOW)
    processes = ProcessPerCall(folder, (slot.uuid for slot in make_slots(lab.slots)))
    ledger = Ledger(f"sqlite:///{path}")
    # Before all who wait.
    wanted = wish("ada", 0, priority=9)

    def cycle_ledger() -> None:
        ledger.release(ledger.reserve(draft("ada"), lambda view: decide(view, wanted)).id, NOW, "")

    def cycle_raw() -> None:
        raw.release(raw.reserve("ada", os.urandom(16).hex()))

    cycle_ledger()
    cycle_raw()
    both = [(clock(cycle_ledger), clock(cycle_raw)) for _ in range(rounds)]
    by_process = [clock(processes.cycle) for _ in range(max(5, rounds // 20))]
    ledger.close()
    raw.close()
    return median(ours for ours, _ in both), median(raws for _, raws in both), median(by_process)


def measure_pool(folder: Path, lab: Lab, rounds: int) -> dict[str, float]:
    """Return the median of each decision and reading in milliseconds."""
    with open_ledger(folder / "pool.sqlite", lab) as ledger:
        view = ledger.view("user0")
        inventory = ledger.slots()
        one_free = replace(view, taken=view.taken - {inventory[-1].uuid})
        half_free = replace(view, taken=view.taken - {slot.uuid for slot in inventory[::2]})
        first, last = view.queue[0].wish, wish("ada", lab.waiting)

        def read_availability() -> None:
            seen = ledger.view("user0")
            barred = allocator.barred_for(seen, "user0", LATER, last.runs_until)
            allocator.availability(seen.slots, barred)

        calls: dict[str, Callable[[], object]] = {
            "`decide`, nothing free": lambda: try_to_decide(view, last),
            "`decide`, the last slot, for the first in the queue": lambda: decide(one_free, first),
            "`decide`, the last slot, set aside for the first": lambda: try_to_decide(one_free, last),
            "`decide`, half of the slots free, after all in the queue": lambda: try_to_decide(
                half_free, last
            ),
            "`place`, of the last in the queue": lambda: allocator.place(view, last, "jupyter._.ada"),
            "`expect`, of the last in the queue": lambda: allocator.expect(view, last, LATER, ""),
            "`Ledger.view`": lambda: ledger.view("user0"),
            "availability: `Ledger.view`, `barred_for` and `availability`": read_availability,
            "`Ledger.live_leases`, all": ledger.live_leases,
        }
        return {name: clock_median(call, rounds) for name, call in calls.items()}


def print_cycles(folder: Path, rounds: int) -> None:
    print(
        "| reserve + release, median | ledger | raw sqlite3 | times raw | a process per call | times faster |"
    )
    print("|---|---|---|---|---|---|")
    for number, lab in enumerate(CYCLES):
        own = folder / f"cycles-{number}"
        own.mkdir()
        ours, raw, process = compare_cycles(own, lab, rounds)
        cells = f"{ours:.2f} ms | {raw:.2f} ms | {ours / raw:.1f} | {process:.0f} ms | {process / ours:.0f}"
        print(f"| {lab.words} | {cells} |")
    print(f"\nGoal: at most {MOST_TIMES_RAW} times raw sqlite3, and faster than a process per call.\n")


def print_pools(folder: Path, rounds: int) -> None:
    found = []
    for lab in (TENTH, FULL):
        own = folder / f"pool-{lab.slots}"
        own.mkdir()
        found.append(measure_pool(own, lab, rounds))
    small, full = found
    print(f"| median | {TENTH.words} | {FULL.words} | growth | goal |")
    print("|---|---|---|---|---|")
    for name in small:
        goals = {"`decide": DECIDE_MS, "availability": AVAILABILITY_MS}
        goal = next((f"{ms} ms" for start, ms in goals.items() if name.startswith(start)), "")
        cells = f"{small[name]:.2f} ms | {full[name]:.2f} ms | {full[name] / small[name]:.1f}"
        print(f"| {name} | {cells} | {goal} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="how often each is measured (500)")
    parser.add_argument("--folder", default="/var/tmp", help="on the disk to measure (/var/tmp)")  # noqa: S108
    arguments = parser.parse_args()
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    print(f"{os.cpu_count()} cores, {versions}, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_cycles(Path(folder), arguments.rounds)
        print_pools(Path(folder), max(20, arguments.rounds // 5))


if __name__ == "__main__":
    main()
