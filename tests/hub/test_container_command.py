"""`ds01 container` as a person uses it: real accounts, a real Hub, and the same servers in the browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from ds01_spawner import mlc
from ds01_spawner.model import LeaseState

from .accounts import AtShell
from .conftest import OpenHub
from .hub import ADMIN, Hub
from .lab import ARCHITECTURE, Person
from .student import Student
from .waiting import wait_for

PROFILES = [
    {
        "display_name": "Any",
        "slug": "any",
        "default": True,
        "spawner_override": {"allow_custom_base_image": True},
    },
    {"display_name": "Catalog only", "slug": "catalog"},
    {"display_name": "Staff", "slug": "staff", "groups": ["staff"]},
]
REFUSED, AWAY, MISSING = 1, 3, 4


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub whose people are those of this machine."""
    return open_hub(settings={"DS01": {"accounts": "host"}, "DS01Spawner": {"profile_list": PROFILES}})


@contextmanager
def somebody(hub: Hub, *groups: str) -> Iterator[tuple[AtShell, Student]]:
    """Yield a person at her shell, and at her browser, with an account of this machine."""
    with hub.lab.enrol_on_host(*groups) as person:
        student = hub.sign_in(person)
        try:
            yield AtShell(hub=hub, person=person), student
        finally:
            for server in student.model()["servers"]:
                if student.server(server):
                    student.stop(server)
            student.close()
            hub.clean(person)


@pytest.fixture
def ada(hub: Hub) -> Iterator[AtShell]:
    with somebody(hub) as (shell, _):
        yield shell


@pytest.fixture
def both(hub: Hub) -> Iterator[tuple[AtShell, Student]]:
    with somebody(hub) as found:
        yield found


# one container, two doors


def test_a_container_of_the_terminal_is_the_browsers_server(hub: Hub, both: tuple[AtShell, Student]) -> None:
    ada, student = both
    said = ada.do("container", "create", "thesis", "Pytorch", "2.8.0", "--gpu", "1g.10gb", "--memory", "512m")
    assert said == "thesis runs. Open a shell in it: ds01 container run thesis\n"
    assert student.server("thesis")["ready"]
    made = hub.container(ada.person, "thesis")
    assert made["Config"]["Labels"][f"{mlc.LABEL}.USER"] == ada.name
    assert made["Config"]["User"] == f"{ada.person.uid}:{ada.person.uid}"
    assert made["HostConfig"]["Memory"] == 512 * 1024**2
    (lease,) = hub.leases(ada.person)
    (shown,) = ada.read("container", "list")["containers"]
    assert (shown["name"], shown["state"], shown["made_by"]) == ("thesis", "running", "ds01")
    assert shown["lease"]["id"] == lease.id
    assert [slot["profile"] for slot in shown["lease"]["slots"]] == ["1g.10gb"]
    assert ada.do("status").startswith("thesis: running, GPU ")


def test_a_server_of_the_browser_is_stopped_started_and_removed_here(
    hub: Hub, both: tuple[AtShell, Student]
) -> None:
    ada, student = both
    student.start({"profile": "catalog"}, "course")
    assert "is stopped" in ada.do("container", "stop", "course")
    assert hub.leases(ada.person) == ()
    states = {one["name"]: one["state"] for one in ada.read("container", "list", "--all")["containers"]}
    assert states["course"] == "stopped"
    ada.do("container", "run", "course", "--", "true")
    assert student.server("course")["ready"]
    assert ada.ds01("container", "remove", "course").returncode != 0
    assert student.server("course")["ready"]
    ada.do("container", "remove", "course", "--yes")
    assert "course" not in student.model()["servers"]
    assert hub.traces(ada.person) == {}


