"""What the ledger is measured against: the sqlite3 module alone, and a process per call on a JSON file."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

_JSON_CALL = """
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
_SAME = "SELECT id FROM leases WHERE state != 'released' AND node = 'local' AND container_name = ?"
_POOL = (
    "SELECT uuid, slot_index, slots.profile, gpu_uuid, gpu_name, memory_mib, slots.share_numerator,"
    " slots.share_denominator, slots.node, fault, present, deadline, runs_until, state, lease_id FROM slots"
    " LEFT JOIN lease_slots ON lease_slots.node = slots.node AND slot_uuid = uuid AND live = 1"
    " LEFT JOIN leases ON leases.id = lease_id"
    " WHERE slots.node = 'local' AND (present = 1 OR lease_id IS NOT NULL)"
)
_HOLDINGS = (
    "SELECT id, share_numerator, share_denominator FROM leases LEFT JOIN lease_slots"
    " ON lease_id = id WHERE state != 'released' AND user_name = ?"
)
_AROUND = (
    "SELECT slot_uuid, kind, why, who, since FROM slot_marks WHERE node = 'local' ORDER BY since",
    "SELECT id, container_name, user_name, server_name, gpu_profile, gpu_count, allow_full_gpu, priority,"
    " requested_at, runs_until, entered_at, owner FROM queue WHERE node = 'local'"
    " ORDER BY priority DESC, requested_at, container_name",
    "SELECT user_name, starts_at, ends_at, gpus, reason, devices FROM reservations WHERE node = 'local'"
    " ORDER BY starts_at, id",
)
_LEAVE = "DELETE FROM queue WHERE node = 'local' AND container_name = ? RETURNING user_name"
_LEASE = (
    "INSERT INTO leases (nonce, node, user_name, server_name, group_name, container_name, state,"
    " fingerprint, created_at, deadline, owner, runs_until)"
    " VALUES (?, 'local', ?, '', 'students', ?, 'pending', '', ?, ?, 'hub', ?)"
)
_LEASE_SLOT = "INSERT INTO lease_slots VALUES (?, 0, 'local', ?, ?, ?, ?, 1)"
_RELEASE = (
    "UPDATE leases SET state = 'released', deadline = NULL, released_at = ?"
    " WHERE id = ? AND state != 'released' RETURNING user_name"
)
_FREE = "UPDATE lease_slots SET live = 0 WHERE lease_id = ?"
_EVENT = "INSERT INTO lease_events (lease_id, at, kind, who, why) VALUES (?, ?, ?, ?, '')"


class RawSqlite:
    """The ledger's two transactions by the sqlite3 module alone, on a ledger's own file.

    The same rows are read and written under the same settings; no value is made of a row, nothing is
    decided but to take the first free slot.
    """

    def __init__(self, path: Path, now: datetime) -> None:
        self._now = now.isoformat(" ")
        self._sql = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._sql.execute(f"PRAGMA {pragma}")

    def reserve(self, user: str, nonce: str) -> int:
        sql, name, now = self._sql, f"jupyter._.{user}", self._now
        self._begin()
        if sql.execute(_SAME, (name,)).fetchone():
            raise ValueError(f"{name} has a lease")
        rows = sql.execute(_POOL).fetchall()
        sql.execute(_HOLDINGS, (user,)).fetchall()
        for statement in _AROUND:
            sql.execute(statement).fetchall()
        slot = next(row for row in rows if row[-1] is None)
        sql.execute(_LEAVE, (name,)).fetchone()
        lease = int(sql.execute(_LEASE, (nonce, user, name, now, now, now)).lastrowid or 0)
        sql.execute(_LEASE_SLOT, (lease, slot[0], slot[2], slot[6], slot[7]))
        self._end(lease, "pending", user)
        return lease

    def release(self, lease: int) -> None:
        self._begin()
        (user,) = self._sql.execute(_RELEASE, (self._now, lease)).fetchone()
        self._sql.execute(_FREE, (lease,))
        self._end(lease, "released", user)

    def close(self) -> None:
        self._sql.close()

    def _begin(self) -> None:
        self._sql.execute("BEGIN IMMEDIATE")
        self._sql.execute("UPDATE pool SET epoch = epoch + 1")

    def _end(self, lease: int, kind: str, user: str) -> None:
        self._sql.execute(_EVENT, (lease, self._now, kind, user))
        self._sql.execute("COMMIT")


class ProcessPerCall:
    """How shell scripts keep such a record: a Python process reads a JSON file, changes it, writes it."""

    def __init__(self, folder: Path, slots: Iterable[str]) -> None:
        self._state, self._script = folder / "state.json", folder / "json_call.py"
        self._script.write_text(_JSON_CALL)
        self._state.write_text(json.dumps({"slots": {uuid: {"user": None} for uuid in slots}, "events": []}))

    def cycle(self) -> None:
        for verb in ("reserve", "release"):
            subprocess.run([sys.executable, "-I", self._script, self._state, verb, "ada"], check=True)
