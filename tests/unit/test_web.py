"""The service's HTTP side on values: who may what, what is read and written, and where it listens."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from traitlets.config import Config

from ds01_spawner.core.servers import ServerView
from ds01_spawner.errors import ConfigBroken, LimitExceeded, RequestRefused
from ds01_spawner.model import Cause, LeaseState, Notice, TimeLeft
from ds01_spawner.service.settings import Address, find_own_address
from ds01_spawner.service.web import serving
from ds01_spawner.service.web.access import Caller, read_caller
from ds01_spawner.service.web.answers import read_extension, write_server
from ds01_spawner.service.web.desk import Desk
from ds01_spawner.site import DS01, read_config
from tests.hub.waiting import wait_for
from tests.unit.lab import Lab
from tests.unit.pools import HOUR, NOW
from tests.unit.servers import lease_of

PREFIX = "/services/ds01/"


# who may


def caller(*scopes: str, name: str = "ada", kind: str = "user") -> Caller:
    return read_caller({"name": name, "kind": kind, "scopes": list(scopes)})


def test_ones_own_servers_need_no_scope() -> None:
    ada = caller()
    assert ada.may_see("ada")
    assert ada.may_change("ada")
    assert not ada.may_see("bob")
    assert not ada.may_change("bob")
    assert not ada.may_see_all()


def test_a_service_of_a_users_name_is_not_that_user() -> None:
    ada = caller(kind="service")
    assert not ada.may_see("ada")
    assert not ada.may_change("ada")


def test_who_sees_and_starts_servers_at_the_hub_may_do_so_here() -> None:
    assert caller("read:servers").may_see("bob")
    assert caller("read:servers").may_see_all()
    assert not caller("read:servers").may_change("bob")
    assert caller("servers").may_change("bob")
    assert caller("read:servers!user=bob").may_see("bob")
    assert not caller("read:servers!user=bob").may_see("eve")
    assert not caller("read:servers!user=bob").may_see_all()


@pytest.mark.parametrize("user", ["", "ada!user=bob", "bob!user=ada", "!user=ada", "bob!", "*", "ada/"])
def test_no_way_of_writing_a_name_is_another_persons(user: str) -> None:
    ada = caller("read:servers!user=ada", "servers!user=ada", "read:servers!server=ada/")
    assert not ada.may_see(user)
    assert not ada.may_change(user)


def test_a_scope_for_a_group_is_not_enough_for_its_members() -> None:
    assert not caller("read:servers!group=course").may_see("bob")


# what is read and written


@pytest.mark.parametrize(("body", "hours"), [(b'{"hours": 2}', 2), (b'{"hours": 0.5}', 0.5)])
def test_more_time_is_asked_for_in_hours(body: bytes, hours: float) -> None:
    assert read_extension(body) == timedelta(hours=hours)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"2",
        b"{}",
        b"[]",
        b'{"hours": 0}',
        b'{"hours": -1}',
        b'{"hours": 1e300}',
        b'{"hours": NaN}',
        b'{"hours": Infinity}',
        b'{"hours": "2"}',
        b'{"hours": true}',
        b'{"hours": null}',
        b'{"hours": 2, "user": "bob"}',
        b'{"hours": 2',
        b"\xff",
        b"[" * 60_000,
        b'{"hours": ' + b"9" * 5000 + b"}",
    ],
)
def test_anything_else_is_refused_with_how_to_write_it(body: bytes) -> None:
    with pytest.raises(RequestRefused, match=r'as {"hours": 2}'):
        read_extension(body)


def test_a_server_is_written_with_its_times_in_utc_and_its_warnings_as_sentences() -> None:
    notice = Notice(cause=Cause.RUN_TIME, at=NOW, ends_at=NOW + HOUR, percent=80)
    view = ServerView(
        lease=lease_of(hours=5),
        name="jupyter",
        slots=(),
        time_left=TimeLeft(run_until=NOW + HOUR, warnings=(notice,)),
        warnings=("More than 80 % of the run time of your server is over.",),
        may_extend=True,
    )
    assert write_server(view) == {
        "id": 1,
        "user": "ada",
        "server": "",
        "name": "jupyter",
        "container": "jupyter._.1001",
        "state": "active",
        "ending": "",
        "since": "2026-03-02T12:00:00+00:00",
        "held_until": None,
        "profile": "none",
        "slots": [],
        "time_left": {
            "run_until": "2026-03-02T13:00:00+00:00",
            "idle_since": None,
            "idle_until": None,
            "warnings": [
                {
                    "cause": "run-time",
                    "at": "2026-03-02T12:00:00+00:00",
                    "ends_at": "2026-03-02T13:00:00+00:00",
                    "message": "More than 80 % of the run time of your server is over.",
                }
            ],
        },
        "may_extend": True,
    }


# where it listens


def test_a_service_of_the_hub_listens_where_the_hub_says() -> None:
    environ = {
        "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:9000",
        "JUPYTERHUB_SERVICE_PREFIX": "/lab/services/ds01/",
        "JUPYTERHUB_BASE_URL": "/lab/",
        "JUPYTERHUB_API_URL": "http://172.30.0.1:8081/lab/hub/api",
        "JUPYTERHUB_API_TOKEN": "0f0f",
        "JUPYTERHUB_CLIENT_ID": "service-ds01",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:services", "access:services!service=ds01"]',
    }
    assert find_own_address(environ, Config(), "http://127.0.0.1:1") == Address(
        host="127.0.0.1",
        port=9000,
        prefix="/lab/services/ds01/",
        hub_prefix="/lab/hub/",
        api_url="http://172.30.0.1:8081/lab/hub/api",
        token="0f0f",
        client_id="service-ds01",
        scopes=("access:services", "access:services!service=ds01"),
    )


@pytest.mark.parametrize(
    ("base_url", "prefix", "hub_prefix"),
    [({}, "/services/ds01/", "/hub/"), ({"base_url": "lab"}, "/lab/services/ds01/", "/lab/hub/")],
)
def test_one_that_the_hub_does_not_start_listens_where_its_settings_say(
    base_url: dict[str, Any], prefix: str, hub_prefix: str
) -> None:
    config = Config({"JupyterHub": {"services": [{"name": "ds01", "api_token": "0f0f"}], **base_url}})
    found = find_own_address({}, config, "http://[::1]:10101")
    assert found is not None
    assert (found.host, found.port, found.url) == ("::1", 10101, "http://[::1]:10101")
    assert (found.prefix, found.hub_prefix) == (prefix, hub_prefix)
    assert found.scopes == ("access:services", "access:services!service=ds01")


def test_without_an_address_it_does_not_answer_at_all() -> None:
    assert find_own_address({}, Config(), "") is None


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1", "http://h:x", "http://h:1/x", "unix:///a"],
)
def test_an_address_that_nobody_can_listen_at_is_refused(url: str) -> None:
    with pytest.raises(ConfigBroken, match=r"http://127\.0\.0\.1:10101"):
        find_own_address({"JUPYTERHUB_API_URL": "http://h", "JUPYTERHUB_API_TOKEN": "0f"}, Config(), url)


def test_a_service_that_the_hub_does_not_know_cannot_answer() -> None:
    with pytest.raises(ConfigBroken, match="no service ds01"):
        find_own_address({}, Config(), "http://127.0.0.1:10101")


# the server


def address(port: int, host: str = "127.0.0.1") -> Address:
    """Where a service answers whose Hub is away."""
    return Address(
        host=host,
        port=port,
        prefix=PREFIX,
        hub_prefix="/hub/",
        api_url="http://127.0.0.1:9/hub/api",
        token="0f0f",
        client_id="service-ds01",
        scopes=("access:services!service=ds01",),
    )


@pytest.fixture
def site(lab: Lab) -> DS01:
    return DS01(config=read_config(Path(lab.config)))


def ask(port: int, path: str, **headers: str) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{PREFIX}{path}", headers=headers, trust_env=False)
    except httpx.TransportError:
        return None


def test_it_waits_for_its_address_and_then_answers(site: DS01) -> None:
    stop = threading.Event()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answering = serving(site, address(port), stop)
        answering.__enter__()
    try:
        found = wait_for(lambda: ask(port, "api/health"), "it answers")
        assert (found.status_code, found.json()) == (200, {"status": "ok"})
    finally:
        answering.__exit__(None, None, None)
    assert stop.is_set()
    assert ask(port, "api/health") is None


def test_an_address_of_another_machine_ends_the_service(site: DS01) -> None:
    stop = threading.Event()
    with pytest.raises(OSError, match="assign"), serving(site, address(1, "192.0.2.1"), stop):
        assert stop.wait(30)


def test_while_the_hub_is_away_nobody_is_let_in_and_the_health_is_told(site: DS01) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(site, address(port), threading.Event()):
        wait_for(lambda: ask(port, "api/health"), "it answers")
        refused = ask(port, "api/servers", Authorization="token 1234")
        assert refused is not None
        assert (refused.status_code, refused.json()["reason"]) == (503, "hub")
        front = ask(port, "")
        assert front is not None
        assert front.headers["location"].startswith("/hub/api/oauth2/authorize?client_id=service-ds01")


def test_nothing_can_be_handed_out_and_health_says_why(site: DS01, lab: Lab) -> None:
    lab.ledger.write_inventory(site.read_inventory(), lab.now - HOUR)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(site, address(port), threading.Event()):
        found = wait_for(lambda: ask(port, "api/health"), "it answers")
    assert (found.status_code, found.json()["reason"]) == (503, "inventory")
    assert "Nobody has looked at the GPUs" in found.json()["message"]


# the servers of one, from the ledger


def test_servers_are_seen_with_their_names_and_what_an_admin_allocated_is_none(site: DS01, lab: Lab) -> None:
    run = lab.run("ada", "thesis", "0:0", runs_for=HOUR)
    lab.reserve("ada", "#allocated-0f", "0:1")
    lab.run("bob", "")
    (view,) = site.core.servers.list("ada")
    assert (view.lease.id, view.name, view.slots[0].index) == (run.id, "thesis", "0:0")
    assert (view.time_left, view.may_extend) == (TimeLeft(run_until=run.runs_until), True)
    assert [one.name for one in site.core.servers.list()] == ["thesis", "jupyter"]
    assert site.core.servers.find("bob", "thesis") is None


def test_more_time_moves_the_end_of_the_server_that_is_meant(site: DS01, lab: Lab) -> None:
    run = lab.run("ada", "thesis", runs_for=HOUR)
    other = lab.run("ada", "", runs_for=HOUR)
    assert run.runs_until is not None
    view = site.core.servers.extend("ada", "thesis", HOUR, "ada")
    assert view is not None
    assert view.time_left.run_until == run.runs_until + HOUR
    assert lab.ledger.lease(other.id) == other
    assert site.core.servers.extend("bob", "thesis", HOUR, "ada") is None


def test_a_held_server_tells_until_when_and_nothing_of_idleness(site: DS01, lab: Lab) -> None:
    run = lab.run("ada", "")
    idle = TimeLeft(idle_since=lab.now, idle_until=lab.now + HOUR)
    lab.ledger.watch(run.id, lambda _lease, watch: (watch, idle))
    assert site.core.servers.list("ada")[0].time_left == idle
    lab.ledger.hold(run.id, lab.now + HOUR, lab.now, "its container exited")
    (view,) = site.core.servers.list("ada")
    assert view.lease.state is LeaseState.HELD
    assert view.time_left == TimeLeft()
    assert write_server(view)["held_until"] == (lab.now + HOUR).isoformat(timespec="seconds")


def test_a_refused_extension_is_counted_among_what_the_service_shows(site: DS01, lab: Lab) -> None:
    lab.run("ada", "thesis", runs_for=HOUR)
    desk = Desk(site)
    before = _refusals(desk)
    with pytest.raises(LimitExceeded):
        desk.extend("ada", "thesis", 1000 * HOUR, "ada")
    assert _refusals(desk) == before + 1


def _refusals(desk: Desk) -> float:
    """Return how many extensions were refused since they were too long, as Prometheus reads it."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(desk.write_metrics().decode())
        for sample in family.samples
        if (sample.name, sample.labels) == ("ds01_refusals_total", {"asked": "extension", "reason": "limit"})
    )


def test_the_service_shows_the_ledgers_numbers_and_its_process_and_nothing_of_the_hubs(site: DS01) -> None:
    found = {family.name for family in text_string_to_metric_families(Desk(site).write_metrics().decode())}
    assert {"ds01_slots", "ds01_repairs", "process_resident_memory_bytes"} <= found
    assert not [name for name in found if not name.startswith(("ds01_", "process_"))]
