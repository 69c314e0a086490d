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
from statistics import median

from hubs import OURS, STOCK, two_hubs
from machine import main_guard
from report import Times, alternate, describe_machine, tell

ROUNDS = {1: 15, 8: 5, 32: 4}
GOALS = {(1, "start"): 1.2, (32, "start"): 0.7, (32, "stop"): 0.7}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=float, default=1, help="times as many rounds as usual (1)")
    parser.add_argument(
        "--internal-ip",
        action="store_true",
        help="let DockerSpawner publish no ports either, which is not its default (use_internal_ip)",
    )
    arguments = parser.parse_args()
    more = {"use_internal_ip": True} if arguments.internal_ip else {}
    with two_hubs(max(ROUNDS), stock=more) as (stock, ours, lab):
        print(f"{describe_machine(lab.docker_host)}\n", flush=True)
        # What the first start of each person costs is not measured.
        alternate((stock, ours), lab.people, 1)
        print(f"| servers at once | | {STOCK} | {OURS} | times stock | goal |")
        print("|---|---|---|---|---|---|")
        for servers, usual in ROUNDS.items():
            rounds = max(1, round(usual * arguments.rounds))
            print_rows(servers, *alternate((stock, ours), lab.people[:servers], rounds))
    return 0


def print_rows(servers: int, stock: Times, ours: Times) -> None:
    for what, stocks, own in (("start", stock.starts, ours.starts), ("stop", stock.stops, ours.stops)):
        goal = f"at most {GOALS[servers, what]}" if (servers, what) in GOALS else ""
        cells = f"{tell(stocks)} | {tell(own)} | {median(own) / median(stocks):.2f}"
        print(f"| {servers} | {what} | {cells} | {goal} |", flush=True)


if __name__ == "__main__":
    main_guard(main)
