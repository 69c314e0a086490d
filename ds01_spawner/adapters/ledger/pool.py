"""The slots: what the GPUs are, what marks them, for whom they are reserved, and what is free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ...allocator import PoolView, slot_order
from ...errors import InventoryUnavailable
from ...model import LOCAL_NODE, Gpu, Inventory, Mark, MarkKind, Reservation, Slot
from ..migrations import statements
from ..migrations.schema import nodes, reservations, slot_marks, slots, to_row
from ..migrations.statements import (
    read_holdings,
    read_known_slots,
    read_marks,
    read_pool,
    read_queue,
    read_reservations,
    read_slots,
)
from .store import Store, insert_event


class PoolRows(Store):
    """What is known of the GPUs of each node."""

    def write_inventory(self, inventory: Inventory, now: datetime, *, node: str = LOCAL_NODE) -> None:
        """Record what `node` has now, and that it was read; its other slots are no longer present."""
        self.write_slots(inventory.slots, now, node=node)
        gpus = [[gpu.uuid, gpu.index, gpu.name, *gpu.compute_capability] for gpu in inventory.gpus]
        healthy = {"problem": "", "detail": "", "simulated": inventory.simulated, "gpus": gpus}
        self._write_node(node, healthy | {"read_at": now})

    def write_problem(self, problem: InventoryUnavailable, now: datetime, *, node: str = LOCAL_NODE) -> None:
        """Record that the GPUs of `node` could not be read, and why; what was known of them stays."""
        said = {"problem": problem.message, "detail": problem.detail}
        self._write_node(node, said | {"read_at": now})

    def _write_node(self, node: str, values: dict[str, Any]) -> None:
        with self._write() as connection:
            changed = connection.execute(sa.update(nodes).where(nodes.c.node == node).values(values))
            if changed.rowcount == 0:
                first = {"node": node, "simulated": False, "gpus": []} | values
                connection.execute(sa.insert(nodes).values(first))

    def inventory(self, *, node: str = LOCAL_NODE) -> tuple[Inventory, datetime] | None:
        """Return what was recorded of the GPUs, and when; None where nobody has ever looked.

        Raises:
            InventoryUnavailable: they could not be read then.
        """
        with self._read() as connection:
            row = connection.execute(statements.NODE, {"node": node}).first()
            found = read_slots(connection, node)
        if row is None:
            return None
        if row.problem:
            raise InventoryUnavailable(row.problem, detail=f"{row.detail} (at {row.read_at.isoformat()})")
        gpus = tuple(
            Gpu(uuid=uuid, index=index, name=name, compute_capability=(major, minor))
            for uuid, index, name, major, minor in row.gpus
        )
        ordered = tuple(sorted(found, key=slot_order))
        return Inventory(slots=ordered, gpus=gpus, simulated=row.simulated), row.read_at

    def inventory_age(self, now: datetime, *, node: str = LOCAL_NODE) -> timedelta | None:
        """Return how long ago the GPUs were looked at, whatever came of it; None for never."""
        with self._read() as connection:
            row = connection.execute(statements.NODE, {"node": node}).first()
        return None if row is None else now - row.read_at

    def write_slots(self, inventory_slots: Sequence[Slot], now: datetime, *, node: str = LOCAL_NODE) -> None:
        """Record the slots that `node` has now; its others are no longer present.

        Writes nothing where the ledger says the same already.

        Raises:
            ValueError: a slot of another node.
        """
        found = {slot.uuid: slot for slot in inventory_slots}
        if any(slot.node != node for slot in inventory_slots):
            raise ValueError(f"an inventory of {node} holds a slot of another node")
        with self._read() as connection:
            if {slot.uuid: slot for slot in read_slots(connection, node)} == found:
                return
        with self._write() as connection:
            here = slots.c.node == node
            known = read_known_slots(connection, node)
            for uuid in known.keys() - found.keys():
                if known[uuid][1]:
                    gone = sa.update(slots).where(here, slots.c.uuid == uuid)
                    connection.execute(gone.values(present=False, changed_at=now))
            for uuid, slot in found.items():
                if known.get(uuid) == (slot, True):
                    continue
                values = to_row(slot) | {"present": True, "changed_at": now}
                if uuid in known:
                    connection.execute(sa.update(slots).where(here, slots.c.uuid == uuid).values(values))
                else:
                    connection.execute(sa.insert(slots).values(values))

    def slots(self, *, node: str | None = None) -> tuple[Slot, ...]:
        """Return the slots that are present, of one node or of all, in the order of their index."""
        with self._read() as connection:
            return tuple(sorted(read_slots(connection, node), key=slot_order))

    def known_slots(self, *, node: str = LOCAL_NODE) -> tuple[Slot, ...]:
        """Return the slots that `node` ever had, also those that are no longer present."""
        with self._read() as connection:
            return tuple(
                sorted((slot for slot, _ in read_known_slots(connection, node).values()), key=slot_order)
            )

    def view(self, user: str, *, node: str = LOCAL_NODE) -> PoolView:
        """Return what a decision for `user` would see now; it may be old when it is read."""
        with self._read() as connection:
            return read_view(connection, user, node)

    def marks(self, *, node: str = LOCAL_NODE) -> tuple[Mark, ...]:
        """Return the marks on slots of `node`, the oldest first."""
        with self._read() as connection:
            return read_marks(connection, node)

    def mark(self, mark: Mark, *, kind: str = "repaired") -> bool:
        """Put a mark on a slot, in place of one of the same kind; False if it says the same already.

        `kind` is the history's word for it.
        """
        with self._write() as connection:
            before = connection.scalar(sa.select(slot_marks.c.why).where(*_is(mark)))
            if before == mark.why:
                return False
            values = {"why": mark.why, "who": mark.who, "since": mark.since}
            if before is None:
                key = {"node": mark.node, "slot_uuid": mark.slot, "kind": mark.kind.value}
                connection.execute(sa.insert(slot_marks).values(key | values))
            else:
                connection.execute(sa.update(slot_marks).where(*_is(mark)).values(values))
            insert_event(connection, None, mark.since, kind, mark.who, _describe(connection, mark, mark.why))
            return True

    def unmark(self, mark: Mark, now: datetime, *, who: str = "", why: str, kind: str = "repaired") -> bool:
        """Take a mark away; False if there is none, or another reason for it by now."""
        with self._write() as connection:
            gone = sa.delete(slot_marks).where(*_is(mark), slot_marks.c.why == mark.why)
            if connection.execute(gone).rowcount == 0:
                return False
            insert_event(connection, None, now, kind, who, _describe(connection, mark, why))
            return True

    def reservations(self, *, node: str = LOCAL_NODE) -> tuple[Reservation, ...]:
        """Return the reservations of `node`, the first to start first."""
        with self._read() as connection:
            return read_reservations(connection, node)

    def write_reservations(
        self, wanted: Iterable[Reservation], now: datetime, *, node: str = LOCAL_NODE
    ) -> None:
        """Record these reservations in place of all others; the devices of a known one stay as they were.

        Writes nothing where the ledger says the same already.
        """
        with self._read() as connection:
            known = read_reservations(connection, node)
        kept = {_name(one): one for one in known}
        found = [replace(one, devices=_devices(kept.get(_name(one)), one)) for one in wanted]
        if set(found) == set(known):
            return
        with self._write() as connection:
            connection.execute(sa.delete(reservations).where(reservations.c.node == node))
            for one in found:
                connection.execute(sa.insert(reservations).values(node=node, **_to_row(one)))
            for one in set(found) - set(known):
                window = f"from {one.start.isoformat()} to {one.end.isoformat()}"
                why = f"GPU {', '.join(one.gpus)} {window}: {one.reason}"
                insert_event(connection, None, now, "reserved", one.user, why)


def read_view(connection: sa.Connection, user: str, node: str) -> PoolView:
    """Return what a decision for `user` rests on, within a transaction."""
    present, ends = read_pool(connection, node)
    return PoolView(
        slots=present,
        taken=frozenset(ends),
        holdings=read_holdings(connection, user),
        ends=ends,
        marks=read_marks(connection, node),
        queue=read_queue(connection, node),
        reservations=read_reservations(connection, node),
    )


def _is(mark: Mark) -> Collection[sa.ColumnElement[bool]]:
    columns = slot_marks.c
    return (
        columns.node == mark.node,
        columns.slot_uuid == mark.slot,
        columns.kind == mark.kind.value,
    )


def _describe(connection: sa.Connection, mark: Mark, why: str) -> str:
    known = read_known_slots(connection, mark.node).get(mark.slot)
    what = f"slot {known[0].index if known else mark.slot}"
    if mark.kind is not MarkKind.DRAINED:
        what = f"{what}, {mark.kind.value}"
    return f"{what}: {why}" if why else what


def _name(one: Reservation) -> tuple[object, ...]:
    return one.user, one.start, one.end, one.gpus


def _devices(before: Reservation | None, one: Reservation) -> tuple[str, ...]:
    """Return what was resolved once and stays so; a GPU's number may mean another one after a reboot.

    What was only found in part is looked for again.
    """
    if before is not None and len(before.devices) >= len(one.devices):
        return before.devices
    return one.devices


def _to_row(one: Reservation) -> dict[str, object]:
    return {
        "user_name": one.user,
        "starts_at": one.start,
        "ends_at": one.end,
        "gpus": one.gpus,
        "reason": one.reason,
        "devices": one.devices,
    }
