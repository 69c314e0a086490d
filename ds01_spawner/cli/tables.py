"""Plain text for a terminal: aligned columns, and JSON that a script can rely on."""

from __future__ import annotations

import json
from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Return the rows as lines with aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def print_json(value: object) -> None:
    """Print a value for scripts; its keys are documented in the command's help."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
