#!/usr/bin/env python3
"""Measure what the options form costs in a big lab, and print it as Markdown.

All slots of 64 GPUs are leased, servers without a GPU run besides, others wait, and the site has 40
profiles. The parts run in threads of the Hub, as the spawner lets them; by how much its event loop is late
for something else is measured meanwhile. Beside the whole answer of the service to a form that is
open, what it takes to say that nothing has changed.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NoReturn

from ledger import FULL, LATER, clock_median, make_slots, open_ledger

from ds01_spawner import form
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.core import Leases, Offers, Prospects
from ds01_spawner.core.offers import Offer
from ds01_spawner.core.prospects import Wish
from ds01_spawner.model import Inventory, Prospect, ServerDefaults
from ds01_spawner.request import parse_profiles

PROFILES = 40
RENDER_MS = 50
BEAT_SECONDS = 0.002
GPU_PROFILES = ("1g.10gb", "none", "2g.20gb", "full")
USER = "user0"
DEFAULTS = ServerDefaults(framework="Pytorch")


def make_profiles() -> list[dict[str, Any]]:
    """Return the admin's `profile_list`: cards with a description, half of them with choices."""
    choices = {name: {"display_name": name, "default": name == "a"} for name in ("a", "b", "c")}
    return [
        {
            "display_name": f"Profile {number}",
            "slug": f"p{number}",
            "description": "For course work, debugging and small models; ask your teacher which is yours.",
            "spawner_override": {
                "gpu_profile": GPU_PROFILES[number % len(GPU_PROFILES)],
                "gpu_count": 1 + number % 3,
            },
            "profile_options": {"image": {"display_name": "Image", "choices": choices}} if number % 2 else {},
        }
        for number in range(PROFILES)
    ]


class Form:
    """The parts of the page, put together as the spawner does."""

    def __init__(self, ledger: Ledger) -> None:
        def refuse(*_: object) -> NoReturn:
            raise AssertionError("the form opens no directory and asks for no account here")

        self.profiles = make_profiles()
        self.offers = Offers(
            ledger=ledger,
            read_catalog=lambda: None,
            read_limits=lambda: None,
            find_account=refuse,
            open_mounts=refuse,
            architecture="CUDA_AMPERE",
            clock=lambda: LATER,
        )
        engine = DockerEngine(docker_host="unix:///nobody-asks-docker-here")
        leases = Leases(
            ledger=ledger,
            engine=engine,
            offers=self.offers,
            owner="hub",
            is_alive=lambda _owner: True,
            clock=lambda: LATER,
        )
        self.prospects = Prospects(ledger=ledger, leases=leases, queues=True)

    def read(self) -> tuple[Offer, Mapping[Wish, Prospect]]:
        """Read and decide all that is shown: what runs in a thread."""
        offer = self.offers.offer(USER)
        wishes = {form.wish_of(profile, DEFAULTS) for profile in parse_profiles(self.profiles)}
        return offer, self.prospects.judge(USER, "", wishes, offer=offer)

    def write(self, offer: Offer, prospects: Mapping[Wish, Prospect]) -> str:
        """Write the page, in a thread as well."""
        return form.render(
            form.FormView(
                profiles=parse_profiles(self.profiles),
                availability=offer.availability,
                limits=offer.limits,
                holdings=offer.holdings,
                frameworks=offer.frameworks,
                prospects=prospects,
                queues=True,
                defaults=DEFAULTS,
            )
        )

    def answer(self) -> dict[str, object]:
        """Return what the service answers to an open form, but for its JSON."""
        offer, prospects = self.read()
        return {
            "slots": [form.write_slots(slots) for slots in offer.availability],
            "prospects": [form.describe_prospect(prospect) for prospect in prospects.values()],
        }


async def render_many(page: Form, rounds: int) -> tuple[list[float], list[float]]:
    """Return what each page took, and by how much the loop was late for something else, in milliseconds."""
    loop, took, gaps = asyncio.get_running_loop(), list[float](), list[float]()

    async def beat() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(BEAT_SECONDS)
            gaps.append((time.perf_counter() - begin - BEAT_SECONDS) * 1000)

    with ThreadPoolExecutor(1) as pool:
        beating = asyncio.ensure_future(beat())
        for _ in range(rounds):
            begin = time.perf_counter()
            found = await loop.run_in_executor(pool, page.read)
            await loop.run_in_executor(pool, page.write, *found)
            took.append((time.perf_counter() - begin) * 1000)
        beating.cancel()
    return took, gaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how often each is measured (100)")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        open_ledger(Path(folder) / "ledger.sqlite", FULL) as ledger,
    ):
        ledger.write_inventory(Inventory(slots=tuple(make_slots(FULL.slots)), gpus=()), LATER)
        page = Form(ledger)
        found = page.read()
        parts = {
            "read and decided, in a thread": clock_median(page.read, rounds),
            "written, in a thread": clock_median(lambda: page.write(*found), rounds),
            "the service's whole answer to an open form": clock_median(page.answer, rounds),
            "its answer that nothing has changed": clock_median(page.prospects.state, rounds),
        }
        took, gaps = asyncio.run(render_many(page, rounds))
    versions = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    print(f"{versions}, {datetime.now(timezone.utc):%Y-%m-%d}; {FULL.words}, {PROFILES} profiles\n")
    print("| | median | 95 of 100 | goal |")
    print("|---|---|---|---|")
    print(f"| the whole form | {median(took):.1f} ms | {quantiles(took, n=20)[-1]:.1f} ms | {RENDER_MS} ms |")
    for name, milliseconds in parts.items():
        print(f"| {name} | {milliseconds:.2f} ms | | |")
    late = f"{median(gaps):.1f} ms | {quantiles(gaps, n=20)[-1]:.1f} ms"
    print(f"| how late the event loop was for something else meanwhile | {late} | |")


if __name__ == "__main__":
    main()
