"""The table of all cells, and the block of a document that it is written into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Result:
    """After how many seconds all was well, and what became of her server."""

    seconds: float
    outcome: str


Results = dict[str, Result]


def write(path: Path, results: Results) -> None:
    path.write_text(repr(results))
