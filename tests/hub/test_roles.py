"""Every address of the service, asked by everybody there can be: each gets what is hers and nothing else.

Who is let through to a change meets 400, since what is asked for is no sense; who is not, 403 before that.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cast import Cast, read_cells
from .conftest import OpenHub
from .hub import ADMIN, ROLES, TOKENS

ACCESS = "access:services!service=ds01"
# `course` has all for the members of a group, `tutor` for ada alone, `reader` sees everybody's servers.
MORE_ROLES = [
    {
        "name": "course",
        "services": ["course"],
        "scopes": [ACCESS, "read:servers!group=staff", "servers!group=staff"],
    },
    {
        "name": "tutor",
        "services": ["tutor"],
        "scopes": [ACCESS, "read:servers!user=ada", "servers!user=ada"],
    },
    {"name": "reader", "services": ["reader"], "scopes": [ACCESS, "read:servers"]},
]
MORE_TOKENS = {name: f"{name:0<32}" for name in ("course", "tutor", "reader")}

NO_TIME, NO_REASON, TIME = {"hours": "2"}, {"reason": 5}, {"hours": 0.01, "reason": "a paper"}
REQUESTS: dict[str, tuple[str, str, object]] = {
    "the page": ("GET", "", None),
    "its script": ("GET", "static/lab.js", None),
    "its template": ("GET", "static/../lab.html", None),
    "all GPUs": ("GET", "api/gpus", None),
    "her list": ("GET", "api/servers", None),
    "everybody's list": ("GET", "api/servers?all=1", None),
    "ada's list": ("GET", "api/servers?user=ada", None),
    "her server": ("GET", "api/servers/jupyter", None),
    "ada's server": ("GET", "api/servers/jupyter?user=ada", None),
    "time for hers": ("POST", "api/servers/jupyter/extend", NO_TIME),
    "time for ada's": ("POST", "api/servers/jupyter/extend?user=ada", NO_TIME),
    "time for a lease": ("POST", "api/leases/{ada}/extend", TIME),
    "an end of a lease": ("POST", "api/leases/{ada}/stop", NO_REASON),
    "an end of nothing": ("POST", "api/leases/999999999/stop", NO_REASON),
    "a slot out of use": ("POST", "api/slots/0:0/drain", NO_REASON),
    "a slot in use": ("POST", "api/slots/0:0/undrain", NO_REASON),
    "an end by GET": ("GET", "api/leases/{ada}/stop", None),
    "her form": ("GET", "api/availability", None),
    "ada's form": ("GET", "api/availability?user=ada", None),
    "its choices": ("POST", "api/preview?user=ada", None),
    "its Dockerfile": ("POST", "api/dockerfile?user=ada", None),
    "metrics": ("GET", "metrics", None),
    "health": ("GET", "api/health", None),
    "no such address": ("GET", "api", None),
    "no such lease": ("POST", "api/leases/one/stop", NO_REASON),
}
# The admin has no server of her own, and a service never has one, whatever its name. `elsewhere` is a token
# of ada's that may not enter, `container` that of her server.
TABLE = """
                  nobody ada bob teacher elsewhere container stranger prometheus namesake course tutor reader
