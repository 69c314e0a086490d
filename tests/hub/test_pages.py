"""The Hub's pages of ours as HTML: what they tell without a script, and that nobody's words become markup."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator

import pytest

from .hub import Hub
from .obstacles import Gate, base_that_builds_slowly, gate_at
from .student import Student, read_text
from .test_builds import DOES_NOT_COMPILE
from .waiting import wait_for

EVIL = "<script>alert('hi')</script>\"'{{7*7}}"


def find_card(page: str, server: str = "") -> str:
    """Return the HTML of one server on the home page."""
    match = re.search(
        rf'<li class="ds01-server"\s+data-server="{re.escape(server)}".*?data-ds01="said"', page, re.DOTALL
    )
    assert match is not None, page
    return match[0]


def is_shown(card: str, name: str) -> bool:
    """Whether a part of a card is to be seen."""
    match = re.search(rf'<\w+ [^>]*data-ds01="{name}"[^>]*>', card)
    return match is not None and "hidden" not in match[0]


def test_home_is_whole_without_a_script(hub: Hub, student: Student) -> None:
    hub.lab.set_limits(student.person, max_runtime="3h")
    before = find_card(student.page("/hub/home").text)
    assert "Stopped" in read_text(before)
    assert f'href="/hub/spawn/{student.name}"' in before
    student.start({"profile": "small"})
    page = student.page("/hub/home").text
    card = find_card(page)
    (lease,) = hub.leases(student.person)
    with hub.ledger() as ledger:
        (slot,) = [slot for slot in ledger.known_slots() if slot.uuid in lease.slots]
    text = read_text(card)
    for said in ("Running", "Profile Small", f"GPU 1g.10gb {slot.index}", "left, until", "mlc-open jupyter"):
        assert said in text
    assert f'href="/user/{student.name}/"' in card
    assert is_shown(card, "extend")
    assert is_shown(card, "ssh")
    assert 'href="/services/ds01/"' in page


def test_while_a_file_of_the_site_cannot_be_read_home_says_so_and_shows_what_the_hub_knows(
    hub: Hub, student: Student
) -> None:
    student.start({"profile": "small"})
    limits = hub.lab.limits.read_text()
    hub.lab.limits.write_text("defaults: [")
    try:
        page = student.page("/hub/home")
    finally:
        hub.lab.limits.write_text(limits)
    assert page.status_code == 200
    assert "cannot be shown meanwhile" in read_text(page.text)
    assert "Running" in read_text(find_card(page.text))


def test_names_that_are_markup_are_shown_as_text(student: Student) -> None:
    student.form("thesis", query=f"display_name={EVIL}")
    page = student.page("/hub/home").text
    assert EVIL not in page
    assert EVIL in html.unescape(find_card(page, "thesis"))


def test_a_failed_build_is_explained_and_packages_and_log_lines_that_are_markup_are_text(
    student: Student,
) -> None:
    answer = student.ask_start({"packages": [DOES_NOT_COMPILE], "requirements": f"# {EVIL}\nsix"}, "thesis")
    student.read_refusal(answer, "thesis")
    events = wait_for(lambda: list(student.watch("thesis")), "the start has failed")
    assert "<script" not in events[-1]["html_message"]
    student.wait_gone("thesis")
    failed = student.page(f"/hub/spawn-pending/{student.name}/thesis").text
    assert "The start of thesis failed" in read_text(failed)
    assert "pycrypto could not be compiled" in read_text(failed)
    assert EVIL not in failed
    assert f'href="/hub/spawn/{student.name}/thesis"' in failed
    assert "See why" in read_text(find_card(student.page("/hub/home").text, "thesis"))
    assert DOES_NOT_COMPILE in student.form("thesis").text


@pytest.fixture
def slow(hub: Hub) -> Iterator[tuple[Gate, str]]:
    """A base image whose builds wait at a gate, and the gate."""
    with gate_at(hub.gateway) as gate, base_that_builds_slowly(hub.docker, hub.lab.base.image, gate) as base:
        yield gate, base


def test_each_event_is_dated_and_says_its_step_and_a_reconnect_tells_the_same(
    student: Student, slow: tuple[Gate, str]
) -> None:
    gate, base = slow
    student.ask_start({"profile": "base", "base_image": base}, "thesis")
    gate.wait_until_reached()
    first = list(itertools.takewhile(lambda event: event.get("kind") != "build", student.watch("thesis")))
    gate.decide(open=False)
    dated = [event for event in student.watch("thesis") if "at" in event]
    moments = [event["at"] for event in dated]
    assert moments == sorted(set(moments))
    before = [event["at"] for event in first if "at" in event]
    assert before == moments[: len(before)]
    assert {"step", "build", "log"} <= {event["kind"] for event in dated}
    assert {event["step"] for event in dated} == {"image"}


def test_the_page_of_a_named_server_names_what_its_cancel_ends_and_shows_what_was_told_last(
    hub: Hub, student: Student, slow: tuple[Gate, str]
) -> None:
    gate, base = slow
    student.ask_start({"profile": "base", "base_image": base}, "thesis")
    gate.wait_until_reached()
    page = student.page(f"/hub/spawn-pending/{student.name}/thesis").text
    assert f'data-user="{student.name}"' in page
    assert 'data-server="thesis"' in page
    assert re.search(r'<p class="alert alert-info">[^<]+</p>', page)
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    assert student.ask_stop("thesis").status_code in (202, 204)
    gate.decide(open=False)
    student.wait_gone("thesis")
    wait_for(lambda: not hub.traces(student.person), "nothing is left")


def test_a_server_that_does_not_run_leads_to_its_form(student: Student) -> None:
    page = student.page(f"/hub/user/{student.name}/")
    text = read_text(page.text)
    assert "Your server is not running" in text
    assert "Choose and start" in text
    assert "Back home" in text
