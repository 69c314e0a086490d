"""What Prometheus reads of slots, leases, queue and idleness, on values."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ds01_spawner import allocator
from ds01_spawner.core.overview import Census
from ds01_spawner.errors import LedgerUnavailable
from ds01_spawner.metrics import FAMILIES
from ds01_spawner.model import (
    FULL_GPU,
    GpuWish,
    Lease,
    LeaseState,
    Mark,
    MarkKind,
    QueueEntry,
    Slot,
    TimeLeft,
)
from ds01_spawner.service.web.collector import LedgerCollector, Reading
from tests.unit.pools import HOUR, MINUTE, NOW

SMALL = Slot(
    uuid="MIG-0",
    index="0:0",
    profile="1g.10gb",
    gpu_uuid="GPU-0",
    gpu_name="A100",
    memory_mib=9728,
    share=Fraction(1, 7),
)
SECOND, THIRD = replace(SMALL, uuid="MIG-1", index="0:1"), replace(SMALL, uuid="MIG-2", index="0:2")
FULL = replace(SMALL, uuid="GPU-1", gpu_uuid="GPU-1", index="1", profile=FULL_GPU, share=Fraction(1))


def lease(number: int, *slots: Slot, group: str = "student", server: str = "") -> Lease:
    return Lease(
        id=number,
        nonce=str(number),
        user="ada",
        server=server,
        container_name=f"{server or 'jupyter'}._.1001",
        state=LeaseState.ACTIVE,
        slots=tuple(slot.uuid for slot in slots),
        share=Fraction(0),
        created_at=NOW - HOUR,
        group=group,
    )


def wait(profile: str, minutes: int) -> QueueEntry:
    wish = GpuWish(user="bob", profile=profile, count=1, requested_at=NOW - minutes * MINUTE)
    return QueueEntry(
        id=minutes, wish=wish, server="", container_name="jupyter._.1002", entered_at=NOW - minutes * MINUTE
    )


def count(*leases: Lease, marks: tuple[Mark, ...] = (), queue: tuple[QueueEntry, ...] = ()) -> Census:
    slots = (SMALL, SECOND, THIRD, FULL)
    return Census(
        at=NOW,
        slots=allocator.slot_states(slots, leases, marks, (), NOW),
        leases=leases,
        marks=marks,
        queue=queue,
        inventory_age=timedelta(seconds=7),
    )


def scrape(reading: Reading | LedgerUnavailable) -> dict[tuple[str, ...], float]:
    """Return what Prometheus parses: name and label values to the value."""

    def read() -> Reading:
        if isinstance(reading, LedgerUnavailable):
            raise reading
        return reading

    registry = CollectorRegistry()
    registry.register(LedgerCollector(read))
    return {
        (
            sample.name.removeprefix("ds01_"),
            *(sample.labels[name] for name in sorted(sample.labels)),
        ): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_every_state_of_every_profile_is_there_with_its_number_of_slots() -> None:
    found = scrape((count(lease(1, SMALL)), {}))
    assert found["slots", "1g.10gb", "leased"] == 1
    assert found["slots", "1g.10gb", "free"] == 2
    assert found["slots", "1g.10gb", "drained"] == 0
    assert found["slots", "full", "free"] == 1
    assert len([key for key in found if key[0] == "slots"]) == 2 * 9


def test_leases_are_counted_by_group_origin_and_state_those_without_slots_too() -> None:
    made = (
        lease(1, SMALL),
        lease(2),
        replace(lease(3, FULL, group="staff", server="#allocated-0f"), state=LeaseState.HELD),
    )
    found = scrape((count(*made), {}))
    assert found["leases", "student", "hub", "active"] == 2
    assert found["leases", "staff", "allocated", "held"] == 1


def test_a_slot_that_somebody_else_uses_counts_as_foreign_a_contested_one_as_both() -> None:
    marks = (
        Mark(slot=SMALL.uuid, kind=MarkKind.CONTESTED, why="used by x", since=NOW),
        Mark(slot=SECOND.uuid, kind=MarkKind.EXTERNAL, why="used by x", since=NOW),
        Mark(slot=THIRD.uuid, kind=MarkKind.DRAINED, why="fan", since=NOW, who="eve"),
    )
    found = scrape((count(lease(1, SMALL), marks=marks), {}))
    assert found["slots_in_use", "", "foreign", "1g.10gb"] == 2
    assert found["slots_in_use", "student", "hub", "1g.10gb"] == 1


def test_the_queue_has_its_length_and_its_longest_wait_by_profile() -> None:
    found = scrape((count(queue=(wait("full", 20), wait("full", 3))), {}))
    assert found["queue_length", "full"] == 2
    assert found["queue_oldest_seconds", "full"] == 20 * 60
    assert found["queue_length", "1g.10gb"] == found["queue_oldest_seconds", "1g.10gb"] == 0


def test_idle_slots_are_counted_and_their_time_is_added_up_over_slots() -> None:
    left = {
        1: TimeLeft(idle_since=NOW - 10 * MINUTE),
        2: TimeLeft(),
        3: TimeLeft(idle_since=NOW + MINUTE),
        4: TimeLeft(idle_since=NOW - HOUR),
    }
    made = (lease(1, SMALL, SECOND), lease(2, THIRD), lease(3, FULL, group="staff"), lease(4))
    found = scrape((count(*made), left))
    assert found["idle_leased_slots", "student", "1g.10gb"] == 2
    assert found["idle_leased_seconds", "student", "1g.10gb"] == 2 * 10 * 60
    # The clock was set back, and a server without slots keeps none from anybody.
    assert found["idle_leased_seconds", "staff", "full"] == 0
    held = replace(lease(1, SMALL), state=LeaseState.HELD)
    assert scrape((count(held), left))["idle_leased_slots", "student", "1g.10gb"] == 0
    assert len([key for key in found if key[0] == "idle_leased_slots"]) == 2


def test_no_label_is_the_name_of_a_person_a_server_a_container_or_a_gpu() -> None:
    made = lease(1, SMALL, server="thesis")
    marks = (Mark(slot=SECOND.uuid, kind=MarkKind.EXTERNAL, why="used by eve._.1009", since=NOW),)
    found = scrape((count(made, marks=marks, queue=(wait("full", 3),)), {}))
    words = {word for key in found for word in key[1:]}
    assert not [
        word for word in words if any(name in word for name in ("ada", "bob", "eve", "thesis", "MIG"))
    ]


def test_every_family_is_shown_and_without_a_ledger_only_that_it_is_away() -> None:
    shown = {f"ds01_{key[0]}" for key in scrape((count(lease(1, SMALL)), {}))}
    assert shown == {family.name for family in FAMILIES}
    assert scrape(LedgerUnavailable("The ledger cannot be read.")) == {("ledger_up",): 0}
