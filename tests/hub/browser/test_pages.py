"""The waiting page and the home page in a real browser: a build, a queue, a failure, time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from ..conftest import OpenHub, signed_in
from ..hub import Hub
from ..obstacles import base_that_builds_slowly, gate_at
from ..student import Student
from ..test_builds import DOES_NOT_COMPILE
from .conftest import PHONE, Visit, Visitor

NewStudent = Callable[[], Student]
LARGE = {"profile": "large"}


@pytest.fixture(scope="module")
def queueing_hub(open_hub: OpenHub) -> Hub:
    """A Hub on which people wait for what is taken."""
    return open_hub(settings={"DS01": {"queue_limit": 5}})


@pytest.fixture
def newcomers(queueing_hub: Hub) -> Iterator[NewStudent]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(signed_in(queueing_hub))


def pending_page(student: Student, server: str = "") -> str:
    return f"/hub/spawn-pending/{student.name}/{server}".rstrip("/")


def look(visitor: Visitor, name: str) -> None:
    """Keep pictures of a page, wide and on a phone, light and dark, and ask axe about each."""
    page = visitor.page
    before = page.viewport_size
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.setAttribute('data-bs-theme', theme)", theme)
        for width, size in (("wide", {"width": 1400, "height": 900}), ("phone", PHONE)):
            page.set_viewport_size(size)
            visitor.shoot(f"{name}-{width}-{theme}")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert visitor.list_violations() == []
    page.evaluate("document.documentElement.setAttribute('data-bs-theme', 'light')")
    if before:
        page.set_viewport_size(before)


def test_who_waits_sees_the_steps_of_the_build_and_what_it_prints_and_is_led_on(
    hub: Hub, student: Student, visit: Visit
) -> None:
    with gate_at(hub.gateway) as gate, base_that_builds_slowly(hub.docker, hub.lab.base.image, gate) as base:
        before = hub.built_images()
        student.ask_start({"profile": "base", "base_image": base})
        visitor = visit(hub, student.person)
        page = visitor.go(pending_page(student))
        gate.wait_until_reached()
        expect(page.locator("[data-step=image]")).to_have_attribute("data-state", "now")
        expect(page.locator("[data-ds01=build]")).to_contain_text("Installing the notebook server")
        page.get_by_text("What the build prints").click()
        look(visitor, "waiting")
        gate.decide(open=True)
        # The notebook server has to be installed on this base first.
        page.wait_for_url(f"**/user/{student.name}/**", timeout=240_000)
        student.stop()
        for image in hub.built_images() - before:
            hub.docker.remove_image(image, force=True)


def test_a_place_in_the_queue_stands_out_and_can_be_given_up(
    queueing_hub: Hub, newcomers: NewStudent, visit: Visit
) -> None:
    first, second = newcomers(), newcomers()
    queueing_hub.lab.set_limits(first.person, max_runtime="2h")
    first.start(LARGE)
    assert second.ask_start(LARGE, "thesis").status_code in (201, 202)
    visitor = visit(queueing_hub, second.person)
    page = visitor.go(pending_page(second, "thesis"))
    queue = page.locator("[data-ds01=queue]")
    expect(queue).to_contain_text("You are next in the queue")
    expect(queue).to_contain_text("Your turn should come by")
    look(visitor, "queue")
    page.get_by_role("button", name="Cancel the start").click()
    page.wait_for_url("**/hub/home")
    assert second.server("thesis") == {}
    assert queueing_hub.traces(second.person) == {}
    first.stop()


def test_a_build_that_fails_says_why_where_one_waits_and_leads_back_to_the_filled_form(
    hub: Hub, student: Student, visit: Visit
) -> None:
    student.ask_start({"profile": "small", "packages": [DOES_NOT_COMPILE]}, "thesis")
    visitor = visit(hub, student.person)
    page = visitor.go(pending_page(student, "thesis"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("failed")
    expect(page.get_by_text("could not be compiled").first).to_be_visible()
    look(visitor, "build-failed")
    student.wait_gone("thesis")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("The start of thesis failed")
    expect(page.get_by_text("could not be compiled").first).to_be_visible()
    look(visitor, "not-running")
    page.get_by_role("link", name="Try again with these choices").click()
    expect(page.locator("#ds01-packages")).to_have_value(DOES_NOT_COMPILE)


def test_home_shows_what_each_server_has_and_gives_more_time(
    hub: Hub, student: Student, visit: Visit
) -> None:
    hub.lab.set_limits(student.person, max_runtime="3h")
    # Who signs in while her server runs is led to it.
    visitor = visit(hub, student.person)
    student.start({"profile": "small"})
    student.start({"profile": "cpu"}, "thesis")
    page = visitor.go("/hub/home")
    mine = page.locator(".ds01-server[data-server='']")
    expect(mine).to_contain_text("Running")
    expect(mine).to_contain_text("1g.10gb")
    expect(mine).to_contain_text("2 h 5")
    expect(mine).to_contain_text("mlc-open jupyter")
    look(visitor, "home")
    mine.get_by_label("Hours more").fill("2")
    mine.get_by_role("button", name="Extend").click()
    expect(mine).to_contain_text("It may run until")
    expect(mine).to_contain_text("4 h 5")
    mine.get_by_label("Hours more").fill("99")
    mine.get_by_role("button", name="Extend").click()
    expect(mine.locator("[data-ds01=said]")).to_contain_text("Ask for")
    visitor.shoot("home-refused")
    thesis = page.locator(".ds01-server[data-server=thesis]")
    thesis.get_by_role("button", name="Stop").click()
    expect(thesis).to_contain_text("Stopped")
    page.on("dialog", lambda dialog: dialog.accept())
    thesis.get_by_role("button", name="Delete").click()
    expect(thesis).to_have_count(0)


def test_a_new_server_is_named_and_chosen_on_its_form(hub: Hub, student: Student, visit: Visit) -> None:
    visitor = visit(hub, student.person)
    page = visitor.go("/hub/home")
    page.get_by_label("What you call it").fill("My Thesis!")
    expect(page.locator("[data-ds01=new-name]")).to_contain_text("my-thesis")
    page.get_by_role("button", name="Choose and start").click()
    page.wait_for_url(f"**/hub/spawn/{student.name}/my-thesis?**")
    page.goto(f"{hub.url}/hub/home")
    expect(page.get_by_role("heading", name="My Thesis!")).to_be_visible()


def test_without_scripts_the_pages_say_what_there_is(hub: Hub, student: Student, visit: Visit) -> None:
    visitor = visit(hub, student.person, signed_in=False, java_script_enabled=False)
    visitor.sign_in()
    student.start({"profile": "small"})
    page = visitor.go("/hub/home")
    expect(page.locator(".ds01-server")).to_contain_text("1g.10gb")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    visitor.shoot("home-no-scripts")
