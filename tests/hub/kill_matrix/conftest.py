"""The bench of each victim, and the table of what came out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ..docker_link import DockerLink
from ..hub import Hub
from . import table
from .bench import Bench, bring_up, call_engine
from .cells import CELLS, Cell

TABLE_FILE = "DS01_KILL_MATRIX"


@pytest.fixture(scope="session")
def bench_of(
    proxy: Path, nvml: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Bench]]:
    """A function that gives the bench of a victim: one for all its cells, ended when another one comes."""
    engine = bring_up()
    current: dict[str, Bench] = {}

    def give(victim: str) -> Bench:
        if victim not in current:
            close()
            scratch = tmp_path_factory.mktemp("link")
            own_service = victim == "service"
            current[victim] = Bench(engine, proxy=proxy, nvml=nvml, scratch=scratch, own_service=own_service)
        return current[victim]

    def close() -> None:
        while current:
            current.popitem()[1].close()

    try:
        yield give
    finally:
        close()
        call_engine("down")


@pytest.fixture
def bench(cell: Cell, bench_of: Callable[[str], Bench]) -> Bench:
    """Everything up, and as the cell wants it."""
    bench = bench_of(cell.victim)
    bench.prepare(warm=not cell.step.is_first)
    return bench


@pytest.fixture
def hub(bench: Bench) -> Hub:
    """The Hub of the bench: its log stands beside a failure."""
    return bench.hub


@pytest.fixture
def link(bench: Bench) -> DockerLink:
    """The way to the Engine of the bench."""
    return bench.link


@pytest.fixture(scope="session")
def results() -> Iterator[table.Results]:
    """What came out of each cell; written to the file that the environment names."""
    results: table.Results = {}
    began = time.monotonic()
    yield results
    if os.environ.get(TABLE_FILE):
        minutes = (time.monotonic() - began) / 60
        path, today = Path(os.environ[TABLE_FILE]), datetime.now(timezone.utc).date()
        table.write(path, results, CELLS, minutes=minutes, today=today)
