"""The `ds01` command in the tests' own process, and the settings of a Hub for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ds01_spawner.cli import main

ROOT = Path(__file__).parents[2]
LIMITS = str(ROOT / "hub_config" / "resource-limits.yaml")
BOX = str(ROOT / "hub_config" / "simulated-gpus.box")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Runs `ds01` in this process."""

    captured: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[object, str, str]:
        """Return exit status, stdout and stderr."""
        try:
            status: object = main(arguments)
        except SystemExit as left:
            status = left.code
        out, err = self.captured.readouterr()
        return status, out, err

    def ask(self, *arguments: str) -> str:
        """Return the stdout of a command that has nothing to say besides."""
        status, out, err = self.run(*arguments)
        assert (status, err) == (0, "")
        return out


def open_shell(captured: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Return a shell in whose environment nothing says where to look."""
    for name in ("MLC_ARCH", "DS01_CONFIG", "SUDO_USER", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Shell(captured=captured)


def write_config(folder: Path, *lines: str) -> str:
    path = folder / "jupyterhub_config.py"
    path.write_text("\n".join(["c = get_config()", *lines, ""]))
    return str(path)
