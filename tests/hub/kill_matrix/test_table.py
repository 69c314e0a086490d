"""The table that the kill matrix writes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from .cells import CELLS
from .table import BEGIN, END, Result, Results, write

TODAY = date(2026, 11, 25)


def run_of_all() -> Results:
    return {cell.name: Result(seconds=1.25, outcome="ended") for cell in CELLS}


def test_the_table_is_written_between_its_marks_and_the_rest_stays(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{BEGIN}\nan older one\n{END}\nafter\n")
    write(document, {**run_of_all(), "hub-serving": None}, CELLS, minutes=12, today=TODAY)
    lines = document.read_text().splitlines()
    assert (lines[:2], lines[-2:]) == (["before", BEGIN], [END, "after"])
    assert "an older one" not in lines
    assert f"{len(CELLS) - 1} of {len(CELLS)} kills passed" in lines[2]
    assert "| serving | **failed** | 1.2 s, ended | 1.2 s, ended | 1.2 s, ended |" in lines
    assert "| leasing | 1.2 s, ended | 1.2 s, ended | – | 1.2 s, ended |" in lines


def test_no_table_is_written_of_a_part_of_the_cells(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(ValueError, match="hub-serving"):
        write(document, {"hub-leasing": None}, CELLS, minutes=1, today=TODAY)
    assert document.read_text() == f"{BEGIN}\n{END}\n"
