#!/usr/bin/env python3
"""Measure what the ledger costs, side by side in one run, and print it as Markdown.

First, reserve and release, both on the disk when they return: the ledger; the sqlite3 module doing the
same two transactions with the same rows on a file of its own; and a process per call that reads a JSON
file, changes it and writes it. They take turns, round by round, so that whatever else the machine does
meets them alike. Second, what decisions and readings take in a full pool, and in a tenth of it.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from statistics import median

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import LeaseDraft, PoolView, availability, choose
from ds01_spawner.errors import NothingFree
from ds01_spawner.model import Slot

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
PROFILE = "1g.10gb"
SLICES = 7
POOLS = (21, 448)
FULL_POOL = (448, 1500)
TENTH_OF_POOL = (45, 150)
LEASES_PER_USER = 10
MOST_TIMES_RAW = 5
CHOOSE_MS, AVAILABILITY_MS = 5, 20

JSON_CALL = """
import json, sys
path, verb, user = sys.argv[1:]
with open(path) as file:
    state = json.load(file)
if verb == "reserve":
    slot = next(slot for slot in state["slots"].values() if slot["user"] is None)
    slot["user"] = user
else:
    for slot in state["slots"].values():
        if slot["user"] == user:
            slot["user"] = None
state["events"].append([verb, user])
with open(path, "w") as file:
    json.dump(state, file, indent=2)
"""


class RawSqlite:
    """The ledger's two transactions by the sqlite3 module alone, on the ledger's own tables."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._sql.execute(f"PRAGMA {pragma}")

    def reserve(self, user: str, nonce: str) -> int:
        sql, name, now = self._sql, f"jupyter._.{user}", NOW.isoformat(" ")
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("UPDATE pool SET epoch = epoch + 1")
        same = "SELECT id FROM leases WHERE state != 'released' AND node = 'local' AND container_name = ?"
        if sql.execute(same, (name,)).fetchone():
            raise ValueError(f"{name} has a lease")
        rows = sql.execute(
            "SELECT uuid, slot_index, slots.profile, gpu_uuid, gpu_name, memory_mib, slots.share_numerator,"
            " slots.share_denominator, slots.node, fault, present, lease_id FROM slots LEFT JOIN lease_slots"
            " ON lease_slots.node = slots.node AND slot_uuid = uuid AND live = 1 WHERE slots.node = 'local'"
            " AND (present = 1 OR lease_id IS NOT NULL)"
        ).fetchall()
        sql.execute(
            "SELECT id, share_numerator, share_denominator FROM leases LEFT JOIN lease_slots"
            " ON lease_id = id WHERE state != 'released' AND user_name = ?",
            (user,),
        ).fetchall()
        slot = next(row for row in rows if row[-1] is None)
        lease = sql.execute(
            "INSERT INTO leases (nonce, node, user_name, server_name, group_name, container_name, state,"
            " fingerprint, created_at, deadline)"
            " VALUES (?, 'local', ?, '', 'students', ?, 'pending', '', ?, ?)",
            (nonce, user, name, now, now),
        ).lastrowid
        values = (lease, slot[0], slot[2], slot[6], slot[7])
        sql.execute("INSERT INTO lease_slots VALUES (?, 0, 'local', ?, ?, ?, ?, 1)", values)
        self._end(int(lease or 0), "pending", user)
        return int(lease or 0)

    def release(self, lease: int) -> None:
        sql = self._sql
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("UPDATE pool SET epoch = epoch + 1")
        (user,) = sql.execute(
            "UPDATE leases SET state = 'released', deadline = NULL WHERE id = ? AND state != 'released'"
            " RETURNING user_name",
            (lease,),
        ).fetchone()
        sql.execute("UPDATE lease_slots SET live = 0 WHERE lease_id = ?", (lease,))
        self._end(lease, "released", user)

    def _end(self, lease: int, kind: str, user: str) -> None:
        event = "INSERT INTO lease_events (lease_id, at, kind, who, why) VALUES (?, ?, ?, ?, '')"
        self._sql.execute(event, (lease, NOW.isoformat(" "), kind, user))
        self._sql.execute("COMMIT")


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


def draft(user: str, server: str = "") -> LeaseDraft:
    return LeaseDraft(
        user=user,
        server=server,
        container_name=f"{server or 'jupyter'}._.{user}",
        group="students",
        nonce=os.urandom(16).hex(),
        created_at=NOW,
        deadline=NOW + timedelta(minutes=5),
    )


