"""What the tools need to know of the machine they run on.

Standard library only: the tools run before there is a virtual environment. Guarantees: nothing here
changes the machine, and no function reaches the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What Debian's packages install. /usr/local stays out on purpose: a Docker client put there by hand
# often has no buildx, and then it cannot build.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class ToolError(Exception):
    """What went wrong and what to do next, in one line for the person at the terminal."""


@dataclass(frozen=True)
class AptSource:
    """One suite of the machine's own apt sources: `uri` as apt knows it, `release` the suite."""

    uri: str
    release: str
    components: tuple[str, ...]


def is_debian_12() -> bool:
    """Say whether /etc/os-release names Debian 12, the one system these tools set up."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return False
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    return facts.get("ID", "").strip('"') == "debian" and facts.get("VERSION_ID", "").strip('"') == "12"


def require_debian_root(purpose: str, instead: str) -> None:
    """Raise ToolError unless this is root on Debian 12; `instead` says what to install by hand."""
    if not is_debian_12():
        raise ToolError(f"{purpose} by itself only on Debian 12. Here, {instead}.")
    if os.geteuid() != 0:
        raise ToolError(f"{purpose} only as root. Run it as root, or {instead}.")


def find_program(name: str, *, fallback_path: str = "") -> str:
    """Return the absolute path of a system program; raise ToolError naming the cure if it is missing."""
    found = shutil.which(name, path=f"{SYSTEM_PATH}:{fallback_path}")
    if found is None:
        raise ToolError(f"{name} is missing. Run `python3 tools/setup.py packages demo` as root first.")
    return found


def run(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return what it printed; ToolError with the tail of its output if it failed."""
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            command,
            env=env,
            cwd=cwd,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired as exc:
        raise ToolError(f"{command[0]} did not end within {timeout:.0f} seconds. Try again.") from exc
    except OSError as exc:
        raise ToolError(f"{command[0]} could not be run: {exc.strerror}.") from exc
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise ToolError(f"`{' '.join(command)}` failed ({done.returncode}):\n{tail}")
    return done.stdout


def read_apt_sources() -> list[AptSource]:
    """Read which mirror, suites and components this machine gets Debian 12 from.

    The mirror is the machine's own: sites have theirs, and no file of this project names one.
    """
    listing = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"]
    )
    suites: dict[tuple[str, str], list[str]] = {}
    for line in listing.splitlines():
        uri, release, component = line.split("|")
        if release == SUITE or release.startswith(f"{SUITE}-"):
            components = suites.setdefault((uri, release), [])
            if component not in components:
                components.append(component)
    sources = [AptSource(uri, release, tuple(names)) for (uri, release), names in suites.items()]
    if not any(source.release == SUITE for source in sources):
        raise ToolError(
            f"This machine's apt sources do not name {SUITE}. Add Debian 12's main archive to them."
        )
    return sorted(sources, key=lambda source: len(source.release))


def main_guard(main: Callable[[], int]) -> None:
    """Run a tool's `main`, print a ToolError as one message, and end with the right exit status."""
    try:
        sys.exit(main())
    except ToolError as exc:
        sys.exit(f"{Path(sys.argv[0]).name}: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
