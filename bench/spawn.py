#!/usr/bin/env python3
"""Measure what starting and stopping servers takes under stock DockerSpawner and under DS01Spawner.

1, 8 and 32 servers start at once and stop at once, round by round under the one and the other, so that
whatever else the machine does meets them alike; what is printed is Markdown with the medians. A start is
timed at the Hub's REST API, from the request until the last server answers and its route stands, a stop
until the last container is gone. `hubs.py` says what the two have in common.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from statistics import median

from hubs import BenchError, Hub, two_hubs
from report import describe_machine

ROUNDS = {1: 12, 8: 4, 32: 3}
GOALS = {1: 1.2, 32: 0.7}


@dataclass(slots=True)
class Times:
    """What one Hub took for the rounds of one number of servers, in seconds."""

    starts: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)


def measure(hub: Hub, people: tuple[str, ...], times: Times) -> None:
    """Let all people start and stop a server once."""
    with hub.awake():
        times.starts.append(hub.start_servers(people))
        times.stops.append(hub.stop_servers(people))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=float, default=1, help="times as many rounds as usual (1)")
    arguments = parser.parse_args()
    with two_hubs(max(ROUNDS)) as (stock, ours, lab):
        print(describe_machine(lab.docker_host), flush=True)
        for hub in (stock, ours):
            measure(hub, lab.people, Times())
        print("\n| servers at once | | DockerSpawner | DS01Spawner | times stock | goal |")
        print("|---|---|---|---|---|---|")
        for servers, usual in ROUNDS.items():
            found = {stock.label: Times(), ours.label: Times()}
            for number in range(max(1, round(usual * arguments.rounds))):
                for hub in (stock, ours) if number % 2 else (ours, stock):
                    measure(hub, lab.people[:servers], found[hub.label])
            print_rows(servers, found[stock.label], found[ours.label])


def print_rows(servers: int, stock: Times, ours: Times) -> None:
    goal = f"at most {GOALS[servers]}" if servers in GOALS else ""
    for what, stocks, own in (("start", stock.starts, ours.starts), ("stop", stock.stops, ours.stops)):
        cells = f"{tell(stocks)} | {tell(own)} | {median(own) / median(stocks):.2f}"
        print(f"| {servers} | {what} | {cells} | {goal} |", flush=True)


def tell(seconds: list[float]) -> str:
    """Return the median, and between what the rounds lay."""
    return f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    try:
        main()
    except BenchError as exc:
        sys.exit(f"spawn.py: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
