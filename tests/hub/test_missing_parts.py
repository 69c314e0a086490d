"""A part of the site that is missing or broken: the student reads what to do, the admin finds the cause."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01_spawner.catalog import SEARCH_PATHS, fallback

from .conftest import OpenHub, signed_in, tagged
from .docker_link import DockerLink
from .hub import Hub
from .lab import ARCHITECTURE, FRAMEWORK, UNKNOWN_TO_DOCKER, VERSION
from .student import Student, read_text
from .waiting import wait_for


@contextlib.contextmanager
def written(file: Path, text: str) -> Iterator[None]:
    """Let a file hold another text for a while."""
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


@contextlib.contextmanager
def away(file: Path) -> Iterator[None]:
    """Let a file be away for a while."""
    elsewhere = file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        elsewhere.rename(file)


def check_refused(hub: Hub, student: Student, *, status: int, sentence: str, cause: str) -> None:
    """Fail unless a start on a GPU is refused with a sentence, its cause logged, and nothing half made."""
    mark = hub.log_mark()
    answer = student.ask_start({"profile": "small"})
    assert sentence in student.read_refusal(answer)
    assert answer.status_code == status
    assert cause in hub.log_since(mark)
    assert "Unhandled error" not in hub.log_since(mark)
    assert student.server() == {}
    assert hub.traces(student.person) == {}


def check_form(hub: Hub, student: Student, *, sentence: str, cause: str) -> None:
    """Fail unless the form says it, and the log why."""
    mark = hub.log_mark()
    form = student.form()
    assert form.status_code == 200
    assert sentence in read_text(form.text)
    assert cause in hub.log_since(mark)


def test_a_catalog_that_is_gone(hub: Hub, student: Student) -> None:
    sentence, cause = "Please tell your admin", f"No such file or directory: '{hub.lab.catalog}'"
    with away(hub.lab.catalog):
        check_refused(hub, student, status=503, sentence=sentence, cause=cause)
        check_form(hub, student, sentence=sentence, cause=cause)
    student.start({"profile": "small"})


def test_a_catalog_with_a_broken_line(hub: Hub, student: Student) -> None:
    with written(hub.lab.catalog, "Pytorch; 2.8.0\n"):
        check_refused(hub, student, status=503, sentence="in line 1", cause="Pytorch; 2.8.0")
        check_form(hub, student, sentence="in line 1", cause="Pytorch; 2.8.0")


@pytest.mark.parametrize(
    ("text", "cause"),
    [("defaults: [", "line 1 of resource-limits.yaml is not YAML"), ("defaults:\n  max_cpu: 4\n", "max_cpu")],
)
def test_a_limits_file_that_is_broken(hub: Hub, student: Student, text: str, cause: str) -> None:
    with written(hub.lab.limits, text):
        check_refused(hub, student, status=503, sentence="limits", cause=cause)
        check_form(hub, student, sentence="limits", cause=cause)


@pytest.mark.parametrize("code", [9, 18])
def test_a_machine_whose_nvml_does_not_start(hub: Hub, student: Student, code: int) -> None:
    with written(hub.lab.box, f"init {code}\n"):
        wait_for(hub.has_read_gpus, "the service has seen it")
        check_refused(hub, student, status=503, sentence="driver", cause="nvmlInit")
        check_form(hub, student, sentence="No GPU can be given out now", cause="nvmlInit")
    wait_for(hub.has_read_gpus, "the service has seen that they are back")
    student.start({"profile": "small"})


def test_a_user_without_an_account(hub: Hub) -> None:
    with signed_in(hub) as student:
        text = hub.lab.accounts.read_text()
        others = [line for line in text.splitlines(keepends=True) if not line.startswith(f"{student.name}:")]
        with written(hub.lab.accounts, "".join(others)):
            cause = f"no account '{student.name}' in {hub.lab.accounts}"
            check_refused(hub, student, status=403, sentence="There is no account", cause=cause)


def test_an_account_with_a_uid_of_the_system(hub: Hub) -> None:
    with signed_in(hub, uid=998) as student:
        check_refused(hub, student, status=403, sentence="system account", cause="UID 998")


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_workspace_that_she_may_not_write(hub: Hub, student: Student, mode: int) -> None:
    student.person.workspace.mkdir()
    os.chown(student.person.workspace, student.person.uid, student.person.uid)
    student.person.workspace.chmod(mode)
    check_refused(
        hub, student, status=400, sentence=str(student.person.workspace), cause=f"as {student.person.uid}"
    )


def test_a_workspace_that_belongs_to_root(hub: Hub, student: Student) -> None:
    student.person.workspace.mkdir()
    check_refused(hub, student, status=400, sentence="not writable for you", cause="readonly")


def test_a_docker_that_is_away(linked_hub: Hub, link: DockerLink, linked_student: Student) -> None:
    mark = linked_hub.log_mark()
    link.cut()
    try:
        answer = linked_student.ask_start({"profile": "small"})
        assert "Docker" in linked_student.read_refusal(answer)
        assert answer.status_code in (202, 503)
        assert link.docker_host.removeprefix("unix://") in linked_hub.log_since(mark) or (
            "FileNotFoundError" in linked_hub.log_since(mark)
        )
        assert linked_hub.traces(linked_student.person) == {}
    finally:
        link.restore()
    linked_student.start({"profile": "small"})


def test_a_base_image_that_is_not_on_the_machine(hub: Hub, student: Student) -> None:
    answer = student.ask_start({"profile": "base", "base_image": "example.invalid/nothing:here"})
    assert "example.invalid/nothing:here" in student.read_refusal(answer)
    assert answer.status_code in (202, 400)
    assert hub.traces(student.person) == {}


def test_a_device_that_docker_does_not_know(hub: Hub, student: Student) -> None:
    mark = hub.log_mark()
    answer = student.ask_start({"gpu_profile": UNKNOWN_TO_DOCKER})
    assert "tell your admin" in student.read_refusal(answer)
    assert answer.status_code == 503
    assert "CDI device injection failed" in hub.log_since(mark)
    student.wait_gone()
    assert hub.traces(student.person) == {}


def test_where_no_catalog_is_installed_a_public_image_is_taken_with_a_warning(
    open_hub: OpenHub,
) -> None:
    assert not [path for path in SEARCH_PATHS if Path(path).exists()]
    substitute = fallback(FRAMEWORK, ARCHITECTURE)
    hub = open_hub(settings={"DS01": {"catalog_file": ""}})
    with tagged(hub.engine, substitute.image), signed_in(hub) as student:
        assert substitute.warning in student.start_watched({})
        labels = hub.container(student.person)["Config"]["Labels"]
        assert labels["aime.mlc.BASE_IMAGE"] == substitute.image
        assert labels["aime.mlc.FRAMEWORK"] != f"{FRAMEWORK}-{VERSION}"
        student.stop()
