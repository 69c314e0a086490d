"""What the tests of the `ds01` command share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lab import Lab, open_lab
from tests.unit.shell import Shell, open_shell


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return open_shell(capsys, monkeypatch)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    opened = open_lab(tmp_path)
    yield opened
    opened.ledger.close()


@pytest.fixture
def ask(shell: Shell, lab: Lab) -> Callable[..., str]:
    """A function that runs a verb of `ds01 gpu` which has nothing to say but its answer."""
    return lambda *arguments: shell.ask("gpu", *arguments, "--config", lab.config)


@pytest.fixture
def read(ask: Callable[..., str]) -> Callable[..., Any]:
    """The same with --json, its answer read."""
    return lambda *arguments: json.loads(ask(*arguments, "--json"))
