"""What many share: the last slot, one person's limits, and a Hub on which nobody waits for another."""

from __future__ import annotations

from collections.abc import Callable

from .docker_link import DockerLink
from .hub import Hub
from .obstacles import base_that_builds_slowly, gate_at, locked_ledger
from .student import Student, read_text


def test_two_who_ask_for_the_last_slot_at_once_one_gets_it_and_the_other_reads_why_not(
    linked_hub: Hub, linked_newcomer: Callable[[], Student]
) -> None:
    both = [linked_newcomer(), linked_newcomer()]
    with locked_ledger(linked_hub.ledger_file) as let_go:
        for student in both:
            assert student.post_form({"profile": "large"}).status_code == 200
            student.wait_for_step("Reserving")
        let_go()
        ended = {student: list(student.watch())[-1] for student in both}
    (winner,) = [student for student, event in ended.items() if event.get("ready")]
    (loser,) = [student for student in both if student is not winner]
    assert "2g.20gb" in ended[loser]["message"]
    assert "free" in ended[loser]["message"]
    assert [lease.slots for lease in linked_hub.leases(winner.person)] == [linked_hub.lab.slots("2g.20gb")]
    loser.wait_gone()
    assert linked_hub.traces(loser.person) == {}
    assert "2g.20gb" in read_text(loser.page(f"/hub/spawn-pending/{loser.name}").text)
    assert "2g.20gb" in read_text(loser.post_form({"profile": "large"}).text)
    refused = loser.ask_start({"profile": "large"})
    assert refused.status_code in (202, 503)
    assert "2g.20gb" in loser.read_refusal(refused)
    assert "all 1 in use" in read_text(loser.form().text)
    winner.stop()
    loser.start({"profile": "large"})


def test_of_two_servers_of_one_student_beyond_her_limit_the_second_is_refused(
    hub: Hub, student: Student
) -> None:
    hub.lab.set_limits(student.person, max_containers_per_user=1)
    student.start()
    refused = student.ask_start({}, server="second")
    assert refused.status_code == 400
    assert "your limit is 1" in refused.json()["message"]
    assert [lease.server for lease in hub.leases(student.person)] == [""]


def test_a_server_that_takes_too_much_beside_her_others_is_refused_with_the_sum_and_fits_once_lowered(
    hub: Hub, student: Student
) -> None:
    aggregate = {"cpu_quota": "200%", "memory_max": "1.5G", "tasks_max": "infinity"}
    hub.lab.set_limits(student.person, aggregate=aggregate)
    student.start()
    refused = student.ask_start({}, server="second")
    assert refused.status_code == 400
    assert refused.json()["message"] == (
        "You hold 1.5 CPUs in 1 server and ask for 1.5 more; together your limit is 2. "
        "You hold 1g of memory in 1 server and ask for 1g more; together your limit is 1536m. "
        "Lower this server's CPUs to 0.5 and memory to 512m, or stop a server that you do not need."
    )
    assert [lease.server for lease in hub.leases(student.person)] == [""]
    held = "You hold 0 of 2 GPU slots · 1 of 2 servers · 1.5 of 2 CPUs · memory 1 GB of 1.5 GB"
    assert held in read_text(student.form("second").text)
    student.start({"cpus": 0.5, "memory": "512m"}, server="second")
    assert sum(lease.takes.cpus or 0 for lease in hub.leases(student.person)) == 2


def test_of_two_servers_that_she_starts_at_once_beyond_her_limit_one_is_refused(
    linked_hub: Hub, linked_student: Student
) -> None:
    student = linked_student
    linked_hub.lab.set_limits(student.person, max_gpu_slots=1)
    with locked_ledger(linked_hub.ledger_file) as let_go:
        for server in ("", "second"):
            assert student.ask_start({"profile": "small"}, server).status_code in (201, 202)
            student.wait_for_step("Reserving", server)
        let_go()
        ended = {server: list(student.watch(server))[-1] for server in ("", "second")}
    (running,) = [server for server, event in ended.items() if event.get("ready")]
    (refused,) = [event["message"] for event in ended.values() if event.get("failed")]
    assert "your limit is 1" in refused
    assert [(lease.server, len(lease.slots)) for lease in linked_hub.leases(student.person)] == [(running, 1)]
    assert len(linked_hub.containers(student.person)) == 1


def test_a_build_that_takes_long_makes_nobody_else_wait(
    linked_hub: Hub, linked_newcomer: Callable[[], Student]
) -> None:
    slow, other = linked_newcomer(), linked_newcomer()
    with (
        gate_at(linked_hub.gateway) as gate,
        base_that_builds_slowly(linked_hub.docker, linked_hub.lab.base.image, gate) as base,
    ):
        slow.ask_start({"profile": "base", "base_image": base})
        gate.wait_until_reached()
        other.start({"profile": "small"})
        other.stop()
        assert slow.server()["pending"] == "spawn"
        assert linked_hub.leases(slow.person) == ()
        gate.decide(open=False)
        assert slow.failure()
    slow.wait_gone()
    assert linked_hub.traces(slow.person) == {}


def test_a_docker_call_that_hangs_makes_nobody_else_wait(
    linked_hub: Hub, link: DockerLink, linked_newcomer: Callable[[], Student]
) -> None:
    slow, other = linked_newcomer(), linked_newcomer()
    with link.hold(rf"POST \S+/containers/create\S+{slow.person.uid}") as creating:
        slow.ask_start({"profile": "small"})
        creating.wait_until_reached()
        other.start({"profile": "small"})
        other.stop()
        assert slow.server()["pending"] == "spawn"
        creating.release()
        slow.wait_ready()


def test_two_builds_at_once_of_the_same_image_are_one(
    linked_hub: Hub, linked_newcomer: Callable[[], Student]
) -> None:
    both = [linked_newcomer(), linked_newcomer()]
    before = linked_hub.built_images()
    with (
        gate_at(linked_hub.gateway) as gate,
        base_that_builds_slowly(linked_hub.docker, linked_hub.lab.base.image, gate) as base,
    ):
        for student in both:
            student.ask_start({"profile": "base", "base_image": base})
        gate.wait_until_reached()
        gate.decide(open=True)
        for student in both:
            student.wait_ready()
            student.stop()
        (built,) = linked_hub.built_images() - before
        assert gate.visits == 1
        linked_hub.docker.remove_image(built, force=True)
