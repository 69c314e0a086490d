#!/usr/bin/env python3
"""Measure what `ds01 status` adds to a login in a big lab, beside Python alone, and print it as Markdown.

All slots of 64 GPUs are leased, servers without a GPU run besides, and others wait; the service answers at
a real socket. Each command is a process of its own, run in turn as somebody with a server. To be run as root.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles

from ledger import FULL, open_ledger
from traitlets.config import Config

from ds01_spawner.service.web import serving
from ds01_spawner.site import DS01

USER, UID = "user0", 54321
GOAL_MS = 100
# The interpreter may lie where only root can look.
READS_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def run(command: Sequence[str], environment: dict[str, str]) -> tuple[float, str]:
    """Return how long a command took as the person, in milliseconds, and what it printed."""
    who = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *READS_ALL]
    begin = time.perf_counter()
    done = subprocess.run([*who, *command], env=environment, capture_output=True, text=True, check=True)
    return (time.perf_counter() - begin) * 1000, done.stdout


def measure(socket: Path, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each command."""
    ds01 = [sys.executable, "-m", "ds01_spawner.cli", "status"]
    commands = {
        "Python alone": [sys.executable, "-c", "pass"],
        "`ds01 status`": ds01,
        "`ds01 status`, the service away": [*ds01, "--socket", f"{socket}.none"],
    }
    environment = {"DS01_SOCKET": str(socket), "PATH": os.environ["PATH"]}
    _, shown = run(ds01, environment)
    assert shown, "the person has no server"
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            took[name].append(run(command, environment)[0])
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="how often each is measured (40)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        place = Path(folder)
        (place / "passwd").write_text(f"{USER}:x:{UID}:{UID}::/nowhere:/bin/bash\n")
        with open_ledger(place / "ledger.sqlite", FULL):
            settings = {
                "ledger_url": f"sqlite:///{place / 'ledger.sqlite'}",
                "accounts": str(place / "passwd"),
                "socket_path": str(place / "ds01.sock"),
            }
            with serving(DS01(config=Config(DS01=settings)), None, threading.Event()):
                while not (place / "ds01.sock").exists():
                    time.sleep(0.01)
                took = measure(place / "ds01.sock", rounds)
    versions = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    print(f"{versions}, {datetime.now(timezone.utc):%Y-%m-%d}; {FULL.words}\n")
    print("| | median | 95 of 100 | of Python alone | goal |")
    print("|---|---|---|---|---|")
    alone = median(took["Python alone"])
    for name, each in took.items():
        goal = f"{GOAL_MS} ms" if name == "`ds01 status`" else ""
        ratio = f"{median(each) / alone:.1f}"
        print(f"| {name} | {median(each):.0f} ms | {quantiles(each, n=20)[-1]:.0f} ms | {ratio} | {goal} |")


if __name__ == "__main__":
    main()
