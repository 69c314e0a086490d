"""Questions to a person at a terminal: each is a value, and a wizard is a script that asks one after another.

An answer is read at once. A wrong one is told in the sentence of its error, and the question asked again.
Who leaves, by Ctrl-C or by the end of the input, gets `Abandoned` raised at whichever question: a script
that changes nothing before its last answer leaves nothing half made. All goes to stderr, since stdout
belongs to the command's answer; lines are as wide as the terminal is, and coloured where it has colours.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ..errors import DS01Error, RequestRefused, SiteBroken
from .leaving import Abandoned
from .tables import show

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# A program that answers wrongly would be asked for ever.
_MOST_TRIES = 20
_YES_OR_NO = {"y": True, "yes": True, "n": False, "no": False}


class Question(Protocol[T_co]):
    """What can be asked: `explanation` is shown in guided mode only, "" for none."""

    @property
    def explanation(self) -> str:
        """What a beginner may want to know before she answers."""

    @property
    def lines(self) -> Sequence[str]:
        """The question and what belongs to it, above the place of the answer."""

    @property
    def mark(self) -> str:
        """What stands before the place of the answer."""

    def read(self, answer: str) -> T_co:
        """Return the value of an answer without blanks around it, "" for Enter alone.

        Raises:
            DS01Error: the answer will not do; its sentence says why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Generic[T]):
    """A text that `parse` makes a value of, or refuses; Enter alone means `default`."""

    prompt: str
    parse: Callable[[str], T]
    default: str = ""
    hint: str = ""
    explanation: str = ""

    @property
    def lines(self) -> Sequence[str]:
        return (self.prompt, f"  {self.hint}") if self.hint else (self.prompt,)

    @property
    def mark(self) -> str:
        return f"[{self.default}] >" if self.default else ">"

    def read(self, answer: str) -> T:
        return self.parse(answer or self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list in one line, such as `example`, that `parse` takes apart, or refuses; Enter alone means none."""

    prompt: str
    parse: Callable[[str], tuple[str, ...]]
    example: str
    explanation: str = ""

    @property
    def lines(self) -> Sequence[str]:
        return (self.prompt, f"  With blanks between, such as {self.example}; Enter for none.")

    @property
    def mark(self) -> str:
        return ">"

    def read(self, answer: str) -> tuple[str, ...]:
        return self.parse(answer) if answer else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of `options`, a label and perhaps a note by value; the answer is its number, value or label."""

    prompt: str
    options: Mapping[str, tuple[str, str]]
    default: str
    explanation: str = ""

    @property
    def lines(self) -> Sequence[str]:
        options = (
            f"  {number}) {label}{note and f' ({note})'}{' (default)' if value == self.default else ''}"
            for number, (value, (label, note)) in enumerate(self.options.items(), start=1)
        )
        return (self.prompt, *options)

    @property
    def mark(self) -> str:
        default = list(self.options).index(self.default) + 1
        return f"Choice [1-{len(self.options)}, default: {default}]:"

    def read(self, answer: str) -> str:
        wanted = answer.casefold()
        for number, (value, (label, _)) in enumerate(self.options.items(), start=1):
            if wanted in (str(number), value.casefold(), label.casefold()):
                return value
        if not answer:
            return self.default
        raise RequestRefused(f"{answer[:40]!r} is none of them. Answer with its number or its name.")


@dataclass(frozen=True, slots=True, kw_only=True)
class YesNo:
    """Yes or no; Enter alone means `default`."""

    prompt: str
    default: bool
    explanation: str = ""

    @property
    def lines(self) -> Sequence[str]:
        return ()

    @property
    def mark(self) -> str:
        return f"{self.prompt} {'[Y/n]' if self.default else '[y/N]'}:"

    def read(self, answer: str) -> bool:
        found = _YES_OR_NO.get(answer.casefold()) if answer else self.default
        if found is None:
            raise RequestRefused("Answer with y for yes, or n for no.")
        return found


class Interview:
    """Asks one person. `read_line` returns what she typed with the line's end, "" at the end of the input."""

    def __init__(self, *, read_line: Callable[[], str], console: Console, guided: bool = False) -> None:
        self._read_line = read_line
        self._console = console
        self._guided = guided

    def begin(self, title: str, explanation: str = "") -> None:
        """Show a headline, of the wizard or of one of its phases, and in guided mode what it is about."""
        self._print("")
        self._print(title, style="bold cyan")
        self.explain(explanation)

    def explain(self, text: str) -> None:
        """Say something for beginners, paragraph by paragraph; in guided mode only."""
        if self._guided and text:
            self._print("")
            self._print(text)

    def tell(self, text: str) -> None:
        """Say something, in a paragraph of its own."""
        self._print(text)

    def ask(self, question: Question[T]) -> T:
        """Return the answer to a question, asked until there is one.

        Raises:
            Abandoned: she left.
            SiteBroken: no answer could be read, whatever she types.
            DS01Error: the last of far too many wrong answers.
        """
        self.explain(question.explanation)
        self._print("")
        for number, line in enumerate(question.lines):
            self._print(line, style="" if number else "bold")
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                return question.read(self._read(question.mark))
            except SiteBroken:
                raise
            except DS01Error as exc:
                if not tries_left:
                    raise
                self._print(str(exc), style="red")
        raise AssertionError("the last try returns or raises")

    def _read(self, mark: str) -> str:
        try:
            self._print(mark, end=" ")
            line = self._read_line()
        except KeyboardInterrupt:
            line = ""
        if not line:
            self._print("")
            raise Abandoned
        return line.strip()

    def _print(self, text: str, *, style: str = "", end: str = "\n") -> None:
        from rich.text import Text as RichText

        lines = [line for paragraph in text.split("\n") for line in _wrap(paragraph, self._console.width)]
        self._console.print(RichText("\n".join(lines), style=style), end=end, soft_wrap=True)


def _wrap(paragraph: str, width: int) -> list[str]:
    """Return the lines of a paragraph, those after the first two further in than it is, if it is."""
    plain = show(paragraph)
    indent = plain[: len(plain) - len(plain.lstrip(" "))]
    hanging = f"{indent}  " if indent else ""
    return textwrap.wrap(plain, width, subsequent_indent=hanging, break_on_hyphens=False) or [""]


def open_terminal(*, guided: bool = False) -> Interview:
    """Return an interview on this process's terminal, or on whatever stands in for it."""
    # Imported here, since `ds01` is to start at once.
    from rich.console import Console

    return Interview(read_line=_read_line, console=Console(stderr=True, highlight=False), guided=guided)


def _read_line() -> str:
    # As bytes: what is no UTF-8 is a wrong answer, no traceback.
    return sys.stdin.buffer.readline().decode(errors="replace")
