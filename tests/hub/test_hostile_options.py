"""Options that nobody should send: a 400 with a sentence, and nothing made of them, fresh or stored."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import signed_in
from .docker_link import DockerLink
from .hub import Hub
from .student import Student, read_text
from .waiting import wait_for

DEEP = json.loads("[" * 400 + "]" * 400)

# By name, what is sent as `user_options`, and a word that the sentence must have.
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a number for a profile": ({"profile": 7}, "profile"),
    "a list for a framework": ({"framework": ["Pytorch"]}, "framework"),
    "a text for packages": ({"packages": "numpy"}, "packages"),
    "numbers in packages": ({"packages": [1, 2]}, "packages"),
    "null in packages": ({"packages": [None]}, "packages"),
    "a text for a count": ({"gpu_count": "1"}, "gpu_count"),
    "a truth for a count": ({"gpu_count": True}, "gpu_count"),
    "a negative count": ({"gpu_profile": "1g.10gb", "gpu_count": -1}, "gpu_count"),
    "an endless count": ({"gpu_profile": "1g.10gb", "gpu_count": 10**30}, "gpu_count"),
    "no memory": ({"memory": 0}, "memory"),
    "memory that is not a number": ({"cpus": "NaN"}, "cpus"),
    "memory beyond her limit": ({"memory": "64g"}, "limit"),
    "an unknown key": ({"privileged": True}, "privileged"),
    "DockerSpawner's image": ({"image": "ubuntu"}, "image"),
    "a key of nothing": ({"": ""}, "option"),
    "an unknown profile": ({"profile": "root"}, "profile"),
    "somebody else's profile": ({"profile": "staff"}, "staff"),
    "a GPU profile with a path": ({"gpu_profile": "../../all"}, "GPU profile"),
    "a GPU that is not here": ({"gpu_profile": "7g.80gb"}, "7g.80gb"),
    "a full GPU that is not hers": ({"gpu_profile": "full"}, "full GPU"),
    "more slots than her limit": ({"gpu_profile": "1g.10gb", "gpu_count": 3}, "limit"),
    "an unknown framework": ({"framework": "Pytorch; reboot"}, "framework"),
    "a command in a package": ({"packages": ["x; curl y"]}, "curl"),
    "a command substitution in a package": ({"packages": ["$(reboot)"]}, "reboot"),
    "an option of pip": ({"packages": ["--index-url=//example.org"]}, "index-url"),
    "a package from a URL": ({"packages": ["x @ file:///etc/passwd"]}, "x"),
    "a line in a package": ({"packages": ["six\nRUN reboot"]}, "packages"),
    "10,000 packages": ({"packages": [f"package{number}" for number in range(10_000)]}, "packages"),
    "a command in a system package": ({"system_packages": ["curl && reboot"]}, "curl"),
    "an option of apt": ({"system_packages": ["-oAPT::Update::Pre-Invoke::=reboot"]}, "APT"),
    "an option in requirements": ({"requirements": "-r /etc/shadow"}, "requirements"),
    "huge requirements": ({"requirements": "six\n" * 500_000}, "requirements"),
    "a base image that is not allowed": ({"base_image": "ubuntu:24.04"}, "base_image"),
    "a base image with a line": ({"profile": "base", "base_image": "ubuntu\nRUN reboot"}, "base_image"),
    "a base image that is an option": ({"profile": "base", "base_image": "--help"}, "base_image"),
    "a workspace where none may be chosen": ({"workspace_dir": "/etc"}, "workspace_dir"),
    "nested junk": ({"profile_options": {"a": {"b": {"c": [{"d": None}]}}}}, "profile_options"),
    "deep junk": ({"packages": DEEP}, "packages"),
    "a lone surrogate": ({"framework": "\ud800"}, "framework"),
    "a lone surrogate in a key": ({"\udfff": 1}, "option"),
    "a lone surrogate in a package": ({"packages": ["six\ud800"]}, "packages"),
    "a NUL": ({"profile": "cpu\0"}, "profile"),
    "a template": ({"use_case": "{{ 7 * 7 }}{username.foo}%s"}, "use case"),
    "a page": ({"profile": "<script>alert(1)</script>"}, "profile"),
    "a huge text": ({"framework": "x" * 2_000_000}, "framework"),
}

# The same for directories, where her profile lets her choose; `{other}` is another student's home.
DIRECTORIES: dict[str, str] = {
    "a system folder": "/etc",
    "the whole machine": "/",
    "root's home": "/root",
    "another's home": "{other}",
    "a folder in another's home": "{other}/workspace",
    "a link to another's home": "~/link-to-other",
    "a link to what she may not read": "~/link-to-root",
    "a link to what she may read outside": "~/link-to-etc",
    "a link in the middle": "~/link-to-etc/ssl",
    "up and out": "~/../{other_name}",
    "a process's root": "/proc/1/root",
    "a relative path": "workspace",
    "a file": "~/file",
    "a folder of root in her home": "~/of-root/new",
    "a comma": "~/a,b",
    "a colon": "~/a:/etc",
    "another's tilde": "~root",
    "Docker's socket": "/var/run/docker.sock",
}


@pytest.fixture(scope="module")
def mallory(hub: Hub) -> Iterator[Student]:
    with signed_in(hub) as student:
        yield student


@pytest.fixture(scope="module")
def other_home(hub: Hub, mallory: Student) -> Path:
    """Another student's home, and the traps in Mallory's own."""
    other = hub.lab.enrol("somebody-else")
    other.workspace.mkdir()
    os.chown(other.workspace, other.uid, other.uid)
    other.workspace.chmod(0o777)
    home = mallory.person.home
    secret = hub.lab.directory / "of-root"
    secret.mkdir(mode=0o700)
    (home / "link-to-other").symlink_to(other.home)
    (home / "link-to-root").symlink_to(secret)
    (home / "link-to-etc").symlink_to("/etc")
    (home / "of-root").mkdir(mode=0o755)
    (home / "file").write_text("")
    return other.home


@pytest.fixture
def nothing_made(hub: Hub, mallory: Student) -> Iterator[None]:
    """Fail a test after which there is a container, an image or a lease more than before."""

    def count() -> tuple[object, ...]:
        containers = {row["Id"] for row in hub.docker.containers(all=True, filters={"network": hub.lab.name})}
        return containers, hub.leases(), hub.built_images(), hub.tags(mallory.person)

    before = count()
    yield
    assert count() == before
    assert hub.traces(mallory.person) == {}


def check_refused(answer: httpx.Response, word: str) -> str:
    """Fail unless it is a 400 with a sentence that names what is wrong; return the sentence."""
    assert answer.status_code == 400, answer.text[:500]
    sentence: str = answer.json()["message"]
    assert word.lower() in sentence.lower()
    assert "Traceback" not in sentence
    assert "Invalid user options" not in sentence
    assert sentence.endswith((".", "?"))
    assert len(sentence) < 600
    return sentence


def store(student: Student, options: dict[str, Any], server: str) -> None:
    """Store options without starting; the Hub looks at none of them."""
    body = {"user_options": options, "display_name": server}
    answer = student.api("PUT", f"/users/{student.name}/servers/{server}", body)
    assert answer.status_code == 201, answer.text[:500]


def is_known(student: Student, server: str) -> bool:
    """Whether the Hub knows a named server, with whatever options it stored for it."""
    return student.api("GET", f"/users/{student.name}/servers/{server}").status_code == 200


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize("name", OPTIONS)
def test_fresh_options_are_refused(mallory: Student, name: str) -> None:
    options, word = OPTIONS[name]
    check_refused(mallory.ask_start(options), word)


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize("name", OPTIONS)
def test_stored_options_are_refused_and_not_kept(mallory: Student, name: str) -> None:
    options, word = OPTIONS[name]
    store(mallory, options, "stored")
    assert is_known(mallory, "stored")
    check_refused(mallory.ask_start(server="stored"), word)
    wait_for(lambda: not is_known(mallory, "stored"), "the Hub has forgotten the server that never was")


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize("key", ["workspace_dir", "data_dir"])
@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_that_is_not_hers_is_refused(
    mallory: Student, other_home: Path, name: str, key: str
) -> None:
    path = DIRECTORIES[name].replace("{other}", str(other_home)).replace("{other_name}", other_home.name)
    sentence = check_refused(mallory.ask_start({"profile": "folders", key: path}), "")
    full_path = path.replace("~/", f"{mallory.person.home}/")
    assert full_path in sentence or key in sentence


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize(
    "body",
    [
        *(b"[1]", b'"text"', b"7", b"{", b"\xff\xfe", b"[" * 100_000),
        *(b'{"user_options": [1]}', b'{"user_options": "x"}'),
        *(b'{"user_options": {"cpus": NaN}}', b'{"user_options": {"cpus": 1e999}}'),
    ],
)
def test_a_body_that_is_not_an_object_is_refused(mallory: Student, body: bytes) -> None:
    answer = mallory.ask_start(raw=body)
    assert answer.status_code == 400, answer.text[:500]
    assert answer.json()["message"]


@pytest.mark.usefixtures("nothing_made")
@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"profile": "staff"}, "staff"),
        ({"profile": "cpu", "packages": "x; curl y"}, "curl"),
        ({"profile": "cpu", "unknown": "1"}, "unknown"),
        ({"profile": "cpu", "gpu_count": "many"}, "gpu_count"),
        ({"profile": "cpu", "base_image": "ubuntu"}, "base_image"),
    ],
)
def test_the_form_shows_the_sentence_and_starts_nothing(
    mallory: Student, fields: dict[str, str], word: str
) -> None:
    page = mallory.post_form(fields)
    assert page.status_code < 500
    text = read_text(page.text)
    assert '<p class="alert alert-danger" role="alert">' in page.text
    assert word in text
    assert "SpawnRefused" not in text
    assert mallory.server() == {}


def test_after_a_refusal_a_start_without_options_does_not_repeat_it(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student = newcomer()
    check_refused(student.ask_start({"gpu_profile": "1g.10gb", "packages": ["x; curl y"]}), "curl")
    assert student.ask_start().status_code in (201, 202)
    student.wait_ready()
    assert [lease.slots for lease in hub.leases(student.person)] == [()]


def test_after_a_refusal_a_start_without_options_is_as_the_last_one_that_was_accepted(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student = newcomer()
    student.start({"profile": "small"})
    student.stop()
    check_refused(student.ask_start({"packages": ["x; curl y"]}), "curl")
    assert student.ask_start().status_code in (201, 202)
    student.wait_ready()
    assert [len(lease.slots) for lease in hub.leases(student.person)] == [1]


def test_after_stored_options_were_refused_the_server_starts_without_them(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student = newcomer()
    store(student, {"profile": "staff"}, "stored")
    check_refused(student.ask_start(server="stored"), "staff")
    assert student.ask_start(server="stored").status_code in (201, 202)
    student.wait_ready("stored")
    assert [lease.server for lease in hub.leases(student.person)] == ["stored"]


def test_a_workspace_that_is_swapped_while_docker_starts_it_is_not_handed_out(
    linked_hub: Hub, link: DockerLink, linked_newcomer: Callable[[], Student]
) -> None:
    student, other = linked_newcomer(), linked_newcomer()
    other.person.workspace.mkdir()
    workspace = student.person.workspace
    with link.hold(r"POST \S+/containers/\w+/start") as starting:
        answer = student.ask_start({"profile": "cpu"})
        starting.wait_until_reached()
        workspace.rename(workspace.with_name("before"))
        workspace.symlink_to(other.person.workspace)
        starting.release()
        sentence = student.read_refusal(answer)
    assert "is not the directory that was checked" in sentence
    student.wait_gone()
    assert linked_hub.traces(student.person) == {}
    assert list(other.person.workspace.iterdir()) == []


def test_a_workspace_of_her_own_is_mounted_where_her_profile_lets_her_choose(
    hub: Hub, newcomer: Callable[[], Student]
) -> None:
    student = newcomer()
    project = student.person.home / "project"
    project.mkdir()
    os.chown(project, student.person.uid, student.person.uid)
    (student.person.home / "link").symlink_to(project)
    student.start({"profile": "folders", "workspace_dir": "~/link"})
    student.run("open('/workspace/result', 'w').write('42')")
    assert (project / "result").read_text() == "42"
    assert hub.container(student.person)["Config"]["Labels"]["aime.mlc.WORK_MOUNT"] == str(project)