def test_what_is_held_after_aimes_stop_is_given_back_by_ours(hub: Hub, both: tuple[AtShell, Student]) -> None:
    ada, student = both
    hub.lab.set_limits(ada.person, gpu_hold_after_stop_h=1, container_hold_after_stop_h=1)
    student.start({"profile": "catalog", "gpu_profile": "1g.10gb"}, "course")
    hub.docker.stop(f"course._.{ada.person.uid}")
    wait_for(lambda: hub.leases(ada.person)[0].state is LeaseState.HELD, "it is held")
    (shown,) = ada.read("container", "list")["containers"]
    assert (shown["state"], shown["lease"]["held_until"] is not None) == ("held", True)
    assert ", held until " in ada.do("status")
    ada.do("container", "stop", "course")
    assert hub.traces(ada.person) == {}


def test_what_it_takes_and_what_it_printed_can_be_read(ada: AtShell) -> None:
    ada.do("container", "create", "thesis")
    (use,) = ada.read("container", "stats")
    assert use["name"] == "thesis"
    assert use["memory_limit"] == 1024**3
    assert 0 < use["memory_bytes"] < use["memory_limit"]
    assert use["processes"] >= 2
    assert "ServerApp" in ada.do("container", "logs", "thesis", "--lines", "50")


def test_a_shell_is_hers_at_her_terminal_and_leaving_it_stops_nothing(
    hub: Hub, both: tuple[AtShell, Student]
) -> None:
    ada, student = both
    student.start({"profile": "catalog"}, "course")
    command, *arguments = ada.ds01_command("container", "run", "course")
    shell = pexpect.spawn(
        command,
        arguments,
        env={**ada.environment, "TERM": "xterm"},
        cwd="/",
        dimensions=(31, 97),
        encoding="utf-8",
        timeout=60,
    )
    shell.sendline("echo $(whoami) $(id -u) $(pwd) $(stty size) $TERM '<-'")
    shell.expect_exact(f"{ada.name} {ada.person.uid} /workspace 31 97 xterm <-")
    shell.sendline("touch here; exit 7")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 7
    assert (ada.person.workspace / "here").stat().st_uid == ada.person.uid
    assert student.server("course")["ready"]
    assert hub.container(ada.person, "course")["State"]["Running"]


# what is refused, and how


