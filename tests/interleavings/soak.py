"""The interleavings for as long as one likes, from a seed that is printed; the result goes into a document.

    python -m tests.interleavings.soak --steps 100000 [--seed 1] [--write docs/reliability.md]

It runs in batches, each from a seed of its own, which is that of the first plus its number. The first
failure ends it: Hypothesis makes it as short as it can, and it is printed with the seed of its batch.
"""

from __future__ import annotations

import argparse
import logging
import platform
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .line import Line
from .machine import Interleavings

BEGIN = "<!-- soak: made by `make soak` -->"
END = "<!-- end of the soak -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was run: the seed of the first batch, how often each step was taken, what interrupted them."""

    seed: int
    batches: int
    examples: int
    length: int
    seconds: float
    ran: Counter[str]
    taken: Counter[str]


def run(*, steps: int, seed: int, examples: int = 100, length: int = 100) -> Result:
    """Run batches of `examples` of `length` steps each until so many steps were taken.

    Raises:
        AssertionError: something was wrong; Hypothesis has added the steps that lead to it.
    """
    Interleavings.ran.clear()
    Line.taken.clear()
    began, batches = time.monotonic(), 0
    while sum(Interleavings.ran.values()) < steps:
        _run_batch(seed + batches, examples, length)
        batches += 1
        done, seconds = sum(Interleavings.ran.values()), time.monotonic() - began
        print(f"seed {seed + batches - 1}: fine; {done} steps in {seconds:.0f} seconds", flush=True)
    return Result(
        seed=seed,
        batches=batches,
        examples=examples,
        length=length,
        seconds=time.monotonic() - began,
        ran=Counter(Interleavings.ran),
        taken=Counter(Line.taken),
    )


def _run_batch(seed: int, examples: int, length: int) -> None:
    machine = hypothesis.seed(seed)(type("Interleavings", (Interleavings,), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            database=None,
            deadline=None,
            max_examples=examples,
            stateful_step_count=length,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def write(result: Result, document: Path) -> None:
    """Put the result between its two marks in a document."""
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{describe(result)}\n{END}{after}")


def describe(result: Result) -> str:
    """Return the result as a paragraph and two tables."""
    steps = sum(result.ran.values())
    last = result.seed + result.batches - 1
    lines = [
        f"{date.today().isoformat()}, {platform.python_implementation()} {platform.python_version()}, "
        f"{result.seconds / 60:.0f} minutes: **{steps:,} steps, nothing was wrong.** Seeds {result.seed} to "
        f"{last}, each {result.examples} runs of up to {result.length} steps; "
        f"{sum(result.taken.values()):,} interruptions came to pass.",
        "",
        *_tabulate("step", result.ran),
        "",
        *_tabulate("in the middle of a step", result.taken),
    ]
    return "\n".join(lines) + "\n"


def _tabulate(what: str, counts: Counter[str]) -> list[str]:
    rows = [f"| {name} | {count:,} |" for name, count in sorted(counts.items())]
    return [f"| {what} | times |", "|---|---:|", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the interleavings of leases for many steps.")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--write", type=Path, help="the document that gets the result")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"{arguments.steps} steps from seed {arguments.seed}", flush=True)
    try:
        result = run(steps=arguments.steps, seed=arguments.seed)
    except AssertionError as failure:
        sys.exit("\n".join([str(failure), *getattr(failure, "__notes__", ())]))
    print(describe(result))
    if arguments.write:
        write(result, arguments.write)


if __name__ == "__main__":
    main()
