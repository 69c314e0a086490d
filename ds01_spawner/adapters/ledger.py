"""The ledger: who holds which slot, kept in a database that lets no two leases have one slot.

All SQL of this package is here and in `migrations/`. It guarantees that a write happens whole or not
at all and is on the disk when the call returns; that writers take turns, since every write
transaction first bumps the one row of `pool`; and that a slot has at most one live lease, since a
unique index says so. It may be called from many threads and many processes at once. What the
database answers with is translated to `LedgerUnavailable`: no ledger, no lease.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from ..allocator import LeaseDraft, PoolView, slot_order
from ..errors import DS01Error, LedgerUnavailable, RequestRefused
from ..model import LOCAL_NODE, Holdings, Lease, LeaseState, Slot
from .migrations import statements
from .migrations.database import WRITES, open_engine
from .migrations.schema import leases, slots, to_row
from .migrations.statements import read_holdings, read_known_slots, read_leases, read_pool, read_slots

_UNAVAILABLE = (
    "The record of who holds which GPU cannot be read or written just now, so no server can be started. "
    "Try again in a minute; if it stays so, tell the administrators of this hub."
)
_SECOND = (
    "This server is already starting or running, or its container is kept after a stop. "
    "Open it from the Hub's home page, or stop it there and start it again."
)
_ENDED = "This server's hold on its GPU and its container has ended. Start the server again."


class Ledger:
    """One open database, by SQLAlchemy URL: `sqlite:////path/to/file`, or PostgreSQL.

    Opening creates or migrates the tables; a new SQLite file gets mode 0600. Every method may raise
    LedgerUnavailable; times go in and come out timezone-aware.
    """

    def __init__(self, url: str, *, busy_timeout: timedelta = timedelta(seconds=15)) -> None:
        with _translating():
            self._engine = open_engine(url, busy_timeout)
            self._writer = self._engine.execution_options(**{WRITES: True})

    def close(self) -> None:
        """Close all connections; nothing is lost, what was written is on the disk."""
        self._engine.dispose()

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

    def slots(self) -> tuple[Slot, ...]:
        """Return the slots that are present, of all nodes, in the order of their index."""
        with self._read() as connection:
            return tuple(sorted(read_slots(connection), key=slot_order))

    def view(self, user: str, *, node: str = LOCAL_NODE) -> PoolView:
        """Return what a decision for `user` would see now; it may be old when it is read."""
        with self._read() as connection:
            return _read_view(connection, user, node)

    def reserve(self, draft: LeaseDraft, decide: Callable[[PoolView], tuple[Slot, ...]]) -> Lease:
        """Insert a pending lease on the slots that `decide` returns, all in one write transaction.

        `decide` is pure and raises a DS01Error to refuse: then no lease is left, only an event
        that says why. It runs while all other writers wait.

        Raises:
            RequestRefused: a live lease of the same container name.
            DS01Error: whatever `decide` raises.
        """
        with self._write() as connection:
            try:
                _refuse_second_lease(connection, draft)
                chosen = decide(_read_view(connection, draft.user, draft.node))
            except DS01Error as error:
                # Nothing was inserted yet, so the transaction may commit with the event alone.
                refusal = error
                _insert_event(connection, None, draft.created_at, "refused", draft.user, error.message)
            else:
                lease = _insert_lease(connection, draft, chosen)
                _insert_event(connection, lease.id, draft.created_at, "pending", draft.user, "")
                return lease
        raise refusal

    def note_container(self, lease_id: int, container_id: str, now: datetime) -> Lease:
        """Record which container was created for a live lease, before it is started.

        Raises:
            RequestRefused: the lease is unknown or released.
        """
        return self._change(lease_id, now, "created", container_id, container_id=container_id)

    def activate(self, lease_id: int, container_id: str, now: datetime) -> Lease:
        """Make a pending or held lease active: its container runs, it has no deadline any more.

        Raises:
            RequestRefused: the lease is unknown, or was released meanwhile: its slots may be somebody else's.
        """
        state = LeaseState.ACTIVE
        return self._change(
            lease_id, now, "activated", container_id, state=state, container_id=container_id, deadline=None
        )

    def hold(self, lease_id: int, until: datetime | None, now: datetime, why: str) -> Lease:
        """Keep the lease and its slots without a running container; None is without an end.

        Raises:
            RequestRefused: the lease is unknown or released.
        """
        return self._change(lease_id, now, "held", why, state=LeaseState.HELD, deadline=until)

    def release(self, lease_id: int, now: datetime, why: str) -> bool:
        """End the lease and free its slots; False if it had ended before, or never was."""
        with self._write() as connection:
            user = connection.scalar(statements.END_LEASE, {"lease": lease_id})
            if user is None:
                return False
            connection.execute(statements.FREE_SLOTS, {"lease": lease_id})
            _insert_event(connection, lease_id, now, "released", user, why)
        return True

    def lease(self, lease_id: int) -> Lease | None:
        """Return the lease, released or not."""
        return self._find(statements.LEASE, id=lease_id)

    def live_leases(self, user: str | None = None) -> tuple[Lease, ...]:
        """Return the leases that are not released, of one user or of all, the oldest first."""
        with self._read() as connection:
            if user is None:
                return tuple(read_leases(connection, statements.LIVE_LEASES))
            return tuple(read_leases(connection, statements.LIVE_LEASES_OF_USER, user=user))

    def find_live(self, user: str, server: str) -> Lease | None:
        """Return the live lease of the user's server; "" is the default server."""
        return self._find(statements.LIVE_LEASE_OF_SERVER, user=user, server=server)

    def by_container(self, name: str, *, node: str = LOCAL_NODE) -> Lease | None:
        """Return the live lease whose container has this whole name."""
        return self._find(statements.LIVE_LEASE_OF_CONTAINER, node=node, container=name)

    def by_nonce(self, nonce: str) -> Lease | None:
        """Return the lease with this nonce, released or not."""
        return self._find(statements.LEASE_OF_NONCE, nonce=nonce)

    def holdings(self, user: str) -> Holdings:
        """Return what the user's live leases sum up to, over all nodes."""
        with self._read() as connection:
            return read_holdings(connection, user)

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with _translating(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with _translating(), self._writer.begin() as connection:
            bumped = connection.execute(statements.BUMP_EPOCH)
            if bumped.rowcount != 1:
                # Without the row nothing serialises writers, and they would not notice.
                raise LedgerUnavailable(_UNAVAILABLE, detail="the ledger's pool table lacks its one row")
            yield connection

    def _find(self, statement: sa.Select[Any], **values: object) -> Lease | None:
        with self._read() as connection:
            return next(read_leases(connection, statement, **values), None)

    def _change(self, lease_id: int, now: datetime, kind: str, why: str, **values: Any) -> Lease:
        """Change a live lease; nothing is written, no event either, if it is so already."""
        with self._write() as connection:
            before = next(read_leases(connection, statements.LIVE_LEASE, id=lease_id), None)
            if before is None:
                raise RequestRefused(_ENDED, detail=f"lease {lease_id} is not live, so not {kind}")
            after = replace(before, **values)
            if after != before:
                connection.execute(sa.update(leases).where(leases.c.id == lease_id).values(values))
                _insert_event(connection, lease_id, now, kind, before.user, why)
            return after


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, CommandError, sqlite3.Error, OSError, ImportError) as error:
        raise LedgerUnavailable(_UNAVAILABLE, detail=f"{type(error).__name__}: {error}") from error


