"""A student's whole way in a real browser, and two who want the same slice."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from playwright.sync_api import expect

from ..hub import Hub
from ..student import Student
from .conftest import Visit

NewStudent = Callable[[], Student]


def test_from_the_form_through_a_build_to_work_in_lab_and_home(
    hub: Hub, student: Student, visit: Visit
) -> None:
    hub.lab.set_limits(student.person, max_runtime="2h")
    before = hub.built_images()
    visitor = visit(hub, student.person)
    page = visitor.open_form("thesis")
    page.locator("#ds01-profile-small").check()
    page.get_by_text("Framework, packages and lower limits").click()
    # A marker that no image had before, so that this one is built now.
    area = page.get_by_label("Python packages")
    area.fill(f'cowsay; python_version < "3.{100 + secrets.randbelow(10**6)}"')
    area.press("Enter")
    expect(page.locator("[data-ds01=image]")).to_contain_text("built first")
    visitor.start()
    page.wait_for_url(re.compile("spawn-pending"))
    expect(page.locator("[data-step=image]")).to_have_attribute("data-state", re.compile("now|done"))
    page.wait_for_url(re.compile(f"/user/{student.name}/thesis/lab"), timeout=240_000)
    assert len(hub.built_images() - before) == 1

    expect(page.locator(".ds01-session")).to_contain_text(re.compile(r"1g\.10gb · 1 h \d+ min left|2 h left"))
    visitor.shoot("lab-at-work")
    assert student.run("import cowsay; print(cowsay.char_names[0])", "thesis").strip()

    visitor.go("/hub/home")
    card = page.locator(".ds01-server[data-server=thesis]")
    expect(card).to_contain_text("Running")
    expect(card).to_contain_text("mlc-open thesis")
    expect(card).to_contain_text("left")
    card.get_by_role("button", name="Stop").click()
    expect(card).to_contain_text("Stopped")
    assert hub.leases(student.person) == ()


def test_of_two_who_want_the_last_slice_one_gets_it_and_the_other_reads_why(
    hub: Hub, newcomer: NewStudent, visit: Visit
) -> None:
    visitors = [visit(hub, newcomer().person) for _ in range(2)]
    for visitor in visitors:
        visitor.open_form().locator("#ds01-profile-large").check()
    for visitor in visitors:
        visitor.page.click("#spawn_form button[type=submit]", no_wait_after=True)
    led_on, told = re.compile("/user/[^/]+/lab"), re.compile("2g.20gb: this machine has 1, 0 free now")
    for visitor in visitors:
        visitor.page.wait_for_function(
            "() => location.pathname.endsWith('/lab') || document.body.innerText.includes('0 free now')",
            timeout=120_000,
        )
    (winner,) = [visitor for visitor in visitors if led_on.search(visitor.page.url)]
    (loser,) = [visitor for visitor in visitors if visitor is not winner]
    expect(loser.page.locator("body")).to_contain_text(told)
    loser.shoot("race-lost")
    assert [lease.user for lease in hub.leases() if lease.slots == hub.lab.slots("2g.20gb")] == [winner.name]
