"""What there is of slots, leases and queue, counted from the ledger each time that Prometheus asks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ... import metrics
from ...core.overview import Census, is_allocated
from ...errors import DS01Error
from ...metrics import Family
from ...model import Lease, LeaseState, MarkKind, QueueEntry, Slot, SlotState, TimeLeft

log = logging.getLogger(__name__)

Reading = tuple[Census, Mapping[int, TimeLeft]]
"""All that is counted, and the time left to each lease by its id."""
_Values = Mapping[tuple[str, ...], float]


class LedgerCollector(Collector):
    """Asks `read` whenever it is asked; where the ledger does not answer, it says just that."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all families, or only that the ledger is away."""
        try:
            census, left = self._read()
        except DS01Error as exc:
            log.warning("nothing is measured: %s", exc.detail or exc)
            yield _write(metrics.LEDGER_UP, {(): 0})
            return
        yield _write(metrics.LEDGER_UP, {(): 1})
        yield from measure(census, left)


def open_registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """Return what the service shows: the ledger's numbers, what it counted itself, and its process."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(read))
    for counted in (metrics.REFUSALS, metrics.REPAIRS, metrics.LIFETIME_STEPS):
        registry.register(counted)
    ProcessCollector(registry=registry)
    return registry


def measure(census: Census, left: Mapping[int, TimeLeft]) -> Iterator[GaugeMetricFamily]:
    """Yield each family with its values.

    A profile that the machine has is there with all states and an empty queue, so that no series comes
    and goes with its value.
    """
    slots = {one.slot.uuid: one.slot for one in census.slots}
    profiles = {slot.profile for slot in slots.values()}
    states = Counter((one.slot.profile, one.state.value) for one in census.slots)
    if census.inventory_age is not None:
        yield _write(metrics.INVENTORY_AGE, {(): census.inventory_age.total_seconds()})
    yield _write(
        metrics.SLOTS,
        {(profile, state.value): states[profile, state.value] for profile in profiles for state in SlotState},
    )
    yield _write(
        metrics.LEASES,
        Counter((lease.group, _find_origin(lease), lease.state.value) for lease in census.leases),
    )
    yield _write(metrics.SLOTS_IN_USE, _count_uses(census, slots))
    waits = _list_waits(census.queue, census.at)
    yield _write(
        metrics.QUEUE_LENGTH, {(profile,): len(waits.get(profile, ())) for profile in {*profiles, *waits}}
    )
    yield _write(
        metrics.QUEUE_OLDEST,
        {(profile,): max(waits.get(profile, (0,))) for profile in {*profiles, *waits}},
    )
    idle_slots, idle_seconds = _sum_idle(census, left, slots)
    yield _write(metrics.IDLE_SLOTS, idle_slots)
    yield _write(metrics.IDLE_SECONDS, idle_seconds)


def _find_origin(lease: Lease) -> str:
    return "allocated" if is_allocated(lease) else "hub"


def _count_uses(census: Census, slots: Mapping[str, Slot]) -> _Values:
    """Count slots by group, origin and profile; one that two use counts for both."""
    found = Counter[tuple[str, ...]]()
    for lease in census.leases:
        for uuid in lease.slots:
            found[lease.group, _find_origin(lease), _name(uuid, slots)] += 1
    for mark in census.marks:
        if mark.kind in (MarkKind.EXTERNAL, MarkKind.CONTESTED):
            found["", "foreign", _name(mark.slot, slots)] += 1
    return found


def _list_waits(queue: Iterable[QueueEntry], now: datetime) -> dict[str, list[float]]:
    """Return for how many seconds each start waits, by the profile it waits for."""
    waits: dict[str, list[float]] = {}
    for entry in queue:
        waited = max(0.0, (now - entry.entered_at).total_seconds())
        waits.setdefault(entry.wish.profile, []).append(waited)
    return waits


def _sum_idle(
    census: Census, left: Mapping[int, TimeLeft], slots: Mapping[str, Slot]
) -> tuple[_Values, _Values]:
    """Return how many slots are idle, and for how many seconds all of them, by group and profile."""
    number, seconds = Counter[tuple[str, ...]](), dict[tuple[str, ...], float]()
    for lease in census.leases:
        is_watched = lease.state is LeaseState.ACTIVE and lease.id in left
        since = left[lease.id].idle_since if is_watched else None
        for uuid in lease.slots:
            key = (lease.group, _name(uuid, slots))
            # There from the first lease on, so that a sum over time begins with nothing.
            number[key] += since is not None
            idle = 0.0 if since is None else max(0.0, (census.at - since).total_seconds())
            seconds[key] = seconds.get(key, 0.0) + idle
    return number, seconds


def _name(uuid: str, slots: Mapping[str, Slot]) -> str:
    return slots[uuid].profile if uuid in slots else ""


def _write(family: Family, values: _Values) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in sorted(values.items()):
        gauge.add_metric(labels, value)
    return gauge
