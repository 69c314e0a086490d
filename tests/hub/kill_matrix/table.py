"""The table of all cells, written into a document between two marks; the rest of it stays as it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from .cells import Cell
from .steps import START, STEPS, STOP, Step
from .victims import MANAGED

BEGIN, END = "<!-- kill matrix: made by `make kill-matrix` -->", "<!-- end of the kill matrix -->"
FAILED = "**failed**"
NO_CONTAINER = "–"
_COLUMNS = {"hub": "the Hub", "service": "the service", "container": "her container", "dockerd": "dockerd"}
_PHASES = {START: "of a start", STOP: "of a stop"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """After how many seconds all was well, and what became of her server: `ready` or `ended`."""

    seconds: float
    outcome: str


Results = dict[str, Result | None]
"""By the name of the cell; None for one that was begun, and failed."""


def write(path: Path, results: Results, cells: Sequence[Cell], *, minutes: float, today: date) -> None:
    """Write the table of a whole run into a document.

    Raises:
        ValueError: a cell was not run, or the document has no place for the table.
    """
    missing = [cell.name for cell in cells if cell.name not in results]
    if missing:
        raise ValueError(f"no table is written, since these were not run: {', '.join(missing)}")
    text, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n{render(results, minutes=minutes, today=today)}\n{END}",
        path.read_text(),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{path} has not exactly one pair of {BEGIN} and {END}")
    path.write_text(text)


def render(results: Mapping[str, Result | None], *, minutes: float, today: date) -> str:
    """Return the table, and a sentence that sums it up."""
    passed = [result for result in results.values() if result is not None]
    longest = max((result.seconds for result in passed), default=0.0)
    head = (
        f"{len(passed)} of {len(results)} kills passed; the longest took {longest:.1f} s. Run on "
        f"{today:%Y-%m-%d} in {minutes:.0f} minutes on {os.cpu_count()} cores."
    )
    rows = [f"| {' | '.join(['step', *_COLUMNS.values()])} |"]
    rows.append(f"|{'---|' * (len(_COLUMNS) + 1)}")
    for phase in (START, STOP):
        rows.append(f"| **{_PHASES[phase]}** |{' |' * len(_COLUMNS)}")
        rows += [_render_row(step, results) for step in STEPS if step.phase == phase]
    managed = [
        f"*{step.name}*: {_describe(results[name])}"
        for step in STEPS
        if (name := Cell(victim=MANAGED, step=step).name) in results
    ]
    return "\n".join([head, "", *rows, "", f"A service that the Hub manages: {'; '.join(managed)}."])


def _render_row(step: Step, results: Mapping[str, Result | None]) -> str:
    words = [step.name]
    for victim in _COLUMNS:
        name = Cell(victim=victim, step=step).name
        words.append(_describe(results[name]) if name in results else NO_CONTAINER)
    return f"| {' | '.join(words)} |"


def _describe(result: Result | None) -> str:
    return FAILED if result is None else f"{result.seconds:.1f} s, {result.outcome}"
