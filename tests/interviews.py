"""Wizards at a terminal: started, answered, and read to their end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pexpect

from .conftest import heed_interrupt

PLACE_OF_ANSWER = r"(?:\n|\] )> $|\]: $"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*3[0-7]m")
STYLE = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")


class Screen(list[str]):
    """Keeps what was shown."""

    def write(self, text: str) -> None:
        self.append(text)

    def flush(self) -> None:
        pass


class Terminals:
    """Starts programs, each at a terminal of its own."""

    def __init__(self, *, seconds: int) -> None:
        self._seconds = seconds
        self._started: list[pexpect.spawn[str]] = []

    def open(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        columns: int = 100,
        cwd: str | None = None,
    ) -> pexpect.spawn[str]:
        """Start one; all that it shows is kept."""
        program, *arguments = command
        started = pexpect.spawn(
            program,
            arguments,
            env=dict(environment),
            cwd=cwd,
            dimensions=(24, columns),
            encoding="utf-8",
            timeout=self._seconds,
            preexec_fn=heed_interrupt,
        )
        started.delaybeforesend = None
        started.logfile_read = Screen()
        self._started.append(started)
        return started

    def close(self) -> None:
        """End all that still run."""
        for one in self._started:
            one.close(force=True)


@contextmanager
def terminals(*, seconds: int) -> Iterator[Terminals]:
    """Give terminals for the body; what runs there then is ended."""
    opened = Terminals(seconds=seconds)
    try:
        yield opened
    finally:
        opened.close()


def answer(wizard: pexpect.spawn[str], *answers: str) -> None:
    """Answer one question after another."""
    for line in answers:
        wizard.expect(PLACE_OF_ANSWER)
        wizard.sendline(line)


def finish(wizard: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Return the exit status and all that was shown."""
    wizard.expect(pexpect.EOF)
    wizard.close()
    return wizard.exitstatus, "".join(wizard.logfile_read)
