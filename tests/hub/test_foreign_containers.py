"""A container that somebody else made stays exactly as it was, whatever happens to the server of its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import docker.errors
import pytest

from ds01_spawner import mlc

from .docker_link import DockerLink
from .hub import Hub
from .student import Student, read_text
from .waiting import wait_for

REFUSED = "exists already and was not made by this Hub"


def look(hub: Hub, container_id: str) -> dict[str, Any]:
    """Return what must not change of a container."""
    inspected = hub.docker.inspect_container(container_id)
    state = {name: inspected["State"][name] for name in ("Status", "StartedAt", "FinishedAt", "ExitCode")}
    whole = {
        name: inspected[name] for name in ("Id", "Name", "Image", "RestartCount", "HostConfig", "Config")
    }
    return whole | state


@contextlib.contextmanager
def foreign(
    hub: Hub, student: Student, *, running: bool, image: str = "", project: str = "jupyter"
) -> Iterator[str]:
    """Yield the id of a container as another tool makes it, under the name of one of hers."""
    made = hub.docker.create_container(
        image or hub.lab.base.image,
        name=f"{project}._.{student.person.uid}",
        entrypoint=["/bin/sh"],
        command=["-c", "exec sleep 3600" if running else "exit 3"],
        user="0",
    )["Id"]
    hub.docker.start(made)
    if not running:
        hub.docker.wait(made)
    try:
        yield made
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            hub.docker.remove_container(made, force=True)


@pytest.mark.parametrize("running", [True, False])
def test_a_start_is_refused_and_leaves_it_as_it_was(hub: Hub, student: Student, running: bool) -> None:
    with foreign(hub, student, running=running) as other:
        before = look(hub, other)
        answer = student.ask_start({"profile": "small"})
        assert REFUSED in student.read_refusal(answer)
        assert answer.status_code == 409
        assert student.server() == {}
        student.ask_stop()
        assert look(hub, other) == before
        assert hub.leases(student.person) == ()
        assert hub.tags(student.person) == []
    student.start()


@pytest.mark.parametrize("running", [True, False])
def test_one_that_came_while_ours_was_created_fails_the_start_and_stays(
    linked_hub: Hub, link: DockerLink, linked_student: Student, running: bool
) -> None:
    student = linked_student
    with link.hold(rf"POST \S+/containers/create\S+{student.person.uid}") as creating:
        answer = student.ask_start({"profile": "small"})
        creating.wait_until_reached()
        with foreign(linked_hub, student, running=running) as other:
            before = look(linked_hub, other)
            creating.release()
            assert REFUSED in student.read_refusal(answer)
            student.wait_gone()
            assert look(linked_hub, other) == before
            assert linked_hub.leases(student.person) == ()
            assert linked_hub.tags(student.person) == []
    student.start()


@pytest.mark.parametrize("running", [True, False])
def test_one_that_came_before_ours_was_created_survives_a_cancelled_start(
    linked_hub: Hub, link: DockerLink, linked_student: Student, running: bool
) -> None:
    student = linked_student
    with link.hold(rf"POST \S+/containers/create\S+{student.person.uid}") as creating:
        student.ask_start({"profile": "small"})
        creating.wait_until_reached()
        with foreign(linked_hub, student, running=running) as other:
            before = look(linked_hub, other)
            assert student.ask_stop().status_code in (202, 204)
            creating.release()
            student.wait_gone()
            assert look(linked_hub, other) == before
            assert linked_hub.leases(student.person) == ()


def test_a_copy_with_all_our_labels_is_not_ours(hub: Hub, student: Student) -> None:
    student.start({"profile": "small"})
    own = hub.container(student.person)
    image = hub.docker.commit(own["Id"], repository="ds01-test/copy", tag=str(student.person.uid))["Id"]
    try:
        with foreign(hub, student, running=True, image=image, project="copy") as beside:
            copied = look(hub, beside)
            assert copied["Config"]["Labels"][mlc.LEASE_LABEL] == own["Config"]["Labels"][mlc.LEASE_LABEL]
            student.stop()
            assert look(hub, beside) == copied
        with foreign(hub, student, running=True, image=image) as other:
            before = look(hub, other)
            assert REFUSED in student.read_refusal(student.ask_start({"profile": "small"}))
            student.ask_stop()
            assert look(hub, other) == before
        assert hub.leases(student.person) == ()
    finally:
        hub.docker.remove_image(image, force=True)


def test_one_that_took_the_name_of_a_server_that_ended_is_not_stopped_in_its_place(
    hub: Hub, student: Student
) -> None:
    student.start()
    hub.docker.rename(hub.container(student.person)["Id"], f"moved._.{student.person.uid}")
    with foreign(hub, student, running=True) as other:
        before = look(hub, other)
        student.stop()
        assert look(hub, other) == before
        names = [inspected["Name"] for inspected in hub.containers(student.person)]
        assert names == [f"/jupyter._.{student.person.uid}"]
        assert hub.leases(student.person) == ()


def test_a_slot_in_a_foreign_container_is_not_leased(hub: Hub, student: Student) -> None:
    (uuid,) = hub.lab.slots("2g.20gb")
    host_config = hub.docker.create_host_config(
        device_requests=[{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={uuid}"]}]
    )
    other = hub.docker.create_container(
        hub.lab.base.image, ["sleep", "3600"], host_config=host_config, name=f"{hub.lab.name}-foreign"
    )["Id"]
    try:
        hub.docker.start(other)
        wait_for(lambda: "1 × 2g.20gb all 1 in use" in read_text(student.form().text), "the form knows")
        assert "free" in student.read_refusal(student.ask_start({"profile": "large"}))
        assert hub.leases(student.person) == ()
        hub.docker.remove_container(other, force=True)
        student.start({"profile": "large"})
        assert [lease.slots for lease in hub.leases(student.person)] == [(uuid,)]
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            hub.docker.remove_container(other, force=True)
