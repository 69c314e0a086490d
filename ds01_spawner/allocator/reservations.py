"""Reservations: which slots they mean, and for whom they bar a slot in a span of time.

A window holds its start and not its end. A lease that could run into somebody else's window does not
get the slot, so nothing that runs is ever pre-empted. Where windows of several people overlap on one
slot, it is theirs together: none of them bars it for another as far as that one's own window goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ..model import Reservation, Slot

_INDEX = re.compile(r"\d+(?::\d+)?")


def resolve_reservations(
    reservations: Iterable[Reservation], slots: Sequence[Slot]
) -> tuple[tuple[Reservation, ...], tuple[str, ...]]:
    """Return the reservations with the `devices` that their `gpus` mean now, and the indexes of no slot.

    `0` is the physical GPU and `0:1` the slice that have this index now; a UUID stands for itself,
    whether it is there or not. There is one device for each of the `gpus`, in their order, but none for
    an index that does not exist. A reservation that has devices is not resolved again, since an index
    may mean something else after a reboot.
    """
    devices: dict[str, str] = {}
    for slot in slots:
        devices[slot.index.partition(":")[0]] = slot.gpu_uuid
        devices[slot.index] = slot.uuid
    resolved: list[Reservation] = []
    unknown: dict[str, None] = {}
    for one in reservations:
        if not one.devices:
            found = {gpu: devices.get(gpu) if _INDEX.fullmatch(gpu) else gpu for gpu in one.gpus}
            unknown.update(dict.fromkeys(gpu for gpu, device in found.items() if device is None))
            one = replace(one, devices=tuple(device for device in found.values() if device is not None))
        resolved.append(one)
    return tuple(resolved), tuple(unknown)


def next_reservation(
    reservations: Iterable[Reservation], slots: Iterable[Slot], user: str, now: datetime
) -> datetime | None:
    """Return when somebody else's reservation of any of the slots begins, `now` for one that runs."""
    members = tuple(slots)
    starts = (
        max(one.start, now)
        for one in reservations
        if one.user != user and one.end > now and any(one.covers(slot) for slot in members)
    )
    return min(starts, default=None)


class Calendar:
    """The reservations that are not over yet, with what they cover of some slots."""

    def __init__(self, slots: Iterable[Slot], reservations: Iterable[Reservation], now: datetime) -> None:
        members = tuple(slots)
        current = sorted((one for one in reservations if one.end > now), key=lambda one: (one.start, one.end))
        covered = ((one, frozenset(slot.uuid for slot in members if one.covers(slot))) for one in current)
        self._windows = [(one, uuids) for one, uuids in covered if uuids]
        self._users = {one.user for one, _ in self._windows}
        self._by_slot: dict[str, list[Reservation]] = {}
        for one, uuids in self._windows:
            for uuid in uuids:
                self._by_slot.setdefault(uuid, []).append(one)

    def barring(self, user: str, start: datetime, until: datetime | None) -> dict[str, Reservation]:
        """Return the slots that `user` may not have from `start` to `until` (None: for ever), by UUID.

        Each comes with the first of the reservations that bar it.
        """
        found: dict[str, Reservation] = {}
        for one, uuids in self._windows:
            if one.user == user or not _overlaps(one, start, until):
                continue
            for uuid in uuids - found.keys():
                if not self._shares(uuid, one, user, start, until):
                    found[uuid] = one
        return found

    def own(self, user: str, now: datetime) -> frozenset[str]:
        """Return the slots that are reserved for `user` at this moment."""
        running = [uuids for one, uuids in self._windows if one.user == user and one.start <= now]
        return frozenset().union(*running)

    def earliest(self, uuid: str, user: str, start: datetime, length: timedelta | None) -> datetime:
        """Return the first moment from `start` on when nothing bars `length` (None: for ever) of a slot."""
        while (bar := self._find_bar(uuid, user, start, length)) is not None:
            start = bar.end
        return start

    def concerns(self, uuid: str, user: str) -> bool:
        """Whether any reservation of others covers the slot, now or later."""
        return any(one.user != user for one in self._by_slot.get(uuid, ()))

    def _find_bar(
        self, uuid: str, user: str, start: datetime, length: timedelta | None
    ) -> Reservation | None:
        until = None if length is None else start + length
        for one in self._by_slot.get(uuid, ()):
            if (
                one.user != user
                and _overlaps(one, start, until)
                and not self._shares(uuid, one, user, start, until)
            ):
                return one
        return None

    def _shares(
        self, uuid: str, other: Reservation, user: str, start: datetime, until: datetime | None
    ) -> bool:
        """Whether a window of her own has the slot for as long as she could be in the other's."""
        if user not in self._users:
            return False
        first, last = max(start, other.start), other.end if until is None else min(until, other.end)
        return any(one.user == user and one.start <= first and last <= one.end for one in self._by_slot[uuid])


def _overlaps(one: Reservation, start: datetime, until: datetime | None) -> bool:
    return start < one.end and (until is None or one.start < until)
