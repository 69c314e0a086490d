"""What an open options form asks the service: what is free, what choices come to; and what its token may."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from .hub import Hub
from .student import Student
from .waiting import wait_for

NewStudent = Callable[[], Student]
LARGE, SMALL = "2g.20gb:1", "1g.10gb:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenForm:
    """A form that stands open in a browser: where it asks, and with which token."""

    hub: Hub
    url: str
    token: str

    def ask(self, path: str, *, etag: str = "", fields: dict[str, str] | None = None) -> httpx.Response:
        """Ask as the form's script does."""
        headers = {"Authorization": f"token {self.token}"} | ({"If-None-Match": etag} if etag else {})
        return httpx.request(
            "GET" if fields is None else "POST",
            f"{self.hub.url}{self.url}api/{path}",
            headers=headers,
            data=fields,
            timeout=60,
            trust_env=False,
        )

    def preview(self, **fields: str) -> dict[str, Any]:
        """Return what choices come to."""
        answer = self.ask("preview?server=", fields=fields or {"profile": "cpu"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def open_form(hub: Hub, student: Student, server: str = "") -> OpenForm:
    text = student.form(server).text
    found = {name: re.search(rf'data-news-{name}="([^"]*)"', text) for name in ("url", "token")}
    assert found["url"] is not None
    assert found["token"] is not None
    return OpenForm(hub=hub, url=html.unescape(found["url"][1]), token=html.unescape(found["token"][1]))


def test_an_answer_is_not_sent_again_until_a_lease_changes_it(hub: Hub, newcomer: NewStudent) -> None:
    reader, taker = newcomer(), newcomer()
    form = open_form(hub, reader)
    path = f"availability?want={LARGE}&want=none:0"

    def ask_settled() -> httpx.Response | None:
        """Return an answer between whose first and second nothing of the shared Hub changed."""
        first = form.ask(path)
        again = form.ask(path, etag=first.headers["etag"])
        return first if (again.status_code, again.content) == (304, b"") else None

    first = wait_for(ask_settled, "nothing changes")
    assert first.json()["prospects"][LARGE]["free"] is True
    taker.start({"profile": "large"})
    changed = form.ask(path, etag=first.headers["etag"])
    assert changed.status_code == 200
    prospect = changed.json()["prospects"][LARGE]
    assert (prospect["free"], prospect["barred"]) == (False, True)
    assert "none" in prospect["instead"]
    assert changed.json()["prospects"]["none:0"]["free"] is True


def test_what_her_own_server_holds_is_free_for_its_next_start_alone(hub: Hub, student: Student) -> None:
    student.start({"profile": "large"})
    # The Hub leads from the form of a server that runs to that server.
    form = open_form(hub, student, "second")
    own = form.ask(f"availability?server=&want={LARGE}").json()["prospects"][LARGE]
    other = form.ask(f"availability?server=second&want={LARGE}").json()["prospects"][LARGE]
    assert own["free"] is True
    assert other["free"] is False


def test_choices_come_to_what_a_start_would_give(hub: Hub, student: Student) -> None:
    form = open_form(hub, student)
    found = form.preview(profile="small", packages="six\ntabulate", cpus="0.5")
    assert found["gets"] == "1 × 1g.10gb, Pytorch 2.8.0, 2 Python packages"
    assert found["holds"] == "1 of 2 GPU slots, 1 of 2 servers"
    assert "built first" in found["image"]
    assert found["problem"] == ""
    student.start({"profile": "cpu"})
    assert "starts in seconds" in form.preview(profile="cpu")["image"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"profile": "staff"}, "There is no profile 'staff' for you"),
        ({"profile": "cpu", "cpus": "64"}, "your limit is 1.5"),
        ({"profile": "cpu", "packages": "--index-url"}, "is an option of pip"),
        ({"profile": "cpu", "nonsense": "<script>"}, "There is no option"),
        ({"profile": "cpu", "framework": "Nope"}, "Nope"),
    ],
)
def test_choices_that_would_be_refused_say_so_beforehand(
    hub: Hub, student: Student, fields: dict[str, str], problem: str
) -> None:
    assert problem in open_form(hub, student).preview(**fields)["problem"]


def test_the_dockerfile_is_the_one_that_is_built(hub: Hub, student: Student) -> None:
    form = open_form(hub, student)
    answer = form.ask("dockerfile?server=", fields={"profile": "cpu", "packages": "six"})
    assert answer.status_code == 200, answer.text
    text = answer.json()["dockerfile"]
    assert f"FROM {hub.lab.base.image}" in text
    refused = form.ask("dockerfile?server=", fields={"profile": "nope"})
    assert (refused.status_code, refused.json()["reason"]) == (400, "refused")


@pytest.mark.parametrize("want", ["", "1g.10gb", "1g.10gb:-1", "<script>:1", "1g.10gb:1:1", "full:1000"])
def test_what_is_no_wish_is_refused(hub: Hub, student: Student, want: str) -> None:
    answer = open_form(hub, student).ask(f"availability?want={want}")
    assert (answer.status_code, answer.json()["reason"]) == (400, "refused")


def test_the_token_of_a_page_may_do_nothing_at_the_hub(hub: Hub, newcomer: NewStudent) -> None:
    student, other = newcomer(), newcomer()
    form = open_form(hub, student)
    headers = {"Authorization": f"token {form.token}"}

    def ask(method: str, path: str) -> httpx.Response:
        return httpx.request(method, f"{hub.url}/hub/api{path}", headers=headers, timeout=60, trust_env=False)

    refused = (
        ask("POST", f"/users/{student.name}/server"),
        ask("POST", f"/users/{student.name}/tokens"),
        ask("GET", f"/users/{student.name}/tokens"),
        ask("GET", f"/users/{other.name}"),
        ask("GET", "/users"),
    )
    assert all(answer.status_code in (403, 404) for answer in refused), refused
    assert student.server() == {}
    assert form.ask(f"availability?user={other.name}").status_code == 403
    # One for all of her pages.
    assert open_form(hub, student).token == form.token
    assert open_form(hub, other).token != form.token
