#!/usr/bin/env python3
"""Measure what others notice while somebody's image is made, under stock DockerSpawner and DS01Spawner.

A person starts and stops a server whose image is there, again and again: with nothing else going on, and
beside somebody else's image. Under DS01Spawner that is her build, in whose first step `sleep` runs; half of
the rounds without it are before it, half after. Under DockerSpawner, which builds nothing, it is her pull,
from a registry that keeps it waiting. Neither takes any of the machine, so that only who waits for whom is
seen. What is printed is Markdown; `hubs.py` says what the two have in common.
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from hubs import OURS, STOCK, Hub, Lab, built, two_hubs
from machine import ToolError, main_guard
from report import Times, describe_machine, tell

ROUNDS = 20
IMAGE_SECONDS = 120
BEGIN_SECONDS = 90
GOAL = 1.2
# Words that no other process of this machine has in its command line.
SLEEP = ("sleep", f"{2 * IMAGE_SECONDS}.{os.getpid()}")
# Python runs such a line when it starts, here where a build makes the notebook server's environment.
SLOW_LINE = f"import os, sys; 'venv' in sys.orig_argv and os.spawnlp(os.P_WAIT, 'sleep', *{SLEEP})\n"
SLOW_BASE = """\
FROM {base}
COPY slow.pth /tmp/slow.pth
RUN folder=$(python3 -c 'import site; print(site.getsitepackages()[0])') && \\
    mkdir -p "$folder" && mv /tmp/slow.pth "$folder"
"""


class Registry:
    """A registry on this machine that lets whoever pulls wait, and then has no such image."""

    def __init__(self) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_greeting = self.path.rstrip("/") == "/v2"
                if not is_greeting:
                    registry.reached.set()
                    registry.let_go.wait()
                self.send_response(200 if is_greeting else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.image = f"127.0.0.1:{self._server.server_port}/slow:latest"

    def close(self) -> None:
        """Answer whoever waits, and listen no more."""
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()


def measure_build(ours: Hub, lab: Lab) -> tuple[Times, Times]:
    """Return the times of one person with nothing else going on, and while another one's image is built."""
    one, _, slow = lab.people
    alone, beside = Times(), Times()
    files = {"slow.pth": SLOW_LINE}
    with built(lab, "slow", SLOW_BASE.format(base=lab.base), files) as base, ours.awake():
        # What the first start of a person costs is not measured.
        Times().add(ours, [one])
        alone.repeat(ours, [one], ROUNDS // 2)
        ours.ask_for_server(slow, {"base_image": base})
        wait_until(is_building, "the build sleeps")
        beside.repeat(ours, [one], ROUNDS)
        if not is_building():
            raise ToolError("the build ended before all was measured")
        ours.give_up(slow)
        wait_until(lambda: not is_building(), "the build is gone")
        alone.repeat(ours, [one], ROUNDS // 2)
    return alone, beside


def is_building() -> bool:
    """Whether the build is where it sleeps."""
    words = "\0".join((*SLEEP, "")).encode()
    for directory in Path("/proc").iterdir():
        try:
            if directory.name.isdigit() and (directory / "cmdline").read_bytes() == words:
                return True
        except OSError:
            continue
    return False


def measure_pull(stock: Hub, lab: Lab, registry: Registry) -> tuple[Times, Times]:
    """Return the times of one person with nothing else going on, and beside another one's pull.

    The latter are of one round, in which all wait until the pull ends.
    """
    one, other, slow = lab.people
    alone = Times()
    with stock.awake(), ThreadPoolExecutor(2) as pool:
        Times().add(stock, [one])
        alone.repeat(stock, [one], ROUNDS)
        stock.start_servers([other])
        stock.ask_for_server(slow, {"image": "slow"})
        wait_until(registry.reached.is_set, "the pull waits")
        end = threading.Timer(IMAGE_SECONDS, registry.let_go.set)
        end.start()
        try:
            start, stop = pool.submit(stock.start_servers, [one]), pool.submit(stock.stop_servers, [other])
            return alone, Times(starts=[start.result()], stops=[stop.result()])
        finally:
            end.cancel()
            registry.let_go.set()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + BEGIN_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise ToolError(f"after {BEGIN_SECONDS} seconds still not: {what}")
        time.sleep(0.1)


def print_rows(label: str, beside_what: str, idle: Times, beside: Times) -> None:
    for what, alone, with_other in (
        ("start", idle.starts, beside.starts),
        ("stop", idle.stops, beside.stops),
    ):
        goal = f"at most {GOAL}" if (label, what) == (OURS, "start") else ""
        cells = (
            f"{tell(alone)} | {beside_what} | {tell(with_other)} | {median(with_other) / median(alone):.2f}"
        )
        print(f"| {label} | {what} | {cells} | {goal} |", flush=True)


def main() -> int:
    registry = Registry()
    # As shipped, a start that waits for a pull is given up after 60 seconds.
    more = {"allowed_images": {"slow": registry.image}, "start_timeout": 2 * IMAGE_SECONDS}
    try:
        with two_hubs(3, stock=more) as (stock, ours, lab):
            print(f"{describe_machine(lab.docker_host)}\n", flush=True)
            print("| | | alone | beside | | times | goal |")
            print("|---|---|---|---|---|---|---|")
            print_rows(OURS, "a build", *measure_build(ours, lab))
            print_rows(STOCK, "a pull", *measure_pull(stock, lab, registry))
    finally:
        registry.close()
    return 0


if __name__ == "__main__":
    main_guard(main)
