"""Text for a terminal: aligned columns, tables with headings and colours, and JSON that a script can rely on.

What comes from students and containers is shown, never obeyed: no character of it moves the cursor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

Cell = str | tuple[str, str]
"""A text, or a text and its style in rich's words (`bold red`)."""
Block = tuple[str, Sequence[Sequence[Cell]]]
"""A title, "" for none, and rows."""

# Where nobody looks on, a line is as long as it is: what reads it may search for words.
_UNLIMITED_COLUMNS = 1000
_NARROWEST = 20
_GAP = 2
_MEGABYTE, _GIGABYTE = 10**6, 10**9


def align(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Return the rows as lines with aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def print_json(value: object) -> None:
    """Print a value for scripts; its keys are documented in the command's help."""
    print(json.dumps(value, indent=2, ensure_ascii=True))


def print_table(headings: Sequence[str], blocks: Sequence[Block]) -> None:
    """Print rows under headings, those of all blocks in the same columns, a block's title above its rows.

    A column that is empty in every row is left out. What stands under the last heading is broken into
    lines where the terminal is too narrow; nothing is cut off.
    """
    # Imported here, since `ds01` is to start at once.
    from rich.cells import cell_len
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    rows = [headings, *(row for _, block in blocks for row in block)]
    used = [place for place in range(len(headings)) if any(_text(row[place]) for row in rows[1:])]
    widths = {place: max(cell_len(_text(row[place])) for row in rows) for place in used}
    last = len(headings) - 1
    indent = 1 if any(title for title, _ in blocks) else 0
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED_COLUMNS)
    fixed = indent + sum(width + _GAP for place, width in widths.items() if place != last)
    console.width = max(console.width, fixed + min(widths.get(last, 0), _NARROWEST))
    with console.capture() as printed:
        for title, block in [("", [[(heading, "dim") for heading in headings]]), *blocks]:
            if title:
                console.print(Text(show(title), style="bold"))
            table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
            for place in used:
                table.add_column(width=None if place == last else widths[place], no_wrap=place != last)
            for row in block:
                table.add_row(*(Text(_text(row[place]), style=_style(row[place])) for place in used))
            console.print(Padding(table, (0, 0, 0, indent)))
    print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def show_size(count: int) -> str:
    """Return a size as `docker images` shows it."""
    return f"{count / _GIGABYTE:.1f} GB" if count >= _GIGABYTE else f"{count / _MEGABYTE:.0f} MB"


def show(text: str) -> str:
    """Return a text with a mark in place of each character that a terminal would act on."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _text(cell: Cell) -> str:
    return show(cell if isinstance(cell, str) else cell[0])


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]