def _read_view(connection: sa.Connection, user: str, node: str) -> PoolView:
    present, taken = read_pool(connection, node)
    return PoolView(slots=present, taken=taken, holdings=read_holdings(connection, user))


def _refuse_second_lease(connection: sa.Connection, draft: LeaseDraft) -> None:
    same = {"node": draft.node, "container": draft.container_name}
    if connection.execute(statements.LIVE_ID_OF_CONTAINER, same).first() is not None:
        raise RequestRefused(_SECOND)


def _insert_lease(connection: sa.Connection, draft: LeaseDraft, chosen: Sequence[Slot]) -> Lease:
    """Insert a pending lease with its slots, and return it as it would be read back."""
    row = {
        "nonce": draft.nonce,
        "node": draft.node,
        "user_name": draft.user,
        "server_name": draft.server,
        "group_name": draft.group,
        "container_name": draft.container_name,
        "state": LeaseState.PENDING,
        "fingerprint": draft.fingerprint,
        "created_at": draft.created_at,
        "deadline": draft.deadline,
    }
    inserted = connection.execute(statements.INSERT_LEASE, row)
    lease_id = next(iter(inserted.inserted_primary_key or ()))
    if chosen:
        rows = [_to_lease_slot(lease_id, position, slot) for position, slot in enumerate(chosen)]
        connection.execute(statements.INSERT_LEASE_SLOT, rows)
    return _make_pending(lease_id, draft, chosen)


def _to_lease_slot(lease_id: int, position: int, slot: Slot) -> dict[str, object]:
    return {
        "lease_id": lease_id,
        "position": position,
        "node": slot.node,
        "slot_uuid": slot.uuid,
        "profile": slot.profile,
        "share_numerator": slot.share.numerator,
        "share_denominator": slot.share.denominator,
        "live": True,
    }


def _make_pending(lease_id: int, draft: LeaseDraft, chosen: Sequence[Slot]) -> Lease:
    return Lease(
        id=lease_id,
        nonce=draft.nonce,
        user=draft.user,
        server=draft.server,
        container_name=draft.container_name,
        state=LeaseState.PENDING,
        slots=tuple(slot.uuid for slot in chosen),
        share=sum((slot.share for slot in chosen), Fraction(0)),
        created_at=draft.created_at.astimezone(timezone.utc),
        deadline=draft.deadline.astimezone(timezone.utc),
        fingerprint=draft.fingerprint,
        group=draft.group,
        node=draft.node,
    )


def _insert_event(
    connection: sa.Connection, lease_id: int | None, at: datetime, kind: str, who: str, why: str
) -> None:
    values = {"lease_id": lease_id, "at": at, "kind": kind, "who": who, "why": why}
    connection.execute(statements.INSERT_EVENT, values)
