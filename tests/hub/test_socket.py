"""The service's Unix socket with real accounts: who gets in, who she is there, and what nobody gets."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from ds01_spawner.service.web.containers import Containers
from ds01_spawner.service.web.local import make_local_application

from .accounts import READS_ALL, AtShell, Call
from .conftest import OpenHub
from .hub import Hub
from .student import Student
from .waiting import wait_for

GUESSES = 1000
MOST_CONNECTIONS = 64


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub whose people are those of this machine."""
    return open_hub(settings={"DS01": {"accounts": "host"}})


@pytest.fixture(scope="module")
def people(hub: Hub) -> Iterator[dict[str, AtShell]]:
    """ada, whose server runs; bob; eve, who may use Docker; and an admin; all known to the Hub."""
    groups = {"ada": (), "bob": (), "eve": ("docker",), "admin": ("ds01-admin",)}
    with ExitStack() as stack:
        found, students = {}, list[Student]()
        for who, of in groups.items():
            person = stack.enter_context(hub.lab.enrol_on_host(*of))
            found[who] = AtShell(hub=hub, person=person)
            students.append(hub.sign_in(person))
        students[0].start({"profile": "small"}, "thesis")
        yield found
        for student in students:
            for server in student.model()["servers"]:
                if student.server(server):
                    student.stop(server)
            student.close()


def list_addresses(hub: Hub) -> list[tuple[str, str]]:
    """Return every address of the socket with a method that it answers, about the server `thesis`."""
    (lease,) = hub.leases()
    slot = hub.lab.slots("1g.10gb")[0]
    application = make_local_application(None, Containers(None, None), None)  # type: ignore[arg-type]
    found = []
    for rule in application.wildcard_router.rules:
        pattern = rule.matcher.regex.pattern.rstrip("$")  # type: ignore[attr-defined]
        for group, name in (("([0-9]{1,9})", str(lease.id)), ("slots/([^/]+)", f"slots/{slot}")):
            pattern = pattern.replace(group, name)
        path = re.sub(r"\(\[\^/\]\+\)", "thesis", pattern)
        methods = [one for one in ("get", "post") if one in vars(rule.target)]
        found += [(method.upper(), path) for method in methods]
    assert len(found) >= 20
    return found


# who she is


def test_everybody_sees_her_own_and_nothing_of_others(people: dict[str, AtShell]) -> None:
    ada, bob = people["ada"], people["bob"]
    assert [one["name"] for one in ada.read("status")["servers"]] == ["thesis"]
    assert [one["name"] for one in ada.read("container", "list")["containers"]] == ["thesis"]
    assert bob.read("status") == {"user": bob.name, "servers": [], "queue": []}
    assert bob.read("container", "list")["containers"] == []


@pytest.mark.parametrize("who", ["bob", "eve"])
def test_no_field_of_a_request_makes_a_person_somebody_else(
    hub: Hub, people: dict[str, AtShell], who: str
) -> None:
    ada, stranger = people["ada"], people[who]
    before = hub.container(ada.person, "thesis")["State"]["StartedAt"]
    lies = {
        "Authorization": f"token {ada.name}",
        "Cookie": f"user={ada.name}; service-ds01={ada.name}",
        "Host": f"{ada.name}.localhost",
        "Remote-User": ada.name,
        "X-Forwarded-User": ada.name,
        "X-Real-IP": "127.0.0.1",
    }
    body = f'{{"user": "{ada.name}", "options": {{}}, "hours": 1, "reason": "mine"}}'
    calls: list[Call] = []
    for method, path in list_addresses(hub):
        for query in ("", f"?user={ada.name}", f"?user={ada.name}&user={stranger.name}", "?user=root&all=1"):
            calls.append((method, path + query, lies, body if method == "POST" else None))
    answers = stranger.ask(calls)
    for (method, path, _, _), (status, answer) in zip(calls, answers, strict=True):
        assert status < 500, (method, path, answer)
        assert ada.name not in answer or status >= 400, (method, path, answer)
        # What is hers to ask is about herself.
        if method == "POST" and status < 300:
            assert path.startswith("/api/check"), (method, path, answer)
    assert hub.container(ada.person, "thesis")["State"]["StartedAt"] == before
    assert len(hub.leases(ada.person)) == 1
    assert hub.leases(stranger.person) == ()


def test_an_admin_of_this_machine_may_look_after_everybody(hub: Hub, people: dict[str, AtShell]) -> None:
    ada, admin = people["ada"], people["admin"]
    assert [one["name"] for one in admin.read("container", "list", "--user", ada.name)["containers"]] == [
        "thesis"
    ]
    (status, body), *_ = admin.ask([("GET", "/api/servers?all=1", {}, None)])
    assert status == 200
    assert ada.name in body
    slot = hub.lab.slots("2g.20gb")[0]
    reason = '{"reason": "it is hot"}'
    drained, undrained = admin.ask(
        [("POST", f"/api/slots/{slot}/{verb}", {}, reason) for verb in ("drain", "undrain")]
    )
    assert (drained[0], undrained[0]) == (200, 200)
    with hub.ledger() as ledger:
        assert admin.name in {event.who for event in ledger.history(limit=5)}


