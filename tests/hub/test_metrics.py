"""What Prometheus reads at the Hub's and at the service's address, before and after something happens."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ds01_spawner.metrics import SpawnStep

from .hub import TOKENS, Hub
from .student import Student
from .waiting import wait_for

PACKAGE = "iniconfig==2.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The values of one address, by name and labels; what is not there is 0, as to Prometheus' `increase`."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __call__(self, name: str, **labels: str) -> float:
        return self.values.get((name, frozenset(labels.items())), 0)


def scrape(hub: Hub, path: str) -> Scrape:
    """Ask as Prometheus does; what is written otherwise than it reads fails here."""
    headers = {"Authorization": f"Bearer {TOKENS['prometheus']}"}
    answer = httpx.get(f"{hub.url}{path}", headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return Scrape(
        values={
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name.startswith("ds01_")
        }
    )


def at_hub(hub: Hub) -> Scrape:
    return scrape(hub, "/hub/metrics")


def at_service(hub: Hub) -> Scrape:
    return scrape(hub, "/services/ds01/metrics")


def test_a_start_shows_its_steps_at_the_hub_and_its_lease_at_the_service(hub: Hub, student: Student) -> None:
    hub_before, before = at_hub(hub), at_service(hub)
    student.start({"profile": "small"})
    hub_after, after = at_hub(hub), at_service(hub)

    for step in SpawnStep:
        count = "ds01_spawn_step_seconds_count"
        assert hub_after(count, step=step.value) == hub_before(count, step=step.value) + 1, step
    sums = [hub_after("ds01_spawn_step_seconds_sum", step=step.value) for step in SpawnStep]
    assert all(seconds > 0 for seconds in sums)
    state = {"profile": "1g.10gb", "state": "leased"}
    assert after("ds01_slots", **state) == before("ds01_slots", **state) + 1
    lease = {"group": "student", "origin": "hub", "state": "active"}
    assert after("ds01_leases", **lease) == before("ds01_leases", **lease) + 1
    use = {"group": "student", "origin": "hub", "profile": "1g.10gb"}
    assert after("ds01_slots_in_use", **use) == before("ds01_slots_in_use", **use) + 1
    assert after("ds01_ledger_up") == 1
    assert after("ds01_inventory_age_seconds") < 60
    assert after("ds01_queue_length", profile="1g.10gb") == 0


def test_a_refusal_is_counted_by_its_reason_at_the_hub(hub: Hub, student: Student) -> None:
    refused = {"asked": "start", "reason": "limit"}
    before = at_hub(hub)("ds01_refusals_total", **refused)
    student.read_refusal(student.ask_start({"profile": "small", "gpu_count": 3}))
    assert at_hub(hub)("ds01_refusals_total", **refused) == before + 1


@pytest.mark.slow
def test_a_build_is_counted_with_what_was_reused_and_an_image_that_is_there_is_a_hit(
    hub: Hub, student: Student
) -> None:
    options = {"profile": "cpu", "packages": [PACKAGE]}
    student.start(options)
    student.stop()
    with hub.ledger() as ledger:
        (tag,) = {use.tag for use in ledger.image_uses() if use.user == student.name}
    # All its steps are in Docker's build cache then.
    hub.docker.remove_image(tag)

    before = at_hub(hub)
    student.start(options)
    student.stop()
    built = at_hub(hub)
    student.start(options)
    found = at_hub(hub)

    assert _builds(built) == _builds(before) + 1
    reused = {"source": "reused"}
    assert built("ds01_build_steps_total", **reused) > before("ds01_build_steps_total", **reused)
    for source, first, second in (("built", before, built), ("found", built, found)):
        images = ("ds01_start_images_total", {"source": source})
        assert second(images[0], **images[1]) == first(images[0], **images[1]) + 1
    assert _builds(found) == _builds(built)


def _builds(scraped: Scrape) -> float:
    return scraped("ds01_build_seconds_count", outcome="built")


def test_a_repair_is_counted_where_it_was_made(hub: Hub, student: Student) -> None:
    student.start({"profile": "small"})
    before = _released(hub)
    hub.docker.remove_container(hub.container(student.person)["Id"], force=True)
    wait_for(lambda: hub.leases(student.person) == (), "its lease has ended")
    # The Hub's look at its server and the service's own may come first, and one of them counts.
    wait_for(lambda: _released(hub) > before, "it is counted")
    student.wait_gone()
    assert _released(hub) == before + 1


def _released(hub: Hub) -> float:
    return sum(one("ds01_repairs_total", action="release") for one in (at_hub(hub), at_service(hub)))
