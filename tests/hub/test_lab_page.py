"""The lab's page on a real Hub: what it shows to whom, and that what is done there really happens."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import docker.errors
import pytest

from ds01_spawner.adapters.processes import own_process
from ds01_spawner.allocator import LeaseDraft, PoolView
from ds01_spawner.errors import NothingFree
from ds01_spawner.model import NO_RESOURCES, GpuWish, Lease, Mark, MarkKind, Slot

from .cast import SERVICE, Cast
from .conftest import OpenHub
from .hub import ADMIN, TOKENS
from .waiting import wait_for

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}{%x%}\u202e\u200f&lt;"


@pytest.fixture(scope="module")
def cast(open_hub: OpenHub) -> Iterator[Cast]:
    hub = open_hub()
    people = {name: hub.sign_in(hub.lab.enrol(name)) for name in ("ada", "bob", ADMIN)}
    limits = {"max_runtime": "2h", "policies": {"max_extension_h": 1, "max_extensions": 20}}
    for name in ("ada", "bob"):
        hub.lab.set_limits(people[name].person, **limits)
    tokens = {"nobody": "", "namesake": TOKENS["ada"]}
    tokens |= {name: student.token() for name, student in people.items()}
    cast = Cast(hub=hub, people=people, tokens=tokens)
    yield cast
    cast.close()


def lease_of(cast: Cast, name: str) -> Lease:
    (lease,) = cast.hub.leases(cast.people[name].person)
    return lease


def told(cast: Cast, kind: str) -> list[str]:
    """Return why events of a kind happened, the newest last."""
    with cast.hub.ledger() as ledger:
        return [event.why for event in ledger.history(kind=kind)]


def is_gone(cast: Cast, lease: Lease) -> bool:
    try:
        cast.hub.docker.inspect_container(lease.container_id)
    except docker.errors.NotFound:
        return True
    return False


# stop


def test_a_stop_by_an_admin_ends_container_lease_and_server_and_tells_why(cast: Cast) -> None:
    ada = cast.people["ada"]
    ada.start({"profile": "small"})
    lease = lease_of(cast, "ada")
    answer = cast.ask(ADMIN, f"api/leases/{lease.id}/stop", "POST", json={"reason": "exam week"})
    assert (answer.status_code, answer.json()) == (200, {"lease": lease.id, "released": True})
    assert is_gone(cast, lease)
    assert not ada.server(), "the Hub was told, and does not have to find out"
    assert cast.hub.leases(ada.person) == ()
    assert told(cast, "released")[-1] == f"released by {ADMIN}: exam week"
    assert told(cast, "stopped")[-1].endswith("was ended by an admin: exam week")
    again = cast.ask(ADMIN, f"api/leases/{lease.id}/stop", "POST", json={"reason": "exam week"})
    assert (again.status_code, again.json()["reason"]) == (404, "no-lease")


def test_her_own_server_she_stops_without_a_reason(cast: Cast) -> None:
    ada = cast.people["ada"]
    ada.start({"profile": "small"})
    lease = lease_of(cast, "ada")
    answer = cast.ask("ada", f"api/leases/{lease.id}/stop", "POST")
    assert answer.json() == {"lease": lease.id, "released": True}
    assert is_gone(cast, lease)
    assert not ada.server()
    assert told(cast, "released")[-1] == "stopped by ada on the lab's page"


def test_what_is_held_after_a_stop_over_ssh_is_given_back(cast: Cast) -> None:
    ada = cast.people["ada"]
    cast.hub.lab.set_limits(
        ada.person, max_runtime="2h", gpu_hold_after_stop_h=1, container_hold_after_stop_h=1
    )
    ada.start({"profile": "small"})
    lease = lease_of(cast, "ada")
    cast.hub.docker.stop(lease.container_id, timeout=1)
    index = wait_for(lambda: _find_state(cast, "ada", "held"), "her slot is held")
    seen = cast.slot("ada", index)
    assert (seen["lease"]["may_stop"], seen["lease"]["may_extend"]) == (True, False)
    answer = cast.ask("ada", f"api/leases/{lease.id}/stop", "POST", json={"reason": ""})
    assert answer.json()["released"] is True
    assert is_gone(cast, lease)
    assert cast.slot("ada", index)["state"] == "free"
    wait_for(lambda: not ada.server(), "the Hub has seen it")


def _find_state(cast: Cast, role: str, state: str) -> str | None:
    slots = [one for gpu in cast.ask(role, "api/gpus").json()["gpus"] for one in gpu["slots"]]
    return next((str(slot["id"]) for slot in slots if slot["mine"] and slot["state"] == state), None)


# more time


def test_more_time_by_an_admin_has_her_name_and_reason_in_the_history(cast: Cast) -> None:
    bob = cast.people["bob"]
    bob.start({"profile": "small"})
    before = lease_of(cast, "bob")
    path = f"api/leases/{before.id}/extend"
    refused = cast.ask(ADMIN, path, "POST", json={"hours": 0.5})
    assert refused.status_code == 400
    assert refused.json()["message"].startswith("Say why")
    assert cast.ask(ADMIN, path, "POST", json={"hours": 0.5, "reason": "a paper"}).status_code == 200
    after = lease_of(cast, "bob")
    assert before.runs_until is not None
    assert after.runs_until == before.runs_until + timedelta(minutes=30)
    assert told(cast, "extended")[-1].endswith(f"asked for by {ADMIN}: a paper")
    too_much = cast.ask("bob", path, "POST", json={"hours": 5})
    assert (too_much.status_code, too_much.json()["reason"]) == (400, "limit")
    bob.stop()


# drain


def test_a_drained_slot_is_shown_and_given_to_nobody_until_it_is_undrained(cast: Cast) -> None:
    bob, reason = cast.people["bob"], {"reason": "the fan"}
    (uuid,) = cast.hub.lab.slots("2g.20gb")
    answer = cast.ask(ADMIN, f"api/slots/{uuid}/drain", "POST", json=reason)
    assert answer.json() == {"slots": [{"id": "0:0", "uuid": uuid, "changed": True, "lease": None}]}
    seen = cast.slot(ADMIN, "0:0")
    assert (seen["state"], seen["why"]) == ("drained", f"drained by {ADMIN}: the fan")
    assert (cast.slot("bob", "0:0")["state"], cast.slot("bob", "0:0")["why"]) == ("drained", "")
    assert "0 free now" in bob.read_refusal(bob.ask_start({"profile": "large"}))
    assert cast.ask(ADMIN, "api/slots/0:0/undrain", "POST", json=reason).json()["slots"][0]["changed"]
    assert told(cast, "undrained")[-1].endswith("in use again: the fan")
    assert cast.slot("bob", "0:0")["state"] == "free"


def test_all_of_a_gpu_is_drained_by_its_number_and_what_is_none_is_refused(cast: Cast) -> None:
    answer = cast.ask(ADMIN, "api/slots/1/drain", "POST", json={"reason": "power"})
    assert [slot["id"] for slot in answer.json()["slots"]] == ["1:1", "1:5", "1:6"]
    assert cast.ask(ADMIN, "api/slots/1/undrain", "POST", json={"reason": "power"}).status_code == 200
    for name in ("7", "..%2F0", "0%00", "'", "a" * 3000):
        refused = cast.ask(ADMIN, f"api/slots/{name}/drain", "POST", json={"reason": "power"})
        assert refused.status_code == 400, name
        assert "no slot" in refused.json()["message"]


# what is asked again and again


def test_gpus_that_did_not_change_are_not_sent_again(cast: Cast) -> None:
    for role in (ADMIN, "ada"):
        first = cast.ask(role, "api/gpus")
        tag = {"If-None-Match": first.headers["etag"]}
        again = cast.ask(role, "api/gpus", headers=tag)
        assert (again.status_code, again.content) == (304, b"")
        cast.ask(ADMIN, "api/slots/2/drain", "POST", json={"reason": f"seen by {role}"})
        assert cast.ask(role, "api/gpus", headers=tag).status_code == 200
        cast.ask(ADMIN, "api/slots/2/undrain", "POST", json={"reason": "done"})


def test_files_of_pages_are_kept_by_browsers_until_they_change(cast: Cast) -> None:
    for name, kind in (
        ("lab.js", "text/javascript"),
        ("poll.js", "text/javascript"),
        ("ds01.css", "text/css"),
    ):
        first = cast.ask("nobody", f"static/{name}")
        assert first.headers["content-type"].partition(";")[0] == kind
        assert (first.headers["x-content-type-options"], first.headers["cache-control"]) == (
            "nosniff",
            "no-cache",
        )
        again = cast.ask("nobody", f"static/{name}", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for name in ("", "..%2Flab.html", "%2Fetc%2Fpasswd", "nothing.js"):
        assert cast.ask("nobody", f"static/{name}").status_code in (403, 404), name


# forgery


CHANGES: list[tuple[str, dict[str, object]]] = [
    ("api/servers/jupyter/extend", {"hours": 0.01}),
    ("api/leases/{lease}/extend", {"hours": 0.01, "reason": "forged"}),
    ("api/leases/{lease}/stop", {"reason": "forged"}),
    ("api/slots/0:0/drain", {"reason": "forged"}),
    ("api/slots/0:0/undrain", {"reason": "forged"}),
]


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_a_cookie_changes_nothing_without_the_token_against_forgery(
    cast: Cast, path: str, body: dict[str, object]
) -> None:
    teacher = cast.people[ADMIN]
    if not teacher.server():
        teacher.start({"profile": "small"})
        cast.hub.lab.set_limits(teacher.person, max_runtime="2h", policies={"max_extension_h": 1})
    browser, (lease,) = teacher._browser, cast.hub.leases(teacher.person)
    teacher.page(f"{SERVICE}/")
    with cast.hub.ledger() as ledger:
        before = (ledger.epoch(), ledger.history(limit=1))
    address = f"{SERVICE}/{path.format(lease=lease.id)}"
    cookies = {one.path: str(one.value) for one in browser.cookies.jar if one.name == "_xsrf"}
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for headers in ({}, {"X-XSRFToken": cookies["/hub/"]}, {"X-XSRFToken": "forged"}, cross):
        answer = browser.post(address, json=body, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (403, "sign-in")
    form = browser.post(address, data={"reason": "forged", "_xsrf": "forged"})
    assert form.status_code == 403
    with cast.hub.ledger() as ledger:
        assert [event.why for event in ledger.history(limit=1)] == [event.why for event in before[1]]
    right = browser.post(address, json=body, headers={"X-XSRFToken": cookies[f"{SERVICE}/"]})
    assert right.status_code in (200, 400), right.text


# what is hostile is text


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data = ""
        self._is_data = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._is_data = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._is_data = False

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data += data
        else:
            self.words.append(data)


def write_hostile(cast: Cast) -> None:
    """Put hostile words wherever the ledger can have them: user, server, container, reasons, marks, queue."""
    now = datetime.now(timezone.utc)
    until = now + timedelta(hours=1)
    (uuid,) = cast.hub.lab.slots("full")
    with cast.hub.ledger() as ledger:
        draft = LeaseDraft(
            user=f"user {NASTY}",
            server=f"#{NASTY}",
            container_name=f"container {NASTY}",
            group="student",
            nonce=secrets.token_hex(16),
            created_at=now,
            deadline=until,
            takes=NO_RESOURCES,
        )

        def choose(view: PoolView) -> tuple[Slot, ...]:
            return tuple(slot for slot in view.slots if slot.uuid == uuid)

        lease = ledger.reserve(draft, choose)
        ledger.hold(lease.id, until, now, f"held {NASTY}")
        why, who = f"mark {NASTY}", f"who {NASTY}"
        ledger.mark(Mark(slot=uuid, kind=MarkKind.DRAINED, why=why, since=now, who=who))
        wish = GpuWish(user=f"waiting {NASTY}", profile="2g.20gb", count=1, requested_at=now)
        waiting = LeaseDraft(
            user=wish.user,
            server="",
            container_name=f"queued {NASTY}._.1",
            group="student",
            nonce=secrets.token_hex(16),
            created_at=now,
            deadline=until,
            owner=own_process(),
            takes=NO_RESOURCES,
        )

        def find_nothing(view: PoolView) -> tuple[Slot, ...]:
            raise NothingFree(f"nothing {NASTY}")

        with pytest.raises(NothingFree):
            ledger.reserve(waiting, find_nothing, wish=wish, queue_limit=10)


def test_hostile_names_and_reasons_are_text_and_nothing_else(cast: Cast) -> None:
    clean = Page(cast.people[ADMIN].page(f"{SERVICE}/").text)
    write_hostile(cast)
    answer = cast.people[ADMIN].page(f"{SERVICE}/")
    page = Page(answer.text)
    shown = " ".join(page.words)
    for words in ("user", "mark", "who", "waiting", "queued", "held"):
        assert f"{words} {NASTY}" in shown, words
    kinds = {tag for tag, _ in page.elements}
    assert kinds <= {tag for tag, _ in clean.elements} | {"details", "tr", "td"}
    assert sum(tag == "script" for tag, _ in page.elements) == sum(
        tag == "script" for tag, _ in clean.elements
    )
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    data: dict[str, Any] = json.loads(page.data)
    assert data["lab"] == cast.ask(ADMIN, "api/gpus").json()
    # Nothing in the data can end the element that it stands in.
    assert "<" not in page.data


def test_the_page_lets_no_script_run_but_its_own_files(cast: Cast) -> None:
    answer = cast.people[ADMIN].page(f"{SERVICE}/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    for kind in ("script-src", "style-src", "connect-src", "font-src", "form-action"):
        assert policy[kind] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for tag, attributes in Page(answer.text).elements:
        if tag == "script":
            assert attributes.get("src") or attributes["type"] == "application/json"
        for name in ("src", "href"):
            assert str(attributes.get(name) or "/").startswith("/"), "no asset from elsewhere"


def test_a_student_reads_nothing_of_all_that(cast: Cast) -> None:
    text = cast.people["ada"].page(f"{SERVICE}/").text
    assert "onerror" not in text
    assert "What happened" not in text
    assert "Drain" not in Page(text).words
