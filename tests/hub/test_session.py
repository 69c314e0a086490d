"""What a student reads of her server in JupyterLab, on a real Hub: hers alone, and as it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from .conftest import signed_in
from .hub import Hub
from .student import Student
from .waiting import wait_for

# Warned as soon as it is idle, an hour before it would be stopped.
LIMITS = {
    "max_runtime": "2h",
    "idle_timeout": "1h",
    "policies": {
        "grace_period": "0s",
        "idle_detection_window": 2,
        "cpu_idle_threshold": 100,
        "network_idle_threshold": 10**9,
        "warning_lead_m": 60,
        "max_extension_h": 1,
    },
}


@pytest.fixture(scope="module")
def ada(hub: Hub) -> Iterator[Student]:
    """A student with a slice, a server that is warned when it is idle, and an end of its run time."""
    with signed_in(hub) as student:
        hub.lab.set_limits(student.person, **LIMITS)
        student.start({"profile": "small"})
        yield student


def ask(hub: Hub, student: Student, path: str, **headers: str) -> httpx.Response:
    """GET an address of her server with these headers and nothing else."""
    return httpx.get(f"{hub.url}/user/{student.name}/{path}", headers=headers, timeout=60, trust_env=False)


def tell(hub: Hub, student: Student) -> dict[str, Any]:
    """Return what her server tells of itself."""
    answer = ask(hub, student, "ds01/session", Authorization=f"token {student.token()}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_it_tells_her_slice_and_when_it_ends(hub: Hub, ada: Student) -> None:
    told = wait_for(lambda: tell(hub, ada), "something is told")
    (lease,) = hub.leases(ada.person)
    assert lease.runs_until is not None
    assert (told["name"], told["server"], told["gpu"]) == ("jupyter", "", "1g.10gb")
    assert len(told["slots"]) == 1
    assert told["run_until"] == lease.runs_until.isoformat(timespec="seconds")


def test_nobody_else_reads_it(hub: Hub, ada: Student, newcomer: Callable[[], Student]) -> None:
    assert ask(hub, ada, "ds01/session").status_code == 403
    stranger = newcomer()
    answer = ask(hub, ada, "ds01/session", Authorization=f"token {stranger.token()}")
    assert answer.status_code == 403
    assert "1g.10gb" not in answer.text


def test_a_warning_and_more_time_appear_and_asking_keeps_nothing_from_being_idle(
    hub: Hub, ada: Student
) -> None:
    told = wait_for(lambda: found if (found := tell(hub, ada)).get("warnings") else None, "she is warned")
    (warning,) = told["warnings"]
    assert warning["cause"] == "idle"
    assert warning["ends_at"] == told["idle_until"]
    assert warning["message"].startswith("Your server has been idle since")
    more = httpx.post(
        f"{hub.url}/services/ds01/api/servers/jupyter/extend",
        headers={"Authorization": f"token {ada.token()}"},
        json={"hours": 0.5},
        timeout=60,
        trust_env=False,
    )
    until = more.json()["time_left"]["run_until"]
    assert until > told["run_until"]
    wait_for(lambda: tell(hub, ada)["run_until"] == until, "the new end is told")


def test_what_did_not_change_is_not_sent_again(hub: Hub, ada: Student) -> None:
    token = {"Authorization": f"token {ada.token()}"}

    def ask_twice() -> int:
        first = ask(hub, ada, "ds01/session", **token)
        return ask(hub, ada, "ds01/session", **token, **{"If-None-Match": first.headers["ETag"]}).status_code

    # It may change in between, once.
    wait_for(lambda: ask_twice() == 304, "it is not sent again")


def test_lab_and_notebook_load_what_shows_it(hub: Hub, ada: Student) -> None:
    token = {"Authorization": f"token {ada.token()}"}
    for page in ("lab", "tree"):
        assert '"ds01-session"' in ask(hub, ada, page, **token).text
    script = ask(hub, ada, "lab/extensions/ds01-session/static/remoteEntry.js", **token)
    assert script.status_code == 200
    assert script.headers["content-type"].startswith(("text/javascript", "application/javascript"))


def test_a_file_that_she_broke_or_made_an_attack_of_harms_her_page_alone(hub: Hub, ada: Student) -> None:
    before = tell(hub, ada)
    ada.run("open('/opt/ds01/session.json', 'w').write('[' * 99999)")
    assert tell(hub, ada)["gpu"] == before["gpu"]
