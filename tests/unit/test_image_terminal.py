"""The wizard of `ds01 image create` at a terminal: wrong answers, Ctrl-C, a narrow window, no colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.interviews import COLOUR, PLACE_OF_ANSWER, STYLE, answer, finish, terminals
from tests.unit.shell import ROOT

SCRIPT = str(Path(sys.executable).with_name("ds01"))
CATALOG = str(ROOT / "tests" / "data" / "ml_images.v2.repo")
ANSWERS = ("thesis", "", "", "", "cv", "wandb", "", "ffmpeg")
# Each question is first answered wrongly, where it has wrong answers.
WITH_MISTAKES = (
    "a/b",
    "thesis",
    "9",
    "",
    "7",
    "",
    "maybe",
    "",
    "x",
    "cv",
    "-e x",
    "",
    "/nowhere",
    "",
    "a;b",
    "",
)
SECONDS = 60

Start = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts the wizard at a terminal of so many columns."""
    with terminals(seconds=SECONDS) as opened:

        def begin(*options: str, columns: int = 100, **environment: str) -> pexpect.spawn[str]:
            fixed = ["--no-build", "--catalog", CATALOG, "--arch", "CUDA_ADA"]
            unset = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "DS01_CONFIG"}
            kept = {name: value for name, value in os.environ.items() if name not in unset}
            nowhere = {"HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "TERM": "xterm"}
            return opened.open(
                [SCRIPT, "image", "create", *fixed, *options],
                {**kept, **nowhere, **environment},
                columns=columns,
            )

        yield begin


@pytest.mark.parametrize("guided", [(), ("--guided",)])
def test_wrong_answers_are_asked_again_and_the_right_ones_count(
    start: Start, tmp_path: Path, guided: tuple[str, ...]
) -> None:
    wizard = start(*guided)
    answer(wizard, *WITH_MISTAKES)
    status, screen = finish(wizard)
    assert status == 0
    assert "'a/b' cannot be the name of an image." in screen
    assert ("Images are made in layers" in screen) is bool(guided)
    written = tmp_path / "dockerfiles" / "thesis"
    assert (written / "use-case.txt").read_text().split()[0] == "albumentations"
    assert (written / "packages.txt").read_text() == ""


@pytest.mark.parametrize("guided", [(), ("--guided",)])
@pytest.mark.parametrize("count", range(len(ANSWERS)))
def test_ctrl_c_at_any_question_leaves_nothing(
    start: Start, tmp_path: Path, count: int, guided: tuple[str, ...]
) -> None:
    wizard = start(*guided)
    answer(wizard, *ANSWERS[:count])
    wizard.expect(PLACE_OF_ANSWER)
    wizard.sendintr()
    status, screen = finish(wizard)
    assert status == 130
    assert screen.endswith("\r\nds01: Nothing was changed.\r\n")
    assert "Traceback" not in screen
    assert list(tmp_path.iterdir()) == []


def test_ctrl_d_leaves_as_well(start: Start, tmp_path: Path) -> None:
    wizard = start()
    answer(wizard, "thesis")
    wizard.expect(PLACE_OF_ANSWER)
    wizard.sendeof()
    assert finish(wizard)[0] == 130
    assert list(tmp_path.iterdir()) == []


def test_no_word_is_broken_in_a_narrow_window(start: Start) -> None:
    wizard = start("--guided", columns=40)
    answer(wizard, *ANSWERS)
    status, screen = finish(wizard)
    # What follows is the command's own word on its end, which the terminal breaks.
    shown = STYLE.sub("", screen).partition("ds01: ")[0].splitlines()
    assert status == 0
    assert max(map(len, shown)) <= 40
    assert "Pytorch (newest: 2.8.0-aime)" in screen
    assert "A container is one serving of it." in " ".join(" ".join(shown).split())


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
