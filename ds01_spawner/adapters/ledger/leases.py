"""Leases: reserved in one transaction with the decision, changed, and ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from fractions import Fraction
from typing import Any

import sqlalchemy as sa

from ...allocator import LeaseDraft, PoolView
from ...errors import DS01Error, NothingFree, RequestRefused
from ...model import LOCAL_NODE, GpuWish, Holdings, Lease, LeaseState, Slot
from ..migrations import statements
from ..migrations.schema import leases, takes_to_row
from ..migrations.statements import read_holdings, read_leases
from .history import History
from .images import ImageRows
from .pool import PoolRows, read_view
from .queue import QueueRows, drop_place, take_place
from .store import insert_event
from .watches import WatchRows

_SECOND = (
    "This server is already starting or running, or its container is kept after a stop. "
    "Open it from the Hub's home page, or stop it there and start it again."
)
_ENDED = "This server's hold on its GPU and its container has ended. Start the server again."


class Ledger(PoolRows, QueueRows, ImageRows, WatchRows, History):
    """The whole ledger; see `store.Store` for how it is opened and what every method may raise."""

    def reserve(
        self,
        draft: LeaseDraft,
        decide: Callable[[PoolView], tuple[Slot, ...]],
        *,
        wish: GpuWish | None = None,
        queue_limit: int = 0,
    ) -> Lease:
        """Insert a pending lease on the slots that `decide` returns, all in one write transaction.

        `decide` is pure and raises a DS01Error to refuse: then no lease is left, only an event
        that says why. It runs while all other writers wait. Where `wish` may wait for a slot, a place
        in the queue is left too, in the same transaction; a lease ends the wait.

        Raises:
            RequestRefused: a live lease of the same container name.
            QueueFull: nothing is free, and `queue_limit` others wait already.
            DS01Error: whatever `decide` raises.
        """
        now = draft.created_at
        with self._write() as connection:
            try:
                _refuse_second_lease(connection, draft)
                chosen = decide(read_view(connection, draft.user, draft.node))
            except DS01Error as error:
                # Nothing was inserted yet, so the transaction may commit with what is told alone.
                refusal = _wait_or_refuse(connection, draft, error, wish, queue_limit)
            else:
                drop_place(connection, draft.node, draft.container_name, now)
                lease = _insert_lease(connection, draft, chosen)
                insert_event(connection, lease.id, now, "pending", draft.user, "")
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
            RequestRefused: the lease is unknown, is being ended or was released meanwhile: its slots may
                be somebody else's.
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

    def resume(self, lease_id: int, owner: str, until: datetime, now: datetime) -> Lease:
        """Keep a held lease until its container, which is started now by `owner`, runs.

        Raises:
            RequestRefused: the lease is unknown, is being ended or was released meanwhile.
        """
        return self._change(lease_id, now, "resumed", "", owner=owner, deadline=until)

    def end(
        self,
        lease_id: int,
        now: datetime,
        why: str,
        *,
        owner: str = "",
        until: datetime | None = None,
        seen: Lease | None = None,
        kind: str = "ending",
    ) -> bool:
        """Record that `owner` ends a live lease: nothing makes it active again, its slots stay taken.

        Others leave that to it `until` a time. False, and nothing recorded, if the lease was released, or is
        no more as it was `seen`. `kind` is the history's word for it.
        """
        with self._write() as connection:
            lease = next(read_leases(connection, statements.LIVE_LEASE, id=lease_id), None)
            if lease is None or (seen is not None and lease != seen):
                return False
            if not lease.ending:
                change = sa.update(leases).where(leases.c.id == lease_id)
                connection.execute(change.values(ending=why, owner=owner, deadline=until))
                insert_event(connection, lease_id, now, kind, lease.user, why)
            return True

    def release(self, lease_id: int, now: datetime, why: str) -> bool:
        """End the lease and free its slots; False if it had ended before, or never was."""
        with self._write() as connection:
            user = connection.scalar(statements.END_LEASE, {"lease": lease_id, "now": now})
            if user is None:
                return False
            connection.execute(statements.FREE_SLOTS, {"lease": lease_id})
            insert_event(connection, lease_id, now, "released", user, why)
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

    def leases_of(self, containers: Collection[str], nonces: Collection[str]) -> tuple[Lease, ...]:
        """Return the leases, released or not, which have one of these container ids or nonces."""
        with self._read() as connection:
            named = {"containers": list(containers), "nonces": list(nonces)}
            return tuple(read_leases(connection, statements.LEASES_OF, **named))

    def released_since(self, since: datetime) -> tuple[Lease, ...]:
        """Return the leases that ended since a time."""
        with self._read() as connection:
            return tuple(read_leases(connection, statements.RELEASED_SINCE, since=since))

    def note(self, lease: Lease, kind: str, why: str, now: datetime) -> None:
        """Add a line about a lease to the history."""
        with self._write() as connection:
            insert_event(connection, lease.id, now, kind, lease.user, why)

    def holdings(self, user: str) -> Holdings:
        """Return what the user's live leases sum up to, over all nodes."""
        with self._read() as connection:
            return read_holdings(connection, user)

    def _find(self, statement: sa.Select[Any], **values: object) -> Lease | None:
        with self._read() as connection:
            return next(read_leases(connection, statement, **values), None)

    def _change(self, lease_id: int, now: datetime, kind: str, why: str, **values: Any) -> Lease:
        """Change a live lease; nothing is written, no event either, if it is so already."""
        with self._write() as connection:
            before = next(read_leases(connection, statements.LIVE_LEASE, id=lease_id), None)
            if before is None or before.ending:
                raise RequestRefused(_ENDED, detail=f"lease {lease_id} is not live, so not {kind}")
            after = replace(before, **values)
            if after != before:
                connection.execute(sa.update(leases).where(leases.c.id == lease_id).values(values))
                insert_event(connection, lease_id, now, kind, before.user, why)
            return after


def _wait_or_refuse(
    connection: sa.Connection, draft: LeaseDraft, error: DS01Error, wish: GpuWish | None, queue_limit: int
) -> DS01Error:
    """Leave a place in the queue where `error` lets one wait; returns what the caller is told."""
    now = draft.created_at
    try:
        if wish is not None and isinstance(error, NothingFree) and error.can_wait:
            take_place(connection, draft, wish, now, queue_limit, error.message)
            return error
    except DS01Error as full:
        error = full
    drop_place(connection, draft.node, draft.container_name, now)
    insert_event(connection, None, now, "refused", draft.user, error.message)
    return error


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
        "owner": draft.owner,
        "runs_until": draft.runs_until,
        **takes_to_row(draft.takes),
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
        owner=draft.owner,
        runs_until=draft.runs_until.astimezone(timezone.utc) if draft.runs_until else None,
        takes=draft.takes,
        node=draft.node,
    )