the page          302    200 200 200     403       403       403      200        200      200    200   200
its script        200    200 200 200     200       200       200      200        200      200    200   200
its template      404    404 404 404     404       404       404      404        404      404    404   404
all GPUs          403    200 200 200     403       403       403      200        200      200    200   200
her list          403    200 200 200     403       403       403      200        200      200    200   200
everybody's list  403    403 403 200     403       403       403      403        403      403    403   200
ada's list        403    200 403 200     403       403       403      403        403      403    200   200
her server        403    200 200 404     403       403       403      404        404      404    404   404
ada's server      403    200 403 200     403       403       403      403        403      403    200   200
time for hers     403    400 400 400     403       403       403      400        400      400    400   400
time for ada's    403    400 403 400     403       403       403      403        403      403    400   403
time for a lease  403    200 403 200     403       403       403      403        403      403    403   403
an end of a lease 403    400 403 400     403       403       403      403        403      403    403   403
an end of nothing 403    403 403 404     403       403       403      403        403      403    403   403
a slot out of use 403    403 403 400     403       403       403      403        403      403    403   403
a slot in use     403    403 403 400     403       403       403      403        403      403    403   403
an end by GET     405    405 405 405     405       405       405      405        405      405    405   405
her form          403    200 200 200     403       403       403      400        400      400    400   400
ada's form        403    200 403 200     403       403       403      403        403      403    200   200
its choices       403    200 403 200     403       403       403      403        403      403    200   200
its Dockerfile    403    200 403 200     403       403       403      403        403      403    200   200
metrics           403    403 403 200     403       403       403      200        403      403    403   403
health            200    200 200 200     200       200       200      200        200      200    200   200
no such address   404    404 404 404     404       404       404      404        404      404    404   404
no such lease     404    404 404 404     404       404       404      404        404      404    404   404
"""


@pytest.fixture(scope="module")
def cast(open_hub: OpenHub) -> Iterator[Cast]:
    service_tokens = {token: name for name, token in {**TOKENS, **MORE_TOKENS}.items()}
    settings = {
        "JupyterHub": {
            "load_roles": ROLES + MORE_ROLES,
            "service_tokens": service_tokens,
            "load_groups": {"staff": {"users": ["ada"]}},
        }
    }
    hub = open_hub(settings=settings)
    people = {name: hub.sign_in(hub.lab.enrol(name)) for name in ("ada", "bob", ADMIN)}
    hub.lab.set_limits(people["ada"].person, max_runtime="2h", policies={"max_extension_h": 1})
    for name in ("ada", "bob"):
        people[name].start({"profile": "small"})
    environment = hub.container(people["ada"].person)["Config"]["Env"]
    container = dict(entry.partition("=")[::2] for entry in environment)["JUPYTERHUB_API_TOKEN"]
    narrow = people["ada"].api("POST", "/users/ada/tokens", {"scopes": ["read:users:name!user"]})
    tokens = {
        "nobody": "",
        "elsewhere": narrow.json()["token"],
        "container": container,
        "namesake": TOKENS["ada"],
        **{name: student.token() for name, student in people.items()},
        **{name: TOKENS[name] for name in ("prometheus", "stranger")},
        **MORE_TOKENS,
    }
    cast = Cast(hub=hub, people=people, tokens=tokens)
    yield cast
    cast.close()


@pytest.mark.parametrize(("role", "request_name", "status"), read_cells(TABLE))
def test_each_role_gets_what_is_hers_and_nothing_else(
    cast: Cast, role: str, request_name: str, status: int
) -> None:
    method, path, body = REQUESTS[request_name]
    (lease,) = cast.hub.leases(cast.people["ada"].person)
    answer = cast.ask(role, path.format(ada=lease.id), method, json=body)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert set(answer.json()) == {"message", "reason"}
        assert answer.json()["message"].endswith(".")


def test_each_request_is_in_the_table() -> None:
    assert {name for _, name, _ in read_cells(TABLE)} == set(REQUESTS)


@pytest.mark.parametrize("role", ["bob", "prometheus", "course", "tutor"])
def test_all_gpus_tell_nobody_who_may_not_know_of_ada(cast: Cast, role: str) -> None:
    for answer in (cast.ask(role, "api/gpus"), cast.ask(role, "")):
        assert answer.status_code == 200
        assert "ada" not in answer.text.replace("data-", "")
        assert str(cast.people["ada"].person.uid) not in answer.text


@pytest.mark.parametrize("role", ["teacher", "reader"])
def test_who_may_see_all_servers_sees_who_has_which_gpu(cast: Cast, role: str) -> None:
    seen = cast.ask(role, "api/gpus").json()
    users = {slot["user"] for gpu in seen["gpus"] for slot in gpu["slots"]} - {None}
    assert users == {"ada", "bob"}
    assert seen["events"]
    assert seen["may_manage"] is (role == "teacher")
