"""Questions to a person: what she is shown, what her answers become, and what happens when she leaves."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.console import Console

from ds01_spawner.cli.leaving import Abandoned, leaving
from ds01_spawner.cli.questions import Choice, Interview, Items, Text, YesNo
from ds01_spawner.errors import CatalogBroken, ImageFailed, RequestRefused

FRUIT = Choice(
    prompt="Which fruit?",
    options={"a": ("Apple", "red"), "b": ("Banana", ""), "10": ("Tenth", "")},
    default="b",
)


def parse_number(text: str) -> int:
    if not text.isdecimal():
        raise RequestRefused(f"{text!r} is no number.")
    return int(text)


NUMBER = Text(prompt="How many?", parse=parse_number, default="3", hint="At most nine.")


@dataclass
class Person:
    """Somebody who types `lines` and then leaves; `seen` is what stands on her terminal."""

    lines: list[str]
    width: int = 80
    guided: bool = False
    screen: io.StringIO = field(default_factory=io.StringIO)

    @property
    def interview(self) -> Interview:
        console = Console(file=self.screen, width=self.width, highlight=False)
        return Interview(read_line=self.type_line, console=console, guided=self.guided)

    @property
    def seen(self) -> str:
        return self.screen.getvalue()

    def type_line(self) -> str:
        return f"{self.lines.pop(0)}\n" if self.lines else ""


def ask(question: Any, *lines: str) -> Any:
    return Person(list(lines)).interview.ask(question)


@pytest.mark.parametrize(
    ("answer", "value"), [("1", "a"), ("apple", "a"), ("A", "a"), (" 2 ", "b"), ("", "b")]
)
def test_a_choice_is_made_by_number_value_or_name_and_enter_is_the_default(answer: str, value: str) -> None:
    assert ask(FRUIT, answer) == value


def test_a_number_beyond_the_list_is_no_choice() -> None:
    person = Person(["4", "0", "-1", "3"])
    assert person.interview.ask(FRUIT) == "10"
    assert person.seen.count("is none of them. Answer with its number or its name.") == 3


def test_a_choice_shows_its_options_and_which_one_enter_means() -> None:
    person = Person([""])
    person.interview.ask(FRUIT)
    assert person.seen == (
        "\nWhich fruit?\n  1) Apple (red)\n  2) Banana (default)\n  3) Tenth\nChoice [1-3, default: 2]: "
    )


def test_a_text_is_what_it_was_parsed_to_and_enter_is_its_default() -> None:
    assert ask(NUMBER, "7") == 7
    assert ask(NUMBER, "") == 3


def test_a_wrong_answer_is_told_in_its_sentence_and_asked_again() -> None:
    person = Person(["many", "2"])
    assert person.interview.ask(NUMBER) == 2
    assert person.seen == "\nHow many?\n  At most nine.\n[3] > 'many' is no number.\n[3] > "


def test_a_list_is_taken_apart_by_its_parser_and_enter_is_none_of_it() -> None:
    words = Items(prompt="Which words?", parse=lambda text: tuple(text.split()), example="a b")
    assert ask(words, "x  y") == ("x", "y")
    assert ask(words, "") == ()


@pytest.mark.parametrize(("answer", "value"), [("y", True), ("YES", True), ("n", False), ("No", False)])
def test_yes_and_no_are_answers_whatever_the_default(answer: str, value: bool) -> None:
    assert ask(YesNo(prompt="Sure?", default=False), answer) is value
    assert ask(YesNo(prompt="Sure?", default=True), answer) is value


def test_enter_is_the_default_of_yes_or_no() -> None:
    assert ask(YesNo(prompt="Sure?", default=True), "") is True
    assert ask(YesNo(prompt="Sure?", default=False), "") is False


def test_neither_yes_nor_no_is_asked_again() -> None:
    person = Person(["maybe", "y"])
    assert person.interview.ask(YesNo(prompt="Sure?", default=False)) is True
    assert person.seen == "\nSure? [y/N]: Answer with y for yes, or n for no.\nSure? [y/N]: "


def test_who_answers_wrongly_without_end_is_asked_no_more() -> None:
    with pytest.raises(RequestRefused, match="is no number"):
        ask(NUMBER, *["y"] * 100)


def fail_with(error: Exception) -> Callable[[str], str]:
    def fail(_: str) -> str:
        raise error

    return fail


def test_what_no_answer_can_mend_ends_the_questions() -> None:
    with pytest.raises(CatalogBroken):
        ask(Text(prompt="What?", parse=fail_with(CatalogBroken("Broken."))), "x", "y")
    person = Person(["x"])
    with pytest.raises(Abandoned):
        person.interview.ask(Text(prompt="What?", parse=fail_with(ImageFailed("Not this one."))))
    assert "Not this one." in person.seen


def test_the_end_of_the_input_is_leaving_and_ends_the_line() -> None:
    person = Person([])
    with pytest.raises(Abandoned, match="Nothing was changed"):
        person.interview.ask(NUMBER)
    assert person.seen.endswith("> \n")


def test_ctrl_c_is_leaving() -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    interview = Interview(read_line=interrupt, console=Console(file=io.StringIO()))
    with pytest.raises(Abandoned):
        interview.ask(NUMBER)


def test_ctrl_c_between_two_questions_is_leaving_as_well() -> None:
    with pytest.raises(Abandoned, match="Nothing was changed"), leaving():
        raise KeyboardInterrupt


def test_explanations_are_for_who_is_guided() -> None:
    question = YesNo(prompt="Sure?", default=True, explanation="Think first.")
    plain, guided = Person([""]), Person([""], guided=True)
    for person in (plain, guided):
        interview = person.interview
        interview.begin("Phase 1/3: Begin", "This is the beginning.")
        interview.ask(question)
    assert plain.seen == "\nPhase 1/3: Begin\n\nSure? [Y/n]: "
    assert guided.seen == ("\nPhase 1/3: Begin\n\nThis is the beginning.\n\nThink first.\n\nSure? [Y/n]: ")


def test_no_line_is_wider_than_the_terminal_and_no_word_of_it_is_lost() -> None:
    person = Person([""], width=20, guided=True)
    long = Choice(
        prompt="Which of all these many fruit?",
        options={"a": ("Apple", "red, round, and grown on trees")},
        default="a",
        explanation="Fruit is what grows on trees, or on bushes.",
    )
    person.interview.ask(long)
    assert max(map(len, person.seen.splitlines())) <= 20
    assert " ".join(person.seen.split()) == (
        "Fruit is what grows on trees, or on bushes. Which of all these many fruit? "
        "1) Apple (red, round, and grown on trees) (default) Choice [1-1, default: 1]:"
    )


def test_nothing_that_is_shown_moves_the_cursor() -> None:
    person = Person(["\x1b[2J", "1"])
    person.interview.tell("a\x1b[31mb")
    person.interview.ask(NUMBER)
    assert "\x1b" not in person.seen


def test_markup_in_a_text_is_shown_as_it_is() -> None:
    person = Person([])
    person.interview.tell("[bold]torch[opt][/bold]")
    assert person.seen == "[bold]torch[opt][/bold]\n"