# who gets nothing


@pytest.mark.parametrize("user", ["0:0", "person"])
def test_a_container_that_reaches_the_socket_gets_nothing(
    hub: Hub, people: dict[str, AtShell], user: str
) -> None:
    ada = people["ada"]
    client = docker.DockerClient(base_url=hub.engine.docker_host)
    program = (
        "import http.client, socket, sys\n"
        "for line in sys.argv[1:]:\n"
        "    method, path = line.split()\n"
        "    calls = http.client.HTTPConnection('localhost')\n"
        "    calls.sock = socket.socket(socket.AF_UNIX)\n"
        "    calls.sock.connect('/ds01.sock')\n"
        "    calls.request(method, path)\n"
        "    print(calls.getresponse().status, path)\n"
    )
    asked = [f"{method} {path}?user={ada.name}" for method, path in list_addresses(hub)]
    try:
        printed = client.containers.run(
            hub.lab.base.image,
            ["python3", "-c", program, *asked],
            remove=True,
            user=f"{ada.person.uid}:{ada.person.uid}" if user == "person" else user,
            volumes={str(hub.socket): {"bind": "/ds01.sock", "mode": "rw"}},
        ).decode()
    finally:
        client.close()
    answered = [line.split() for line in printed.splitlines()]
    assert len(answered) == len(asked)
    assert {path.partition("?")[0] for status, path in answered if status != "403"} == {"/api/health"}


def test_an_account_without_a_name_or_of_the_system_is_refused(hub: Hub) -> None:
    for uid, words in ((2**31 - 9, "no account with your UID"), (2, "is a system account")):
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *READS_ALL]
        done = subprocess.run(
            [*command, sys.executable, "-m", "ds01_spawner.cli", "status", "--all"],
            capture_output=True,
            text=True,
            timeout=60,
            env={"DS01_SOCKET": str(hub.socket), "PATH": os.environ["PATH"]},
            cwd="/",
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr


# what breaks nothing


def test_a_thousand_malformed_requests_break_nothing(hub: Hub, people: dict[str, AtShell]) -> None:
    (pid,) = hub.service_pids()
    descriptors = Path(f"/proc/{pid}/fd")
    mark, before = hub.log_mark(), len(list(descriptors.iterdir()))
    chance = random.Random(20261127)
    for _ in range(GUESSES):
        with socket.socket(socket.AF_UNIX) as calling:
            calling.settimeout(30)
            calling.connect(str(hub.socket))
            calling.sendall(make_nonsense(chance))
            if chance.random() < 0.5:
                calling.shutdown(socket.SHUT_WR)
                calling.recv(65536)
    assert hub.service_pids() == [pid]
    wait_for(lambda: len(list(descriptors.iterdir())) <= before, "every connection is closed")
    assert "Traceback" not in hub.log_since(mark)
    assert people["ada"].read("status")["servers"][0]["name"] == "thesis"


def make_nonsense(chance: random.Random) -> bytes:
    """Return bytes that are no request, or nearly one."""
    noise = chance.randbytes(chance.randrange(200))
    path = chance.choice(
        (
            b"/api/containers/%00/start",
            b"/api/containers/../../etc",
            b"/api/check",
            b"/api/leases/1/stop",
            b"/" + noise,
        )
    )
    method = chance.choice((b"GET", b"POST", b"DELETE", b"BREW", noise[:5]))
    length = chance.choice((b"0", b"-1", b"99999999999", b"x", b"5"))
    headers = chance.choice((b"", b"Transfer-Encoding: chunked\r\n", b"X: " + noise + b"\r\n"))
    body = chance.choice(
        (b"", b"{", b"[" * 2000, b'{"options": ' + noise, b"\xff\xfe", b'{"options": {"a": 1e999}}')
    )
    whole = method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n" + headers
    return chance.choice((noise, whole + b"\r\n" + body, whole[: chance.randrange(len(whole))]))


def test_one_account_cannot_take_all_connections(hub: Hub, people: dict[str, AtShell]) -> None:
    with ExitStack() as stack:
        held = []
        for _ in range(MOST_CONNECTIONS + 1):
            calling = stack.enter_context(socket.socket(socket.AF_UNIX))
            calling.settimeout(30)
            calling.connect(str(hub.socket))
            held.append(calling)
        # This test is root; one connection too many is closed, and others are answered.
        assert held[-1].recv(1) == b""
        assert people["ada"].read("status")["servers"][0]["name"] == "thesis"
