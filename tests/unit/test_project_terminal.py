"""The wizards of `ds01 project init` and `ds01 user setup` at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.interviews import COLOUR, PLACE_OF_ANSWER, STYLE, answer, finish, terminals
from tests.unit.service_stand_in import StandIn, stand_in
from tests.unit.shell import ROOT

SCRIPT = str(Path(sys.executable).with_name("ds01"))
CATALOG = str(ROOT / "tests" / "data" / "ml_images.v2.repo")
COMMANDS = [("project", "init"), ("user", "setup")]
# Name, framework, use case, packages, GPU, whether to make it.
ANSWERS = ("thesis", "", "cv", "wandb", "1g.10gb", "")
# Each question is first answered wrongly.
WITH_MISTAKES = ("a/b", "", "thesis", "9", "", "x", "cv", "-e x", "wandb", "8", "1g.10gb", "maybe", "")
OTHER_LINES = ("ds01: ", "You (group")
SECONDS = 60
RUNNING = {"name": "thesis", "state": "running"}

Start = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[StandIn]:
    """A service that has one profile and one kind of slice, and starts what is asked for."""
    with stand_in(tmp_path) as running:
        running.answers = {
            "GET selection": (
                200,
                {
                    "profiles": [{"slug": "any", "name": "Any", "description": "", "default": True}],
                    "frameworks": [],
                    "images": {},
                    "slots": [{"profile": "1g.10gb", "label": "1g.10gb: 2 of 7 free", "free": 2, "total": 7}],
                    "gpu_problem": "",
                    "notices": [],
                },
            ),
            "GET status": (200, {"user": "ada", "servers": [], "queue": []}),
            "GET limits": (
                200,
                {"group": "student", "holdings": ["0 of 2 containers", "0 of 1 GPU slots"]},
            ),
            "POST check": (200, {"gets": "", "holds": "", "image": "", "problem": ""}),
            "POST containers/thesis/start": (200, {}),
            "GET containers/thesis/progress": (200, [{"message": "Starting", "ready": True}]),
        }
        running.after = {"containers/thesis/start": {"GET containers/thesis": (200, RUNNING)}}
        yield running


@pytest.fixture
def start(home: Path, service: StandIn) -> Iterator[Start]:
    """A function that starts a command at a terminal of so many columns, for who has no Docker."""
    with terminals(seconds=SECONDS) as opened:

        def begin(*words: str, columns: int = 100, **environment: str) -> pexpect.spawn[str]:
            files = ["--catalog", CATALOG, "--arch", "CUDA_ADA", "--socket", service.path]
            unset = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "DS01_CONFIG", "DS01_SOCKET"}
            kept = {name: value for name, value in os.environ.items() if name not in unset}
            nowhere = {"HOME": str(home), "DOCKER_HOST": f"unix://{home}.none", "TERM": "xterm"}
            return opened.open([SCRIPT, *words, *files], {**kept, **nowhere, **environment}, columns=columns)

        yield begin


def list_all(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def check_project(home: Path, service: StandIn) -> None:
    """Assert that all is there which the answers ask for."""
    folder = home / "workspace" / "thesis"
    recipe = home / "dockerfiles" / "thesis"
    assert sorted(path.name for path in folder.iterdir()) == ["Dockerfile", "README.md", "requirements.txt"]
    assert (folder / "Dockerfile").readlink() == recipe / "Dockerfile"
    assert (folder / "requirements.txt").read_text().splitlines()[1:] == ["wandb"]
    assert (recipe / "requirements.txt").read_text() == "wandb\n"
    assert (recipe / "use-case.txt").read_text().split()[0] == "albumentations"
    starts = [body["options"] for path, body in service.posted if path == "containers/thesis/start"]
    assert starts == [{"framework": "Pytorch", "gpu_profile": "1g.10gb", "gpu_count": 1}]


@pytest.mark.parametrize("guided", [(), ("--guided",)])
@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_answers_are_asked_again_and_the_right_ones_count(
    start: Start, home: Path, service: StandIn, command: tuple[str, ...], guided: tuple[str, ...]
) -> None:
    wizard = start(*command, *guided)
    answer(wizard, *WITH_MISTAKES)
    status, screen = finish(wizard)
    assert status == 0, screen
    assert "'a/b' cannot be the name of a project." in screen
    assert ("A project is one piece of work" in screen) is bool(guided)
    assert ("This machine is shared." in screen) is (bool(guided) and command[0] == "user")
    assert ("You (group student): 0 of 2 containers, 0 of 1 GPU slots" in screen) is (command[0] == "user")
    assert "Docker does not answer you here, so no image is built" in " ".join(screen.split())
    assert "The project thesis is ready in ~/workspace/thesis." in screen
    assert "-- pip install --user -r /workspace/thesis/requirements.txt" in " ".join(screen.split())
    check_project(home, service)


@pytest.mark.parametrize("guided", [(), ("--guided",)])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("count", range(len(ANSWERS)))
def test_ctrl_c_at_any_question_leaves_nothing(
    start: Start, home: Path, service: StandIn, count: int, command: tuple[str, ...], guided: tuple[str, ...]
) -> None:
    wizard = start(*command, *guided)
    answer(wizard, *ANSWERS[:count])
    wizard.expect(PLACE_OF_ANSWER)
    wizard.sendintr()
    status, screen = finish(wizard)
    assert status == 130
    assert screen.endswith("\r\nds01: Nothing was changed.\r\n")
    assert "Traceback" not in screen
    assert list_all(home) == []
    assert [path for path, _ in service.posted if path != "check"] == []


def test_ctrl_d_and_a_no_leave_nothing_as_well(start: Start, home: Path) -> None:
    wizard = start("project", "init")
    answer(wizard, "thesis")
    wizard.expect(PLACE_OF_ANSWER)
    wizard.sendeof()
    assert finish(wizard)[0] == 130
    wizard = start("project", "init")
    answer(wizard, *ANSWERS[:-1], "n")
    status, screen = finish(wizard)
    assert status == 0
    assert screen.endswith("ds01: Nothing was changed.\r\n")
    assert list_all(home) == []


def test_with_options_for_everything_nothing_is_asked(start: Start, home: Path, service: StandIn) -> None:
    wizard = start(
        "project", "init", "thesis", "-f", "pytorch", "-t", "CV", "-p", "wandb", "--gpu", "1g.10gb"
    )
    status, screen = finish(wizard)
    assert status == 0, screen
    assert "Phase" not in screen
    check_project(home, service)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_reads_one_object_of_what_there_is_and_what_was_made(
    home: Path, service: StandIn, command: tuple[str, ...]
) -> None:
    asked = [
        SCRIPT,
        *command,
        "thesis",
        "-f",
        "pytorch",
        "-t",
        "cv",
        "-p",
        "wandb",
        "--gpu",
        "1g.10gb",
        "--json",
    ]
    files = ["--catalog", CATALOG, "--arch", "CUDA_ADA", "--socket", service.path]
    nowhere = {"HOME": str(home), "DOCKER_HOST": f"unix://{home}.none"}
    answers = []
    for _ in range(2):
        done = subprocess.run(
            [*asked, *files],
            env={**os.environ, **nowhere},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        answers.append((json.loads(done.stdout), "pip install" in done.stderr))
    there = {
        "name": "thesis",
        "folder": str(home / "workspace" / "thesis"),
        "recipe": str(home / "dockerfiles" / "thesis"),
        "image": None,
        "container": "thesis",
    }
    made = ["README.md", "requirements.txt", "recipe", "container"]
    assert answers == [({**there, "made": made}, True), ({**there, "made": []}, False)]
    check_project(home, service)


@pytest.mark.parametrize("guided", [(), ("--guided",)])
def test_a_second_run_keeps_what_is_there_and_says_so(
    start: Start, home: Path, service: StandIn, guided: tuple[str, ...]
) -> None:
    first = start("project", "init")
    answer(first, *ANSWERS)
    assert finish(first)[0] == 0
    (home / "workspace" / "thesis" / "README.md").write_text("mine\n")
    before = list_all(home)
    status, screen = finish(start("project", "init", "thesis", *guided))
    assert status == 0, screen
    assert "Make it now?" not in screen
    assert "The project thesis is ready" in screen
    assert (home / "workspace" / "thesis" / "README.md").read_text() == "mine\n"
    assert list_all(home) == before
    check_project(home, service)


def test_a_container_that_fails_leaves_the_rest_and_the_same_command_goes_on(
    start: Start, home: Path, service: StandIn
) -> None:
    works = service.answers["GET containers/thesis/progress"]
    service.after.clear()
    service.answers["GET containers/thesis/progress"] = (
        200,
        [{"message": "Nothing is free.", "failed": True}],
    )
    wizard = start("project", "init")
    answer(wizard, *ANSWERS)
    status, screen = finish(wizard)
    assert status == 1
    assert "ds01: Nothing is free." in screen
    said = " ".join(screen.split())
    assert "So far there is ~/workspace/thesis and ~/dockerfiles/thesis." in said
    assert "ds01 project init thesis -f Pytorch -t cv -p wandb --gpu 1g.10gb" in said
    assert (home / "workspace" / "thesis" / "Dockerfile").exists()
    service.answers["GET containers/thesis/progress"] = works
    service.after["containers/thesis/start"] = {"GET containers/thesis": (200, RUNNING)}
    service.posted.clear()
    again = start("project", "init", "thesis", "-f", "Pytorch", "--gpu", "1g.10gb")
    status, screen = finish(again)
    assert status == 0, screen
    check_project(home, service)


def test_ctrl_c_while_it_starts_leaves_what_is_made_and_says_how_to_go_on(
    start: Start, home: Path, service: StandIn
) -> None:
    service.hanging = {"GET containers/thesis/progress"}
    wizard = start("project", "init", "thesis", "-f", "pytorch", "--cpu-only")
    assert service.reached.wait(SECONDS)
    wizard.sendintr()
    status, screen = finish(wizard)
    assert status == 130
    said = " ".join(screen.split())
    assert "The start goes on." in said
    assert "This goes on from there: ds01 project init thesis -f Pytorch --cpu-only" in said
    assert "Traceback" not in screen
    status, screen = finish(start("project", "init", "thesis", "-f", "pytorch", "--cpu-only"))
    assert status == 0, screen
    assert "the container thesis (running)" in " ".join(screen.split())


def test_a_requirements_file_that_cannot_be_read_is_said_before_anything_is_made(
    start: Start, home: Path, service: StandIn
) -> None:
    folder = home / "workspace" / "thesis"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("-e .\n")
    before = list_all(home)
    status, screen = finish(start("project", "init", "thesis", "-f", "pytorch"))
    assert status == 1
    assert "requirements file" in screen
    assert (list_all(home), service.posted) == (before, [])


def test_what_would_be_refused_is_said_before_anything_is_made(
    start: Start, home: Path, service: StandIn
) -> None:
    service.answers["POST check"] = (200, {"gets": "", "holds": "", "image": "", "problem": "Too much."})
    wizard = start("project", "init")
    answer(wizard, *ANSWERS[:-1])
    status, screen = finish(wizard)
    assert (status, screen.splitlines()[-1]) == (1, "ds01: Too much.")
    assert list_all(home) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_without_the_service_all_but_the_container_can_be_made(
    start: Start, home: Path, service: StandIn, command: tuple[str, ...]
) -> None:
    service.path += ".none"
    words = (*command, "thesis", "-f", "pytorch", "-p", "wandb")
    status, screen = finish(start(*words))
    assert status == 3
    assert "The service of DS01 does not answer" in screen
    assert list_all(home) == []
    status, screen = finish(start(*words, "--no-container", "--no-image"))
    assert status == 0, screen
    assert (home / "workspace" / "thesis" / "Dockerfile").exists()
    assert "Container" not in screen


@pytest.mark.parametrize("command", COMMANDS)
def test_no_word_is_broken_in_a_narrow_window(
    start: Start, home: Path, service: StandIn, command: tuple[str, ...]
) -> None:
    wizard = start(*command, "--guided", columns=30)
    answer(wizard, *ANSWERS[:-2], "3")
    wizard.expect(PLACE_OF_ANSWER)
    wizard.sendintr()
    status, screen = finish(wizard)
    # What the command itself says besides the questions is broken by the terminal.
    shown = [line for line in STYLE.sub("", screen).splitlines() if not line.startswith(OTHER_LINES)]
    assert status == 130
    assert [line for line in shown if len(line) > 30] == []
    assert "A project is one piece of work: a folder for its code" in " ".join(" ".join(shown).split())


def test_colours_are_there_at_a_terminal_and_not_where_nobody_wants_them(start: Start) -> None:
    screens = []
    for environment in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        wizard = start("project", "init", **environment)
        answer(wizard, "a/b")
        wizard.expect(PLACE_OF_ANSWER)
        wizard.sendintr()
        screens.append(finish(wizard)[1])
    coloured, plain, dumb = screens
    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)
    assert "\x1b" not in dumb
