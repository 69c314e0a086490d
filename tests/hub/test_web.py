"""The service's HTTP side on a real Hub: to whom it answers what, and with which sentence it refuses."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from .cast import SERVICE
from .hub import ADMIN, TOKENS, Hub
from .student import Student
from .waiting import wait_for

# As ada and bob have it: ada's server has an end, bob's has none.
HOURS = {"max_runtime": "2h", "policies": {"max_extension_h": 1, "max_extensions": 20}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who is there: ada and bob with a server each, and an admin; the token of each role."""

    hub: Hub
    ada: Student
    bob: Student
    tokens: dict[str, str]

    def ask(self, role: str, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        """Ask the service with the token of a role; who asks for time asks for some minutes."""
        headers = {**more.pop("headers", {})}
        if self.tokens[role]:
            headers["Authorization"] = f"token {self.tokens[role]}"
        body = more.pop("json", {"hours": 0.01}) if method == "POST" else None
        url = f"{self.hub.url}{SERVICE}/{path}"
        return httpx.request(method, url, headers=headers, json=body, timeout=60, trust_env=False, **more)


@pytest.fixture(scope="module")
def cast(hub: Hub, admin: Student) -> Iterator[Cast]:
    ada, bob = (hub.sign_in(hub.lab.enrol(name)) for name in ("ada", "bob"))
    hub.lab.set_limits(ada.person, **HOURS)
    for student in (ada, bob):
        student.start({"profile": "cpu"})
    environment = hub.container(ada.person)["Config"]["Env"]
    container = dict(entry.partition("=")[::2] for entry in environment)["JUPYTERHUB_API_TOKEN"]
    tokens = {
        "nobody": "",
        "ada": ada.token(),
        "bob": bob.token(),
        "teacher": admin.token(),
        "container": container,
        "prometheus": TOKENS["prometheus"],
        "namesake": TOKENS["ada"],
        "stranger": TOKENS["stranger"],
    }
    yield Cast(hub=hub, ada=ada, bob=bob, tokens=tokens)
    for student in (ada, bob):
        student.stop()
        student.close()
        hub.clean(student.person)


# who gets what: the whole table is in test_roles


def test_her_list_has_her_servers_alone_and_everybodys_has_all(cast: Cast) -> None:
    (lease,) = cast.hub.leases(cast.ada.person)
    (mine,) = cast.ask("ada", "api/servers").json()["servers"]
    assert (mine["id"], mine["user"], mine["server"], mine["name"]) == (lease.id, "ada", "", "jupyter")
    assert (mine["container"], mine["state"], mine["profile"]) == (lease.container_name, "active", "none")
    assert lease.runs_until is not None
    assert mine["time_left"]["run_until"] == lease.runs_until.isoformat(timespec="seconds")
    assert mine["may_extend"] is True
    all_users = {one["user"] for one in cast.ask("teacher", "api/servers?all=1").json()["servers"]}
    assert {"ada", "bob"} <= all_users
    assert cast.ask("namesake", "api/servers").json() == {"servers": []}


def test_a_name_in_an_address_is_a_name_and_nothing_else(cast: Cast) -> None:
    for name in ("..%2Fjupyter", "jupyter%00", "%23allocated", "Jupyter", "jupyter%20", "a" * 5000):
        answer = cast.ask("ada", f"api/servers/{name}")
        assert answer.status_code == 404, name
    for user in ("", "ada%00", "ADA", "ada%21user%3Dbob", "%C3%28"):
        answer = cast.ask("bob", f"api/servers/jupyter?user={user}")
        assert answer.status_code in (400, 403), user


def test_a_token_in_the_address_counts_for_nothing(cast: Cast) -> None:
    answer = cast.ask("nobody", f"api/servers?token={cast.tokens['ada']}")
    assert answer.status_code == 403


# what is asked again and again


def test_an_answer_that_did_not_change_is_not_sent_again(cast: Cast) -> None:
    first = cast.ask("ada", "api/servers")
    tag = {"If-None-Match": first.headers["etag"]}
    again = cast.ask("ada", "api/servers", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert cast.ask("ada", "api/servers/jupyter/extend", "POST").status_code == 200
    changed = cast.ask("ada", "api/servers", headers=tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert cast.ask("bob", "api/servers", headers=tag).status_code == 200


# more time


def test_more_time_moves_the_end_and_stands_in_the_history_under_who_asked(cast: Cast) -> None:
    (before,) = cast.hub.leases(cast.ada.person)
    path = "api/servers/jupyter/extend?user=ada"
    answer = cast.ask("teacher", path, "POST", json={"hours": 0.5})
    (after,) = cast.hub.leases(cast.ada.person)
    assert before.runs_until is not None
    assert after.runs_until is not None
    assert (after.runs_until - before.runs_until).total_seconds() == 1800
    assert answer.json()["time_left"]["run_until"] == after.runs_until.isoformat(timespec="seconds")
    with cast.hub.ledger() as ledger:
        told = [one.why for one in ledger.history(user="ada") if one.kind == "extended"]
    assert told[-1].endswith(f"asked for by {ADMIN}")


def test_more_than_she_may_is_refused_with_her_limit(cast: Cast) -> None:
    answer = cast.ask("ada", "api/servers/jupyter/extend", "POST", json={"hours": 3})
    assert (answer.status_code, answer.json()["reason"]) == (400, "limit")
    assert "your limit is 1 h at once" in answer.json()["message"]


def test_a_body_that_is_no_wish_is_refused_with_how_to_write_it(cast: Cast) -> None:
    for body in ({"hours": "2"}, {"hours": -2}, {"days": 1}, [], "x" * 5000):
        answer = cast.ask("ada", "api/servers/jupyter/extend", "POST", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (400, "refused"), body
        assert '{"hours": 2}' in answer.json()["message"]


# a browser


def test_a_browser_signs_in_on_its_way_and_sees_her_servers(cast: Cast) -> None:
    assert "GPUs of the lab" in cast.ada.page(f"{SERVICE}/").text
    mine = cast.ada.page(f"{SERVICE}/api/servers")
    assert [one["user"] for one in mine.json()["servers"]] == ["ada"]
    assert mine.headers["cache-control"] == "private, no-cache"
    everybody = cast.ada.page(f"{SERVICE}/api/servers?all=1")
    assert everybody.status_code == 403


def test_a_cookie_changes_nothing_without_the_token_against_forgery(cast: Cast) -> None:
    browser, path = cast.ada._browser, f"{SERVICE}/api/servers/jupyter/extend"
    cast.ada.page(f"{SERVICE}/")
    (before,) = cast.hub.leases(cast.ada.person)
    body = {"hours": 0.01}
    assert browser.post(path, json=body).status_code == 403
    hub_token = next(one for one in browser.cookies.jar if one.name == "_xsrf" and one.path == "/hub/").value
    assert browser.post(path, json=body, headers={"X-XSRFToken": str(hub_token)}).status_code == 403
    assert cast.hub.leases(cast.ada.person) == (before,)
    ours = next(one for one in browser.cookies.jar if one.name == "_xsrf" and one.path == f"{SERVICE}/").value
    assert browser.post(path, json=body, headers={"X-XSRFToken": str(ours)}).status_code == 200


def test_a_script_of_another_page_reads_nothing_with_her_cookie(cast: Cast) -> None:
    cast.ada.page(f"{SERVICE}/")
    script = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    answer = cast.ada._browser.get(f"{SERVICE}/api/servers", headers=script)
    assert answer.status_code == 403


# the service's own life


@contextmanager
def held_lock(hub: Hub) -> Iterator[None]:
    """Be the service that runs already."""
    settings = json.loads(hub.config.read_text())
    with Path(f"{settings['DS01']['socket_path']}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_hub_starts_and_is_answered_while_its_service_waits_for_another_one(cast: Cast) -> None:
    hub = cast.hub
    hub.stop()
    wait_for(lambda: not hub.service_pids(), "its service has ended")
    with held_lock(hub):
        mark = hub.log_mark()
        hub.start(needs_service=False)
        wait_for(lambda: "waiting until it ends" in hub.log_since(mark), "its service waits")
        answer = wait_for(lambda: _is_there(cast), "it answers")
        assert [one["user"] for one in answer.json()["servers"]] == ["ada"]
    wait_for(hub.has_read_gpus, "it is the service now")


def _is_there(cast: Cast) -> httpx.Response | None:
    answer = cast.ask("ada", "api/servers")
    # Until the Hub has told its proxy of the service, the Hub itself answers.
    return answer if answer.status_code == 200 else None
