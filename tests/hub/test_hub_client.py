"""What a service asks of the Hub, asked of a real one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ds01_spawner.adapters.hub import HubClient, HubServer
from ds01_spawner.errors import HubUnavailable, RequestRefused

from .conftest import OpenHub, signed_in
from .docker_link import DockerLink
from .hub import Hub
from .student import Student
from .waiting import wait_for

TOKEN, BLIND_TOKEN = secrets.token_hex(16), secrets.token_hex(16)
ROLES = [
    {"name": "ds01", "services": ["ds01"], "scopes": ["list:users", "read:users:groups", "servers"]},
    {"name": "blind", "services": ["blind"], "scopes": ["list:users"]},
]


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub, link: DockerLink) -> Hub:
    """A Hub with one more token for its service, pages of two users, and a Docker that can be held."""
    settings: dict[str, object] = {
        "service_tokens": {TOKEN: "ds01", BLIND_TOKEN: "blind"},
        "load_roles": ROLES,
        "api_page_max_limit": 2,
        "tornado_settings": {"slow_spawn_timeout": 1},
    }
    return open_hub(docker_host=link.docker_host, settings={"JupyterHub": settings})


@pytest.fixture
def client(hub: Hub) -> HubClient:
    return open_client(hub)


def open_client(hub: Hub, token: str = TOKEN) -> HubClient:
    return HubClient(api_url=f"{hub.url}/hub/api/", token=token)


def servers_of(client: HubClient, student: Student) -> set[HubServer]:
    return {found for found in look(client) if found.user == student.name}


def look(client: HubClient) -> list[HubServer]:
    """Return the Hub's servers but for when they were used, which is another time at each look."""
    return [replace(server, last_activity=None) for server in client.servers()]


@contextmanager
def pending_start(link: DockerLink) -> Iterator[None]:
    """Let every start wait at Docker's creating the container."""
    with link.hold(r"POST /v[^/]+/containers/create\?name=") as hold:
        yield
        hold.release()


def test_users_and_servers_of_all_pages_are_given(hub: Hub, client: HubClient) -> None:
    with signed_in(hub) as ada, signed_in(hub) as bob, signed_in(hub) as eve, signed_in(hub) as zoe:
        everybody = {ada.name, bob.name, eve.name, zoe.name}
        assert everybody <= client.user_names()
        ada.start()
        zoe.start()
        zoe.start(server="second")
        found = {server for server in look(client) if server.user in everybody}
        assert found == {
            HubServer(user=ada.name, server="", ready=True),
            HubServer(user=zoe.name, server="", ready=True),
            HubServer(user=zoe.name, server="second", ready=True),
        }
        zoe.stop("second")
        assert servers_of(client, zoe) == {HubServer(user=zoe.name, server="", ready=True)}


def test_a_server_is_stopped_and_what_is_not_there_needs_no_stop(hub: Hub, client: HubClient) -> None:
    with signed_in(hub) as student:
        student.start()
        with pytest.raises(HubUnavailable):
            open_client(hub, BLIND_TOKEN).stop(student.name, "")
        assert client.stop(student.name, "")
        student.wait_gone()
        assert not client.stop(student.name, "nothing")
        assert not client.stop("nobody", "")


def test_it_is_told_when_a_server_was_used_last(hub: Hub, client: HubClient) -> None:
    with signed_in(hub) as student:
        student.start()
        (server,) = [found for found in client.servers() if found.user == student.name]
        assert server.last_activity is not None
        assert timedelta(0) <= datetime.now(timezone.utc) - server.last_activity < timedelta(minutes=5)


def test_a_server_is_started_as_last_time_and_started_again_it_runs_already(
    hub: Hub, client: HubClient
) -> None:
    with signed_in(hub) as student:
        student.start({"profile": "cpu", "pids_limit": 200}, server="second")
        student.stop("second")
        assert client.start(student.name, "second")
        student.wait_ready("second")
        assert hub.container(student.person, "second")["HostConfig"]["PidsLimit"] == 200
        assert not client.start(student.name, "second")


def test_a_server_that_starts_is_pending_and_needs_no_second_start(
    hub: Hub, client: HubClient, link: DockerLink
) -> None:
    with signed_in(hub) as student:
        with pending_start(link):
            assert client.start(student.name, "")
            pending = {HubServer(user=student.name, server="", ready=False, pending="spawn")}
            assert servers_of(client, student) == pending
            assert client.start(student.name, "")
        student.wait_ready()
        assert len(hub.leases(student.person)) == 1


def test_a_refused_start_carries_the_hubs_sentence(hub: Hub, client: HubClient) -> None:
    with signed_in(hub) as student:
        student.start({"profile": "cpu", "pids_limit": 200})
        student.stop()
        hub.lab.set_limits(student.person, pids_limit=100)
        with pytest.raises(RequestRefused, match="100"):
            client.start(student.name, "")
        assert servers_of(client, student) == set()


@pytest.mark.parametrize("name", ["nobody", "no/body", "../users/nobody", "no body?"])
def test_who_never_signed_in_has_no_server(client: HubClient, name: str) -> None:
    assert name not in client.user_names()
    with pytest.raises(RequestRefused):
        client.start(name, "")


def test_a_user_may_have_an_odd_name(hub: Hub, client: HubClient) -> None:
    student = hub.sign_in(hub.lab.enrol("ann@lab"))
    try:
        assert client.start("ann@lab", "")
        student.wait_ready()
        assert servers_of(client, student) == {HubServer(user="ann@lab", server="", ready=True)}
        student.stop()
    finally:
        student.close()
        hub.clean(student.person)


def test_a_token_that_sees_no_servers_is_an_error_and_not_an_empty_list(hub: Hub) -> None:
    with signed_in(hub) as student:
        blind = open_client(hub, BLIND_TOKEN)
        assert student.name in blind.user_names()
        with pytest.raises(HubUnavailable) as caught:
            blind.servers()
        assert "read:servers" in caught.value.detail


def test_a_token_that_is_none_of_the_hubs_is_said_so(hub: Hub) -> None:
    stranger = open_client(hub, "somebody's")
    for call in (stranger.servers, stranger.user_names, lambda: stranger.start("anybody", "")):
        with pytest.raises(HubUnavailable, match="try again") as caught:
            call()
        assert "403" in caught.value.detail


def test_something_else_at_the_hubs_address_is_said_so(hub: Hub) -> None:
    elsewhere = HubClient(api_url=f"{hub.url}/hub/login", token=TOKEN)
    with pytest.raises(HubUnavailable):
        elsewhere.servers()


def test_no_proxy_and_no_netrc_of_the_environment_counts(
    client: HubClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client.servers()


def test_a_hub_that_is_away_is_said_so_and_asked_again_it_answers(hub: Hub, client: HubClient) -> None:
    hub.stop()
    try:
        for call in (client.servers, client.user_names, lambda: client.start("anybody", "")):
            with pytest.raises(HubUnavailable, match="try again"):
                call()
    finally:
        hub.start()
    wait_for(client.user_names, "the Hub answers with its users")
