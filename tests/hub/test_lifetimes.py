"""A server between its start and its end: stopped over SSH, killed, its Hub restarted, its Docker away."""

from __future__ import annotations

import pytest

from .docker_link import DockerLink
from .hub import Hub
from .student import Student
from .waiting import wait_for


@pytest.mark.parametrize("how", ["stop", "kill", "remove_container"])
def test_a_container_that_is_ended_over_ssh_is_noticed_and_its_slot_is_free(
    hub: Hub, student: Student, how: str
) -> None:
    student.start({"profile": "small"})
    container = hub.container(student.person)["Id"]
    arguments = {"force": True} if how == "remove_container" else {}
    getattr(hub.docker, how)(container, **arguments)
    student.wait_gone()
    wait_for(lambda: not hub.traces(student.person), "container, lease and tag have gone")
    student.start({"profile": "small"})


def test_a_container_that_is_paused_still_runs_for_the_hub(hub: Hub, student: Student) -> None:
    student.start({"profile": "small"})
    container = hub.container(student.person)["Id"]
    hub.docker.pause(container)
    try:
        # A second server's start and stop takes several of the Hub's polls.
        student.start({}, server="second")
        student.stop("second")
        assert student.server()["ready"]
    finally:
        hub.docker.unpause(container)
    assert student.run("print('awake')") == "awake\n"


def test_a_restart_of_the_hub_keeps_the_server_running_known_and_usable(hub: Hub, student: Student) -> None:
    student.start({"profile": "small"})
    student.run("open('/tmp/kept', 'w').write('yes')")
    before = hub.container(student.person)
    leases = hub.leases(student.person)
    hub.stop()
    assert hub.container(student.person)["State"] == before["State"]
    assert hub.leases(student.person) == leases
    hub.start()
    assert student.server()["ready"]
    assert hub.container(student.person)["Id"] == before["Id"]
    assert student.run("print(open('/tmp/kept').read())") == "yes\n"
    student.stop()
    assert hub.traces(student.person) == {}


def test_a_container_that_ended_while_the_hub_was_away_is_settled_when_it_is_back(
    hub: Hub, student: Student
) -> None:
    student.start({"profile": "small"})
    hub.stop()
    hub.docker.stop(hub.container(student.person)["Id"])
    hub.start()
    wait_for(lambda: not hub.traces(student.person), "container, lease and tag have gone")
    assert student.server() == {}
    student.start({"profile": "small"})


def test_while_docker_is_away_its_last_word_stands(
    linked_hub: Hub, link: DockerLink, linked_student: Student
) -> None:
    student = linked_student
    student.start({"profile": "small"})
    container = linked_hub.container(student.person)["Id"]
    mark = linked_hub.log_mark()
    link.cut()
    try:
        wait_for(lambda: "its last status stands" in linked_hub.log_since(mark), "a poll found Docker away")
        assert student.server()["ready"]
        assert len(linked_hub.leases(student.person)) == 1
    finally:
        link.restore()
    assert student.run("print('still here')") == "still here\n"
    assert linked_hub.container(student.person)["Id"] == container
    student.stop()
    assert linked_hub.traces(student.person) == {}


def test_a_stop_while_docker_is_away_frees_nothing_and_can_be_repeated(
    linked_hub: Hub, link: DockerLink, linked_student: Student
) -> None:
    student = linked_student
    student.start({"profile": "small"})
    link.cut()
    try:
        student.ask_stop()
        student.wait_gone()
        assert len(linked_hub.leases(student.person)) == 1
    finally:
        link.restore()
    # Her next start finds the container of the lease that she still holds.
    student.start({"profile": "small"})
    assert len(linked_hub.containers(student.person)) == 1
    assert len(linked_hub.leases(student.person)) == 1
    student.stop()
    assert linked_hub.traces(student.person) == {}