def test_each_refusal_is_a_sentence_and_leaves_nothing(hub: Hub, ada: AtShell) -> None:
    cases = [
        (("create", "thesis", "nonsense"), "nonsense", REFUSED),
        (("create", "Thesis"), "small letters", REFUSED),
        (("create", "thesis", "--profile", "staff"), "staff", REFUSED),
        (("create", "thesis", "--memory", "2g"), "memory", REFUSED),
        (("create", "thesis", "--gpu", "full"), "full GPU", REFUSED),
        (("create", "thesis", "--gpu", "1g.10gb:x"), "such as 1g.10gb", REFUSED),
        (("create", "thesis", "--profile", "catalog", "--image", "ubuntu:24.04"), "base_image", REFUSED),
        (("create", "thesis", "-d", "/root"), "data_dir", REFUSED),
        (("stop", "thesis"), "no container 'thesis'", MISSING),
        (("run", "thesis"), "no container 'thesis'", MISSING),
        (("logs", "jupyter"), "no container now", REFUSED),
        (("adopt", "thesis", "--yes"), "docker group", REFUSED),
    ]
    for arguments, words, status in cases:
        done = ada.ds01("container", *arguments)
        assert (done.returncode, done.stdout) == (status, ""), (arguments, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert hub.traces(ada.person) == {}
    assert [one["name"] for one in ada.read("container", "list", "--all")["containers"]] == ["jupyter"]


def test_a_name_that_is_taken_is_refused_with_what_can_be_done(ada: AtShell) -> None:
    ada.do("container", "create", "thesis")
    done = ada.ds01("container", "create", "thesis")
    assert done.returncode == REFUSED
    assert "ds01 container run thesis" in done.stderr


def test_a_dry_run_says_what_would_come_of_it(hub: Hub, ada: AtShell) -> None:
    said = ada.read("container", "create", "thesis", "--gpu", "1g.10gb:2", "--dry-run")
    assert said["gets"].startswith("2 × 1g.10gb")
    assert said["problem"] == ""
    refused = ada.ds01("container", "create", "thesis", "tensorfow", "--dry-run")
    assert refused.returncode == REFUSED
    assert hub.traces(ada.person) == {}


def test_who_never_signed_in_at_the_hub_is_told_to(hub: Hub) -> None:
    with hub.lab.enrol_on_host() as person:
        newcomer = AtShell(hub=hub, person=person)
        done = newcomer.ds01("container", "create", "thesis")
        assert done.returncode == REFUSED
        assert "Sign in there once" in done.stderr
        assert newcomer.read("container", "list") == {"containers": [], "problems": []}


def test_profiles_of_a_group_are_shown_to_its_members(hub: Hub, both: tuple[AtShell, Student]) -> None:
    ada, _ = both
    slugs = {one["slug"] for one in ask_selection(ada)["profiles"]}
    assert slugs == {"any", "catalog"}
    admin = hub.sign_in(Person(name=ADMIN, uid=0, home=ada.person.home))
    assert admin.api("POST", "/groups/staff/users", {"users": [ada.name]}).status_code == 200
    admin.close()
    assert {one["slug"] for one in ask_selection(ada)["profiles"]} == {"any", "catalog", "staff"}


def ask_selection(person: AtShell) -> dict[str, list[dict[str, str]]]:
    ((status, body),) = person.ask([("GET", "/api/selection", {}, None)])
    assert status == 200, body
    return json.loads(body)


# what AIME's tools made


@contextmanager
def made_by_aime(hub: Hub, person: Person, name: str, *, running: bool = False) -> Iterator[str]:
    """Yield the id of a container as AIME's tools make it, with a file of hers in it."""
    label = mlc.LABEL
    labels = {
        label: person.name,
        f"{label}.NAME": name,
        f"{label}.USER": person.name,
        f"{label}.FRAMEWORK": "Pytorch-2.8.0",
        f"{label}.WORK_MOUNT": str(person.workspace),
    }
    made = hub.docker.create_container(
        hub.lab.base.image,
        ["sh", "-c", 'echo kept > /opt/mine; [ -z "$STAYS" ] || exec sleep 600'],
        name=f"{name}._.{person.uid}",
        user="0",
        labels=labels,
        environment={"STAYS": "1"} if running else {},
        host_config=hub.docker.create_host_config(privileged=True, network_mode="host"),
    )["Id"]
    hub.docker.start(made)
    if not running:
        hub.docker.wait(made)
    try:
        yield made
    finally:
        hub.docker.remove_container(made, force=True)


def test_aimes_containers_stand_beside_ours_and_are_left_to_aimes_tools(
    hub: Hub, both: tuple[AtShell, Student]
) -> None:
    ada, student = both
    with made_by_aime(hub, ada.person, "Old_one", running=True) as made:
        ada.do("container", "create", "thesis")
        shown = {one["name"]: one for one in ada.read("container", "list")["containers"]}
        assert {name: one["made_by"] for name, one in shown.items()} == {"thesis": "ds01", "Old_one": "aime"}
        assert shown["Old_one"]["lease"] is None
        home = student.page("/hub/home").text
        assert re.findall(r"<code[^>]*>mlc-open (\S+)</code>\s*</li>", home) == ["Old_one"]
        for verb in ("stop", "run", "logs"):
            done = ada.ds01("container", verb, "Old_one")
            assert done.returncode == REFUSED
            assert "AIME's tools" in done.stderr
        assert hub.docker.inspect_container(made)["State"]["Running"]


def test_an_adopted_container_is_a_server_with_its_files(hub: Hub) -> None:
    with somebody(hub, "docker") as (eve, student), made_by_aime(hub, eve.person, "old") as made:
        eve.do("container", "adopt", "old", "--yes")
        try:
            assert student.server("old")["ready"]
            assert eve.do("container", "run", "old", "--", "cat", "/opt/mine") == "kept\n"
            (lease,) = hub.leases(eve.person)
            assert lease.container_name == f"old._.{eve.person.uid}"
            aside = hub.docker.inspect_container(made)
            assert (aside["Name"], aside["State"]["Running"]) == (f"/old-aime._.{eve.person.uid}", False)
            assert not hub.container(eve.person, "old")["HostConfig"]["Privileged"]
        finally:
            eve.do("container", "remove", "old", "--yes")
            hub.docker.remove_image(mlc.own_image_name("old", eve.name), force=True)


def test_an_adoption_that_was_left_goes_on(hub: Hub) -> None:
    with somebody(hub, "docker") as (eve, student), made_by_aime(hub, eve.person, "old"):
        ((status, _),) = eve.ask([("POST", "/api/containers/old/adopt", {}, None)])
        assert status == 200
        assert student.server("old") == {}
        try:
            eve.do("container", "adopt", "old", "--yes")
            assert eve.do("container", "run", "old", "--", "cat", "/opt/mine") == "kept\n"
        finally:
            eve.do("container", "remove", "old", "--yes")
            hub.docker.remove_image(mlc.own_image_name("old", eve.name), force=True)


def test_one_that_cannot_be_adopted_stays_what_it_is_and_she_reads_why(hub: Hub) -> None:
    with somebody(hub, "docker") as (eve, _), made_by_aime(hub, eve.person, "old") as made:
        done = eve.ds01("container", "adopt", "old", "--yes", "--profile", "catalog")
        assert (done.returncode, "base_image" in done.stderr) == (REFUSED, True)
        hub.docker.start(made)
        hub.docker.wait(made)
        with made_by_aime(hub, eve.person, "busy", running=True), made_by_aime(hub, eve.person, "Old_one"):
            for name, words in (
                ("busy", "stop it first"),
                ("Old_one", "docker rename"),
                ("none", "no container"),
            ):
                done = eve.ds01("container", "adopt", name, "--yes")
                assert words in done.stderr, (name, done.stderr)
        assert hub.docker.inspect_container(made)["Name"] == f"/old._.{eve.person.uid}"
        assert hub.leases(eve.person) == ()


def test_an_adoption_whose_server_does_not_come_up_is_undone(hub: Hub) -> None:
    with somebody(hub, "docker") as (eve, student), made_by_aime(hub, eve.person, "old") as made:
        student.start({"profile": "catalog"}, "one")
        student.start({"profile": "catalog"}, "two")
        done = eve.ds01("container", "adopt", "old", "--yes")
        assert done.returncode == REFUSED
        assert "old is again what it was" in done.stderr
        assert hub.docker.inspect_container(made)["Name"] == f"/old._.{eve.person.uid}"
        assert hub.docker.images(mlc.own_image_name("old", eve.name)) == []
        assert "old" not in student.model()["servers"]


# when the service is away


def test_without_the_service_a_login_is_silent_and_all_else_says_so(ada: AtShell, hub: Hub) -> None:
    nowhere = ("--socket", str(hub.lab.directory / "none.sock"))
    silent = ada.ds01("status", *nowhere)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    for arguments in (("status", "--all"), ("container", "list"), ("container", "run", "thesis")):
        done = ada.ds01(*arguments, *nowhere)
        assert (done.returncode, done.stdout) == (AWAY, "")
        assert "does not answer on this machine" in done.stderr


# a project


def test_a_project_of_who_may_not_use_docker_has_no_image_and_a_container_of_the_framework(
    hub: Hub, ada: AtShell
) -> None:
    files = ("--catalog", str(hub.lab.catalog), "--arch", ARCHITECTURE)
    done = ada.ds01("project", "init", "thesis", "-f", "pytorch", "-t", "cv", "--cpu-only", *files)
    assert done.returncode == 0, done.stderr
    assert "no image is built" in done.stderr
    folder = ada.person.home / "workspace" / "thesis"
    assert sorted(path.name for path in folder.iterdir()) == ["Dockerfile", "README.md", "requirements.txt"]
    assert "use-case.txt" in (folder / "Dockerfile").read_text()
    (shown,) = ada.read("container", "list")["containers"]
    assert (shown["name"], shown["state"]) == ("thesis", "running")
    assert shown["framework"].startswith("Pytorch-")
    assert shown["lease"]["slots"] == []
    assert ada.do("container", "run", "thesis", "--", "ls", "thesis").split() == [
        "Dockerfile",
        "README.md",
        "requirements.txt",
    ]