def take_one(slots: tuple[Slot, ...], taken: frozenset[str]) -> tuple[Slot, ...]:
    return choose(slots, taken, profile=PROFILE, count=1, allow_full_gpu=False, strategy="pack")


@contextmanager
def open_ledger(path: Path, slots: int) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{path}")
    ledger.write_slots(make_slots(slots), NOW)
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


def compare_cycles(folder: Path, slots: int, rounds: int) -> tuple[float, float, float]:
    """Return the medians of reserve+release in milliseconds: ledger, raw sqlite3, a process per call."""
    with open_ledger(folder / f"raw-{slots}.sqlite", slots):
        raw = RawSqlite(folder / f"raw-{slots}.sqlite")
    state, script = folder / "state.json", folder / "json_call.py"
    script.write_text(JSON_CALL)
    state.write_text(json.dumps({"slots": {s.uuid: {"user": None} for s in make_slots(slots)}, "events": []}))

    def cycle_json() -> None:
        for verb in ("reserve", "release"):
            subprocess.run([sys.executable, "-I", script, state, verb, "ada"], check=True)

    with open_ledger(folder / f"ledger-{slots}.sqlite", slots) as ledger:

        def decide(view: PoolView) -> tuple[Slot, ...]:
            return take_one(view.slots, view.taken)

        def cycle_ledger() -> None:
            ledger.release(ledger.reserve(draft("ada"), decide).id, NOW, "")

        def cycle_raw() -> None:
            raw.release(raw.reserve("ada", os.urandom(16).hex()))

        cycle_ledger()
        cycle_raw()
        both = [(clock(cycle_ledger), clock(cycle_raw)) for _ in range(rounds)]
        by_process = [clock(cycle_json) for _ in range(max(5, rounds // 20))]
    return median(ours for ours, _ in both), median(raws for _, raws in both), median(by_process)


def measure_pool(folder: Path, slots: int, cpu_leases: int, rounds: int) -> dict[str, float]:
    """Return medians in milliseconds, all slots leased and so many leases without one besides."""
    with open_ledger(folder / f"pool-{slots}.sqlite", slots) as ledger:
        inventory = make_slots(slots)
        for number in range(slots + cpu_leases):
            taken = tuple(inventory[number : number + 1])
            asked = draft(f"user{number // LEASES_PER_USER}", f"server{number}")
            ledger.reserve(asked, lambda _view, taken=taken: taken)  # type: ignore[misc]
        view = ledger.view("user0")

        def refuse() -> None:
            with suppress(NothingFree):
                take_one(view.slots, view.taken)

        def read_availability() -> None:
            availability(view.slots, ledger.view("user0").taken)

        last = view.taken - {inventory[-1].uuid}
        calls: dict[str, Callable[[], object]] = {
            "`choose`, nothing free": refuse,
            "`choose`, the last slot": lambda: take_one(view.slots, last),
            "`Ledger.view`": lambda: ledger.view("user0"),
            "availability: `Ledger.view` and `availability`": read_availability,
            "`Ledger.live_leases`, all": ledger.live_leases,
        }
        return {name: clock_median(call, rounds) for name, call in calls.items()}


def print_cycles(folder: Path, rounds: int) -> None:
    print(
        "| reserve + release, median | ledger | raw sqlite3 | times raw | a process per call | times faster |"
    )
    print("|---|---|---|---|---|---|")
    for slots in POOLS:
        ours, raw, process = compare_cycles(folder, slots, rounds)
        cells = f"{ours:.2f} ms | {raw:.2f} ms | {ours / raw:.1f} | {process:.0f} ms | {process / ours:.0f}"
        print(f"| {slots} slots | {cells} |")
    print(f"\nGoal: at most {MOST_TIMES_RAW} times raw sqlite3, and faster than a process per call.\n")


def print_pools(folder: Path, rounds: int) -> None:
    tenth = measure_pool(folder, *TENTH_OF_POOL, rounds)
    full = measure_pool(folder, *FULL_POOL, rounds)
    heads = [f"{slots} slots leased, {leases:,} more leases" for slots, leases in (TENTH_OF_POOL, FULL_POOL)]
    print(f"| median | {heads[0]} | {heads[1]} | growth | goal |")
    print("|---|---|---|---|---|")
    for name, small in tenth.items():
        goals = {"`choose": CHOOSE_MS, "availability": AVAILABILITY_MS}
        goal = next((f"{ms} ms" for start, ms in goals.items() if name.startswith(start)), "")
        print(f"| {name} | {small:.2f} ms | {full[name]:.2f} ms | {full[name] / small:.1f} | {goal} |")


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
