#!/usr/bin/env python3
"""Measure the image step of a start whose image is there: finding it and noting its use, as Markdown.

Beside it, in the same rounds, the two calls of Docker alone that nobody can do without: the base image
looked up, and the built one. The ledger is on a disk, and each note is on it when the call returns.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import docker
import jupyterhub
from report import describe_machine

from ds01_spawner.adapters.build_logs import BuildLogs
from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.core import Images
from ds01_spawner.model import BaseImage, BuiltImage, ServerRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import base_image
import engine as private_engine
from machine import find_program, main_guard

GOAL_MS = 20
BASE = BaseImage(
    framework="Pytorch",
    version="2.8.0",
    architecture="CUDA_ADA",
    image="aimehub/pytorch-2.8.0-cuda12.6.3:latest",
)


def build(images: Images, request: ServerRequest) -> BuiltImage:
    """Return the image of a request, built now if it has to be."""
    found = images.find(BASE, request)
    if found is not None:
        return found
    told: list[str] = []
    under_way = images.join(BASE, request, "bench", told.append)
    try:
        return under_way.future.result()
    finally:
        images.leave(under_way, told.append)


def time_ms(call: Callable[[], object]) -> float:
    """Return how long a call takes, in milliseconds."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def measure(docker_host: str, folder: Path, rounds: int) -> None:
    """Print the table."""
    engine, ledger = DockerEngine(docker_host=docker_host), Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    builder = Builder(
        docker_command=(find_program("docker"),),
        docker_host=docker_host,
        ca_bundle=ssl.get_default_verify_paths().cafile,
    )
    images = Images(
        engine=engine,
        builder=builder,
        ledger=ledger,
        logs=BuildLogs(folder / "builds"),
        hub_version=jupyterhub.__version__,
        base_packages=(),
    )
    request = ServerRequest(profile="", packages=("six",))
    built = build(images, request)
    client = docker.APIClient(base_url=docker_host, version="auto")
    steps: dict[str, Callable[[], object]] = {
        "the image step": lambda: images.note_use(images.find(BASE, request) or built, "ada"),
        "of it, finding the image": lambda: images.find(BASE, request),
        "Docker's two calls alone": lambda: [client.inspect_image(x) for x in (BASE.image, built.tag)],
    }
    took: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            took[name].append(time_ms(step))
    print(f"{rounds} rounds, {describe_machine(docker_host)}\n")
    print("| | median | 95 of 100 | goal |\n|---|---|---|---|")
    for name, times in took.items():
        goal = f"{GOAL_MS} ms" if name == "the image step" else ""
        print(f"| {name} | {median(times):.1f} ms | {quantiles(times, n=20)[-1]:.1f} ms | {goal} |")
    client.close()
    ledger.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    was_up = private_engine.ask(private_engine.locate(), "/version") is not None
    handle = private_engine.up()
    try:
        base_image.ensure(handle.docker_host, [BASE.image])
        with tempfile.TemporaryDirectory(prefix="ds01-bench-", dir="/var/tmp") as folder:
            measure(handle.docker_host, Path(folder), options.rounds)
    finally:
        if not was_up:
            private_engine.down()
    return os.EX_OK


if __name__ == "__main__":
    main_guard(main)
