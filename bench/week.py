#!/usr/bin/env python3
"""What the rules about time are worth: a week of a simulated lab, printed as Markdown and drawn.

The same people want the same things with and without the rules. The lab runs for a week before the one
that counts, since none begins with an empty machine. Run it with `python -m bench.week`.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from statistics import median

from bench.chart import Panel, draw
from bench.outcome import Outcome, Start
from bench.simulated_lab import VARIANTS, Lab, Variant
from bench.students import DAY, GROUPS, HOUR, SLICES, write_diary
from ds01_spawner.limits import limits_for, load_limits
from ds01_spawner.model import Cause, Limits, Step

LIMITS = Path(__file__).parents[1] / "hub_config" / "resource-limits.yaml"
GPUS = 4
WEEK = 7
SEED = 2026
QUARTER = HOUR // 4


def read_limits() -> dict[str, Limits]:
    """Return the limits of each group, as they are shipped."""
    file = load_limits(LIMITS.read_text())
    return {group: limits_for(file, "somebody", [group]) for group in GROUPS}


def run(seed: int) -> dict[Variant, Outcome]:
    """Return what comes of the second week in each variant."""
    diary = write_diary(2 * WEEK, seed)
    allowed = read_limits()
    return {
        variant: Lab(GPUS, allowed, variant).run(diary, 2 * WEEK).since(WEEK * DAY) for variant in VARIANTS
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def say_waits(starts: Sequence[Start]) -> str:
    waits = [start.waited for start in starts]
    numbers = (median(waits), percentile(waits, 95), max(waits))
    gave_up = sum(not start.is_served for start in starts)
    return f"{' / '.join(f'{number:.0f}' for number in numbers)} ({len(waits)}, {gave_up})"


def print_outcomes(outcomes: dict[Variant, Outcome]) -> None:
    total = GPUS * WEEK * 24
    rows = [
        ("GPU-hours in use", [f"{one.used_gpu_hours():.0f} of {total}" for one in outcomes.values()]),
        ("GPU-hours leased or held, and idle", [f"{one.idle_gpu_hours():.0f}" for one in outcomes.values()]),
        *(
            (
                f"minutes that a {group} waits: median / 95 % / longest (starts, given up)",
                [say_waits([s for s in one.starts if s.group == group]) for one in outcomes.values()],
            )
            for group in GROUPS
        ),
        ("people who asked and never got one", [f"{len(one.never_served())}" for one in outcomes.values()]),
        ("went on with a server of theirs", [f"{len(one.found_running)}" for one in outcomes.values()]),
        (
            "trainings, ended before their time",
            [f"{len(one.trained)}, {len(one.cut)}" for one in outcomes.values()],
        ),
        ("extensions", [f"{len(one.extended)}" for one in outcomes.values()]),
        ("stops: idle, run time", [say_stops(one) for one in outcomes.values()]),
    ]
    print(f"| | {' | '.join(variant.name for variant in outcomes)} |")
    print(f"|---|{'---|' * len(outcomes)}")
    for name, cells in rows:
        print(f"| {name} | {' | '.join(cells)} |")


def say_stops(outcome: Outcome) -> str:
    stops = [decision.cause for _, _, decision in outcome.decisions if decision.step is Step.STOP]
    return f"{stops.count(Cause.IDLE)}, {stops.count(Cause.RUN_TIME)}"


def print_ranges(seeds: Sequence[int]) -> None:
    """Print how much the figures differ from one imagined fortnight to the other."""
    found = [run(seed) for seed in seeds]
    print(f"| over {len(seeds)} seeds, least–most | {' | '.join(variant.name for variant in VARIANTS)} |")
    print(f"|---|{'---|' * len(VARIANTS)}")
    figures: dict[str, Callable[[Outcome], float]] = {
        "GPU-hours in use": lambda one: one.used_gpu_hours(),
        "GPU-hours leased or held, and idle": lambda one: one.idle_gpu_hours(),
        "starts given up": lambda one: sum(not start.is_served for start in one.starts),
        "95 % of the waits, minutes": lambda one: percentile([start.waited for start in one.starts], 95),
        "trainings ended before their time": lambda one: len(one.cut),
        "people who asked and never got one": lambda one: len(one.never_served()),
    }
    for name, measure in figures.items():
        columns = ([measure(outcomes[variant]) for outcomes in found] for variant in VARIANTS)
        print(f"| {name} | {' | '.join(f'{min(values):.0f}–{max(values):.0f}' for values in columns)} |")


def draw_outcomes(outcomes: dict[Variant, Outcome]) -> str:
    panels = [
        Panel(
            title=variant.name,
            used=_average(one.used),
            leased=_average(one.leased),
            waiting=_average(one.waiting),
        )
        for variant, one in outcomes.items()
    ]
    return draw(panels, GPUS * SLICES)


def _average(values: Sequence[int]) -> list[float]:
    return [sum(values[at : at + QUARTER]) / QUARTER for at in range(0, len(values), QUARTER)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seeds", type=int, default=0, help="print ranges over so many seeds from it on too")
    parser.add_argument("--plot", type=Path, help="write the drawing to this SVG file")
    options = parser.parse_args()
    outcomes = run(options.seed)
    print_outcomes(outcomes)
    if options.seeds:
        print()
        print_ranges(range(options.seed, options.seed + options.seeds))
    if options.plot:
        options.plot.write_text(draw_outcomes(outcomes))


if __name__ == "__main__":
    main()
