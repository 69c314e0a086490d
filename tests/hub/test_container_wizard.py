"""The wizard of `ds01 container create` at a terminal, on a real service: wrong answers, Ctrl-C, colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pexpect
import pytest

from ..interviews import COLOUR, PLACE_OF_ANSWER, STYLE, answer, finish, terminals
from .accounts import AtShell
from .conftest import OpenHub
from .hub import Hub
from .student import Student

PROFILES = [
    {"display_name": "Any", "slug": "any", "default": True},
    {"display_name": "Own base", "slug": "own", "spawner_override": {"allow_custom_base_image": True}},
]
ANSWERS = ("thesis", "", "Pytorch", "2.8.0", "none")
# Each question is first answered wrongly.
WITH_MISTAKES = (
    "",
    "Thesis",
    "thesis",
    "9",
    "any",
    "tensorfow",
    "pytorch",
    "1.0",
    "2.8.0",
    "a whole rack",
    "1g.10gb",
)
SECONDS = 120

Start = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    """A Hub whose people are those of this machine."""
    return open_hub(settings={"DS01": {"accounts": "host"}, "DS01Spawner": {"profile_list": PROFILES}})


@pytest.fixture(scope="module")
def student(hub: Hub) -> Iterator[Student]:
    """ada, known to the Hub."""
    with hub.lab.enrol_on_host() as person:
        student = hub.sign_in(person)
        yield student
        for server in student.model()["servers"]:
            if student.server(server):
                student.stop(server)
        student.close()


@pytest.fixture
def start(hub: Hub, student: Student) -> Iterator[Start]:
    """A function that starts the wizard at a terminal of so many columns."""
    ada = AtShell(hub=hub, person=student.person)
    with terminals(seconds=SECONDS) as opened:

        def begin(*options: str, columns: int = 100, **environment: str) -> pexpect.spawn[str]:
            command = ada.ds01_command("container", "create", *options)
            return opened.open(
                command, {**ada.environment, "TERM": "xterm", **environment}, columns=columns, cwd="/"
            )

        yield begin


@pytest.mark.parametrize("guided", [(), ("--guided",)])
@pytest.mark.parametrize("count", range(len(ANSWERS) + 1))
def test_ctrl_c_at_any_question_leaves_nothing(
    start: Start, hub: Hub, student: Student, count: int, guided: tuple[str, ...]
) -> None:
    wizard = start(*guided)
    answer(wizard, *ANSWERS[:count])
    wizard.expect(PLACE_OF_ANSWER)
    wizard.sendintr()
    status, screen = finish(wizard)
    assert status == 130
    assert screen.endswith("\r\nds01: Nothing was changed.\r\n")
    assert "Traceback" not in screen
    assert hub.traces(student.person) == {}
    assert "thesis" not in student.model()["servers"]


@pytest.mark.parametrize("guided", [(), ("--guided",)])
def test_wrong_answers_are_asked_again_and_the_last_no_makes_nothing(
    start: Start, hub: Hub, student: Student, guided: tuple[str, ...]
) -> None:
    wizard = start(*guided)
    answer(wizard, *WITH_MISTAKES, "perhaps", "n")
    status, screen = finish(wizard)
    assert status == 0
    assert "with a letter first" in screen
    assert "There is no Pytorch '1.0'" in screen
    assert "1 × 1g.10gb, Pytorch 2.8.0" in screen
    assert screen.endswith("ds01: Nothing was changed.\r\n")
    assert ("Phase 3/3" in screen, "GPUs are shared." in screen) == (True, bool(guided))
    assert hub.traces(student.person) == {}


def test_the_last_yes_makes_it_and_shows_how_it_goes(start: Start, hub: Hub, student: Student) -> None:
    wizard = start("--profile", "any")
    answer(wizard, "thesis", "", "none", "y")
    status, screen = finish(wizard)
    assert status == 0, screen
    assert "thesis runs. Open a shell in it: ds01 container run thesis" in screen
    assert student.server("thesis")["ready"]
    AtShell(hub=hub, person=student.person).do("container", "remove", "thesis", "--yes")


def test_what_the_profile_does_not_allow_is_said_before_the_last_question(
    start: Start, student: Student
) -> None:
    wizard = start("--guided", "--profile", "any", "mine")
    answer(wizard, "an image", "ubuntu:24.04", "none")
    status, screen = finish(wizard)
    assert status == 1
    assert "takes no `base_image` of your own" in " ".join(screen.split())
    assert "mine" not in student.model()["servers"]


def test_no_word_is_broken_in_a_narrow_window(start: Start) -> None:
    wizard = start("--guided", columns=40)
    answer(wizard, *ANSWERS, "n")
    status, screen = finish(wizard)
    shown = STYLE.sub("", screen).partition("ds01: Nothing")[0].splitlines()
    assert status == 0
    assert max(map(len, shown)) <= 40
    assert "Take the smallest one that your model fits into" in " ".join(" ".join(shown).split())


def test_colours_are_there_at_a_terminal_and_not_where_nobody_wants_them(start: Start) -> None:
    screens = []
    for environment in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        wizard = start(**environment)
        answer(wizard, "a/b")
        wizard.expect(PLACE_OF_ANSWER)
        wizard.sendintr()
        screens.append(finish(wizard)[1])
    coloured, plain, dumb = screens
    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)
    assert "\x1b" not in dumb
