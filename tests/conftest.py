"""What tests on real parts share: the private Docker Engine, brought up where it does not run yet.

An Engine that ran before the tests is left running; one that they started is ended by them.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateEngine:
    """Where the Engine listens (`unix://…`), and the folder of CDI specs that it reads at each start."""

    docker_host: str
    cdi_directory: Path


def run_tool(name: str, *arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    """Run one of `tools/` in a process of its own; the tools bring no package."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


def heed_interrupt() -> None:
    """Let a program that a test starts heed Ctrl-C: one in the background, and what it starts, does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a run fail in which a test was skipped: it proves nothing, and nobody would notice."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def private_engine() -> Iterator[PrivateEngine]:
    """The private Docker Engine; without it the tests fail, with its own words."""
    ran_before = run_tool("engine", "status").returncode == 0
    brought_up = run_tool("engine", "up")
    if brought_up.returncode != 0:
        pytest.fail(f"no private Docker Engine: {brought_up.stderr.strip()}")
    exports = run_tool("engine", "env").stdout
    docker_host = re.search(r"DOCKER_HOST=(\S+)", exports)
    specs = re.search(r"CDI specs in (\S+)", brought_up.stdout)
    assert docker_host is not None, exports
    assert specs is not None, brought_up.stdout
    yield PrivateEngine(docker_host=docker_host[1], cdi_directory=Path(specs[1]))
    if not ran_before:
        run_tool("engine", "down")
