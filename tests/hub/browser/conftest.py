"""A real browser for the tests: Debian's Chromium, with a profile of its own for each visitor."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from ..hub import Hub
from ..lab import Person
from ..student import PASSWORD

# A page that is being built waits for Docker on a machine with other things to do.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)

WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
# The Hub's own parts of its pages are the Hub's to mend.
NOT_OURS = [["nav.navbar"], ["#noscript"], [".modal"]]


class Visitor:
    """Somebody at a browser of her own: signed in, at the pages of one Hub."""

    def __init__(self, hub: Hub, person: Person, context: BrowserContext, shots: Path) -> None:
        self.hub = hub
        self.person = person
        self.page: Page = context.new_page()
        self.troubles: list[str] = []
        self._shots = shots
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.set_default_timeout(PATIENCE_MS)

    @property
    def name(self) -> str:
        return self.person.name

    def sign_in(self) -> None:
        """Sign in through the login page."""
        self.go("/hub/login")
        self.page.fill("input[name=username]", self.name)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("#login_submit")
        # To where she goes from there: a form, the home page, or her server.
        self.page.wait_for_url(lambda url: "/hub/login" not in url)

    def go(self, path: str) -> Page:
        """Open a page of the Hub."""
        self.page.goto(f"{self.hub.url}{path}")
        return self.page

    def open_form(self, server: str = "", query: str = "") -> Page:
        """Open the options form of one of her servers."""
        return self.go(f"/hub/spawn/{self.name}/{server}".rstrip("/") + (f"?{query}" if query else ""))

    def start(self) -> None:
        """Press the form's button."""
        self.page.click("#spawn_form button[type=submit]")

    def shoot(self, name: str) -> None:
        """Keep a picture of the whole page."""
        self.page.screenshot(path=self._shots / f"{name}.png", full_page=True)

    def list_violations(self) -> list[str]:
        """Return what axe-core finds wrong in our part of the page."""
        found = Axe().run(self.page, context={"exclude": NOT_OURS}).response["violations"]
        return [
            f"{violation['id']}: {violation['help']}: {node['html']}"
            for violation in found
            for node in violation["nodes"]
        ]


Visit = Callable[..., Visitor]


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures: that of DS01_SCREENSHOTS, else one that pytest keeps for a while."""
    given = os.environ.get("DS01_SCREENSHOTS", "")
    folder = Path(given) if given else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. It ends with these tests: playwright's event loop runs as long as it does."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        assert program is not None, "chromium is missing: `make test` installs it"
        # The tests run as root, where Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, shots: Path) -> Iterator[Visit]:
    """A function that lets a person come with a browser of her own; no script may fail there."""
    with ExitStack() as stack:
        visitors: list[Visitor] = []

        def come(hub: Hub, person: Person, *, signed_in: bool = True, **options: Any) -> Visitor:
            context = browser.new_context(**{"viewport": WIDE, **options})
            stack.callback(context.close)
            visitor = Visitor(hub, person, context, shots)
            if signed_in:
                visitor.sign_in()
            visitors.append(visitor)
            return visitor

        yield come
        assert {visitor.name: visitor.troubles for visitor in visitors if visitor.troubles} == {}


def read_news(page: Page) -> dict[str, str]:
    """Return how an open form asks the service."""
    found: dict[str, str] = json.loads(
        page.evaluate("JSON.stringify(document.querySelector('.ds01-form').dataset)")
    )
    return found
