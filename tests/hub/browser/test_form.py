"""The options form in a real browser: choosing, what is free, what is refused, links, no scripts, a phone."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from ..hub import Hub
from ..student import Student
from .conftest import PHONE, Visit

NewStudent = Callable[[], Student]


def test_a_student_chooses_and_reads_what_she_will_get(hub: Hub, student: Student, visit: Visit) -> None:
    page = visit(hub, student.person).open_form()
    page.get_by_label("Small", exact=False).check()
    expect(page.locator("[data-ds01=gets]")).to_contain_text("1 × 1g.10gb")
    expect(page.locator("[data-ds01=holds]")).to_contain_text("1 of 2 GPU slots")
    page.get_by_text("Framework, packages and lower limits").click()
    page.get_by_label("Framework", exact=True).select_option("Pytorch")
    expect(page.get_by_label("Version", exact=True).locator("option")).not_to_have_count(0)
    packages = page.get_by_label("Python packages")
    packages.fill("cowsay")
    packages.press("Enter")
    packages.press_sequentially("six >=1.16 ")
    packages.press("Enter")
    expect(page.get_by_role("button", name="Remove six>=1.16")).to_be_visible()
    expect(page.locator("[data-ds01=gets]")).to_contain_text("2 Python packages")
    page.get_by_role("button", name="Remove cowsay").click()
    expect(page.locator("[data-ds01=gets]")).to_contain_text("1 Python package")
    page.get_by_text("The Dockerfile of its image").click()
    expect(page.locator("[data-ds01=dockerfile] pre")).to_contain_text("FROM ")


def test_what_is_free_changes_on_an_open_form(hub: Hub, newcomer: NewStudent, visit: Visit) -> None:
    reader, taker = newcomer(), newcomer()
    visitor = visit(hub, reader.person)
    page = visitor.open_form()
    card = page.locator(".ds01-card", has_text="Large")
    expect(card).to_contain_text("1 of 1 free")
    taker.start({"profile": "large"})
    # The lease is there, at the latest, when the server is; a form tells it within five seconds.
    expect(card).to_contain_text("all 1 in use", timeout=5000)
    expect(card).to_contain_text("Taken")
    expect(card.get_by_role("radio")).to_be_disabled()
    visitor.shoot("form-taken")
    taker.stop()
    expect(card).to_contain_text("1 of 1 free", timeout=5000)
    expect(card.get_by_role("radio")).to_be_enabled()


def test_what_was_refused_comes_back_beside_its_field_for_a_named_server_too(
    hub: Hub, student: Student, visit: Visit
) -> None:
    visitor = visit(hub, student.person)
    page = visitor.open_form("thesis")
    page.get_by_label("Small", exact=False).check()
    page.get_by_text("Framework, packages and lower limits").click()
    page.get_by_label("Python packages").fill("six")
    page.get_by_label("Memory", exact=True).fill("64g")
    visitor.start()
    memory = page.get_by_label("Memory", exact=True)
    expect(memory).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#ds01-memory-refusal")).to_contain_text("your limit is 1g")
    expect(memory).to_have_value("64g")
    expect(page.get_by_label("Small", exact=False)).to_be_checked()
    expect(page.get_by_role("button", name="Remove six")).to_be_visible()
    expect(page.get_by_text("For the server thesis")).to_be_visible()
    visitor.shoot("form-refused")
    # It goes to the server that it was meant for.
    action = str(page.locator("#spawn_form").get_attribute("action"))
    assert re.search(rf"/spawn/{student.name}/thesis\b", action)


def test_a_link_fills_the_form_and_starts_nothing(hub: Hub, newcomer: NewStudent, visit: Visit) -> None:
    one, other = newcomer(), newcomer()
    giver = visit(hub, one.person, permissions=["clipboard-read", "clipboard-write"])
    page = giver.open_form()
    page.get_by_label("Small", exact=False).check()
    page.get_by_text("Framework, packages and lower limits").click()
    page.get_by_label("Python packages").fill("six")
    page.get_by_label("CPUs").fill("1")
    page.get_by_role("button", name="Copy a link").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert "opt-packages=six" in link
    taker = visit(hub, other.person)
    opened = taker.go(link.removeprefix(hub.url).replace(f"/{one.name}", f"/{other.name}"))
    expect(opened.get_by_label("Small", exact=False)).to_be_checked()
    expect(opened.get_by_label("CPUs")).to_have_value("1")
    expect(opened.get_by_role("button", name="Remove six")).to_be_visible()
    assert other.server() == {}


def test_without_scripts_the_form_is_complete_and_starts_a_server(
    hub: Hub, student: Student, visit: Visit
) -> None:
    # The Hub's login page needs scripts; the form does not.
    signed_in = visit(hub, student.person)
    state = signed_in.page.context.storage_state()
    visitor = visit(hub, student.person, signed_in=False, java_script_enabled=False, storage_state=state)
    page = visitor.open_form()
    card = page.locator(".ds01-card", has_text="Small")
    expect(card).to_contain_text("free")
    page.locator("#ds01-profile-cpu").check()
    page.get_by_text("Framework, packages and lower limits").click()
    expect(page.get_by_label("Framework and version")).to_be_visible()
    expect(page.get_by_label("Python packages")).to_be_visible()
    visitor.shoot("form-without-scripts")
    visitor.start()
    student.wait_ready()


def test_the_form_fits_a_phone(hub: Hub, student: Student, visit: Visit) -> None:
    visitor = visit(hub, student.person, viewport=PHONE)
    page = visitor.open_form()
    page.get_by_text("Framework, packages and lower limits").click()
    expect(page.locator("[data-ds01=gets]")).not_to_be_empty()
    visitor.shoot("form-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_all_of_the_form_can_be_reached_by_keyboard(hub: Hub, student: Student, visit: Visit) -> None:
    page = visit(hub, student.person).open_form()
    page.locator("#ds01-profile-cpu").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#ds01-profile-small")).to_be_checked()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"ds01-gpu_profile", "Framework, packages and lower limits", "Start"} <= reached
