"""The lab's page in a real browser: as a student and as an admin, with changes under way, without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ..conftest import OpenHub
from ..hub import ADMIN, Hub
from ..lab import Person
from ..student import PASSWORD, Student
from .conftest import PHONE, Visit, Visitor

PATH = "/services/ds01/"
NASTY = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'> \u202e {{7*7}} \"q\""


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub of its own, since an admin takes its GPUs out of use."""
    return open_hub()


@pytest.fixture(scope="module")
def admin(hub: Hub) -> Person:
    return hub.lab.enrol(ADMIN)


@pytest.fixture(scope="module")
def ada(hub: Hub) -> Iterator[Student]:
    """A student with a server on the one large slice."""
    person = hub.lab.enrol("ada")
    hub.lab.set_limits(person, max_runtime="6h", policies={"max_extension_h": 1})
    student = hub.sign_in(person)
    student.start({"profile": "large"})
    yield student
    if student.server():
        student.stop()
    student.close()
    hub.clean(person)


def enter(visit: Visit, hub: Hub, person: Person, **options: Any) -> Visitor:
    """Sign in on the way to the page: without it, who has a server would be sent there."""
    visitor: Visitor = visit(hub, person, signed_in=False, **options)
    page = visitor.go(f"/hub/login?next={PATH}")
    page.fill("input[name=username]", person.name)
    page.fill("input[name=password]", PASSWORD)
    page.click("#login_submit")
    expect(page.locator("#gpus section")).to_have_count(3)
    return visitor


def row(page: Page, index: str) -> str:
    return f'#gpus tr:has(th:text-is("{index}"))'


def fill_reason(page: Page, words: str) -> None:
    page.get_by_label("Reason").fill(words)
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_be_hidden()


def test_a_student_sees_what_is_hers_and_an_admin_whose_it_is(
    hub: Hub, ada: Student, admin: Person, visit: Visit
) -> None:
    hers = enter(visit, hub, ada.person).page
    expect(hers.locator("#mine tbody tr")).to_contain_text("2g.20gb")
    expect(hers.locator("[data-list=slices] li[data-mine]")).to_have_count(1)
    expect(hers.get_by_role("button", name="Drain")).to_have_count(0)
    page = enter(visit, hub, admin).page
    expect(page.locator(row(page, "0:0"))).to_contain_text("ada")
    expect(page.locator("#events tbody")).to_contain_text("activated")
    expect(page.get_by_role("link", name="Admin")).to_be_visible()


def test_a_drain_is_asked_back_and_appears_on_open_pages_as_text(
    hub: Hub, ada: Student, admin: Person, visit: Visit
) -> None:
    hers, page = enter(visit, hub, ada.person).page, enter(visit, hub, admin).page
    slice_of_hers = hers.locator("[data-list=slices] li", has_text="1:5")
    expect(slice_of_hers).to_have_attribute("data-state", "free")
    hers.get_by_role("button", name="Extend").focus()
    page.get_by_role("button", name="Drain 1:5").press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_be_visible()
    fill_reason(page, NASTY)
    expect(page.locator(row(page, "1:5"))).to_contain_text(f"drained by {ADMIN}: {NASTY}")
    expect(page.locator("#announcement")).to_have_text("slot 1:5 is drained.")
    expect(slice_of_hers).to_have_attribute("data-state", "drained", timeout=5000)
    # Its button is gone, and the keyboard goes on from the top; on her page nothing was lost.
    expect(page.locator("#title")).to_be_focused()
    expect(hers.get_by_role("button", name="Extend")).to_be_focused()
    page.reload()
    assert page.evaluate("'ran' in window") is False
    page.get_by_role("button", name="Undrain 1:5").click()
    fill_reason(page, "a new fan")
    expect(slice_of_hers).to_have_attribute("data-state", "free", timeout=5000)


def test_a_dialog_stays_open_and_filled_while_the_page_changes(
    hub: Hub, ada: Student, admin: Person, visit: Visit
) -> None:
    first, second = enter(visit, hub, admin).page, enter(visit, hub, admin).page
    first.get_by_role("button", name="Drain 1:1").click()
    first.get_by_label("Reason").fill("half a")
    second.get_by_role("button", name="Drain 2").click()
    fill_reason(second, "power")
    expect(first.locator(row(first, "2"))).to_contain_text("power")
    expect(first.get_by_label("Reason")).to_be_focused()
    expect(first.get_by_label("Reason")).to_have_value("half a")
    first.keyboard.press("Escape")
    expect(first.get_by_role("button", name="Drain 1:1")).to_be_focused()
    second.get_by_role("button", name="Undrain 2").click()
    fill_reason(second, "done")


def test_more_time_is_refused_in_the_dialog_with_what_to_ask_for(
    hub: Hub, ada: Student, visit: Visit
) -> None:
    page = enter(visit, hub, ada.person).page
    page.get_by_role("button", name="Extend").click()
    page.get_by_label("Hours more").fill("3")
    page.get_by_role("button", name="Give more time").click()
    expect(page.get_by_role("alert")).to_contain_text("your limit is 1 h at once")
    page.get_by_label("Hours more").fill("1")
    page.get_by_role("button", name="Give more time").click()
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator("#mine")).to_contain_text("6 h 5")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("who", ["admin", "student"])
def test_the_page_is_for_everybody_on_any_screen(
    hub: Hub, ada: Student, admin: Person, visit: Visit, who: str, scheme: str
) -> None:
    person = admin if who == "admin" else ada.person
    for size, viewport in (("wide", {"width": 1400, "height": 900}), ("phone", PHONE)):
        visitor = enter(visit, hub, person, viewport=viewport, color_scheme=scheme)
        page = visitor.page
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert visitor.list_violations() == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        visitor.shoot(f"lab-{who}-{scheme}-{size}")


def test_without_scripts_the_page_is_a_table(hub: Hub, ada: Student, visit: Visit) -> None:
    page = enter(visit, hub, ada.person, java_script_enabled=False).page
    expect(page.locator("#mine tbody tr")).to_contain_text("2g.20gb")
    expect(page.locator("noscript .alert")).to_contain_text("Load it anew")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_an_admin_stops_a_server_and_the_student_sees_it(
    hub: Hub, ada: Student, admin: Person, visit: Visit
) -> None:
    hers, page = enter(visit, hub, ada.person).page, enter(visit, hub, admin).page
    page.get_by_role("button", name="Stop what runs on 0:0").click()
    expect(page.get_by_role("heading", name="Stop ada's server jupyter?")).to_be_visible()
    fill_reason(page, "exam week")
    expect(page.locator("#events")).to_contain_text(f"released by {ADMIN}: exam week")
    expect(hers.locator("#mine")).to_be_hidden()
    assert not ada.server()
