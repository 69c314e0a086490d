"""Logs of builds: private, bounded, gone after a time, and never in the way of a build."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ds01_spawner.adapters import build_logs
from ds01_spawner.adapters.build_logs import BuildLogs

NAME = "20260301-120000-0123456789abcdef-0123456789ab.log"


def test_a_log_has_the_lines_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path / "deep" / "builds")
    with logs.write(NAME) as keep:
        keep("#1 first")
        keep("lone surrogate \ud800")
    assert logs.read(NAME) == "#1 first\nlone surrogate ?\n"
    file = tmp_path / "deep" / "builds" / NAME
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_line_can_be_read_while_the_build_still_runs(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    with logs.write(NAME) as keep:
        keep("#1 first")
        assert logs.read(NAME) == "#1 first\n"


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_logs, "MOST_BYTES", 20)
    logs = BuildLogs(tmp_path)
    with logs.write(NAME) as keep:
        for _ in range(100):
            keep("123456789")
    assert logs.read(NAME) == "123456789\n123456789\n… the rest is left out\n"


def test_a_folder_that_cannot_be_made_does_not_keep_a_build_from_going_on(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    logs = BuildLogs(tmp_path / "file" / "builds")
    with logs.write(NAME) as keep:
        keep("#1 first")
    assert logs.read(NAME) == ""


@pytest.mark.parametrize("name", ["../secret.log", "a/b.log", ".log", "x.txt", "x.log\n", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a log"):
        BuildLogs(tmp_path).read(name)


def test_old_logs_go_and_new_ones_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    for file in (old, new):
        file.touch()
    now = datetime.now(timezone.utc)
    os.utime(old, (0, 0))
    BuildLogs(tmp_path).prune(now - timedelta(days=1))
    assert (old.exists(), new.exists()) == (False, True)
