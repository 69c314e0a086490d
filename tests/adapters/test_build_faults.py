"""A fault in the middle of pip: no half image, a sentence that says what it was, and the next try works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import docker
import jupyterhub
import pytest

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.errors import BuildFailed
from ds01_spawner.image import BaseProbe, context_files, render_dockerfile, tag
from ds01_spawner.model import ImageSpec

from ..build_faults import (
    FAULTS,
    CommandKilled,
    DockerKilled,
    DockerRestarted,
    Fault,
    FragileEngine,
    find_steps,
)
from ..hub.waiting import wait_for
from ..package_index import PackageIndex, find_module, name_package
from .building import BASE, CA_BUNDLE, DOCKER, TEMPLATE, ask, ensure_bases, read_steps

pytest_plugins = ("tests.adapters.building", "tests.build_faults")
pytestmark = [pytest.mark.docker, pytest.mark.slow]

PLAIN = ImageSpec(base=BASE, base_id="test", hub_version=jupyterhub.__version__, base_packages=())
# pip gives up soon: nothing here is about how long it waits.
PIP_CONFIG = "[global]\nindex-url = {url}\ntrusted-host = {host}\ntimeout = 3\nretries = 1\n"
BUILD_SECONDS = 120

# A process that has an image built in which a step says nothing.
HUB = """
import json, sys
from threading import Event
from ds01_spawner.adapters.builder import Builder
settings, tag, dockerfile = json.loads(sys.argv[1])
Builder(**settings).build(tag, dockerfile, {}, len, Event())
"""

Build = Callable[..., "dict[str, str]"]


@pytest.fixture(scope="module")
def docker_host(fragile_engine: FragileEngine) -> str:
    ensure_bases(fragile_engine.docker_host, "--tag", BASE)
    return fragile_engine.docker_host


@pytest.fixture(scope="module")
def found(docker_host: str, probe: Callable[[str], BaseProbe]) -> BaseProbe:
    """What the base has; the tiers before a student's packages are built, from the world's own index."""
    found = probe(BASE)
    builder = Builder(docker_command=DOCKER, docker_host=docker_host, ca_bundle=CA_BUNDLE)
    files = context_files(PLAIN, found)
    builder.build("ds01-test/tiers", render_dockerfile(PLAIN, found, TEMPLATE), files, len, Event())
    return found


@pytest.fixture(params=["docker"])
def build(
    request: pytest.FixtureRequest,
    docker_host: str,
    found: BaseProbe,
    package_index: PackageIndex,
    tmp_path: Path,
    buildx: tuple[str, ...],
) -> Build:
    """A function that builds an image with a package of the index, and says how each of its layers came."""
    pip_config = tmp_path / "pip.conf"
    pip_config.write_text(PIP_CONFIG.format(url=package_index.url, host=package_index.host))
    builder = Builder(
        docker_command=buildx if request.param == "buildx" else DOCKER,
        docker_host=docker_host,
        pip_config=pip_config,
        timeout=timedelta(seconds=BUILD_SECONDS),
    )

    def run(package: str, given_up: Event | None = None) -> dict[str, str]:
        spec, lines = replace(PLAIN, packages=(package,)), list[str]()
        dockerfile, files = render_dockerfile(spec, found, TEMPLATE), context_files(spec, found)
        builder.build(tag_of(package), dockerfile, files, lines.append, given_up or Event())
        return {step.layer: step.state for step in read_steps(lines)}

    return run


def tag_of(package: str) -> str:
    return tag(replace(PLAIN, packages=(package,)), TEMPLATE)


def images_of(engine: docker.DockerClient) -> set[str]:
    """All images of the Engine, also those without a name."""
    return {image.id for image in engine.images.list()}


CASES = [
    *(pytest.param(fault(), "docker", id=fault.__name__) for fault in FAULTS),
    *(
        pytest.param(fault(), "buildx", id=f"{fault.__name__}-buildx")
        for fault in (DockerKilled, DockerRestarted, CommandKilled)
    ),
]


@pytest.mark.parametrize(("fault", "build"), CASES, indirect=["build"])
def test_after_a_fault_there_is_no_half_image_and_the_next_try_works(
    fault: Fault,
    build: Build,
    engine: docker.DockerClient,
    fragile_engine: FragileEngine,
    package_index: PackageIndex,
) -> None:
    package, before = name_package(), images_of(engine)
    with ThreadPoolExecutor(1) as pool, package_index.hold() as hold:
        building = pool.submit(build, package)
        hold.wait_until_reached()
        with fault.strike(fragile_engine, hold):
            error = building.exception(BUILD_SECONDS)
        if fault.ends_step:
            fragile_engine.wait_until_idle()
    assert isinstance(error, fault.error)
    assert fault.sentence in str(error)
    assert images_of(engine) == before
    fragile_engine.wait_until_idle()

    states = build(package)

    assert (states["hub"], states["base"], states["packages"]) == ("cached", "cached", "done")
    assert ask(engine, tag_of(package), "python3", "-c", f"import {find_module(package)}") == ""


def test_a_build_that_is_given_up_leaves_no_process(
    build: Build, engine: docker.DockerClient, fragile_engine: FragileEngine, package_index: PackageIndex
) -> None:
    package, before, given_up = name_package(), images_of(engine), Event()
    with ThreadPoolExecutor(1) as pool, package_index.hold() as hold:
        building = pool.submit(build, package, given_up)
        hold.wait_until_reached()
        given_up.set()
        error = building.exception(BUILD_SECONDS)
        fragile_engine.wait_until_idle()
    assert isinstance(error, BuildFailed)
    assert "given up" in str(error)
    assert images_of(engine) == before


@pytest.fixture
def hub_that_builds(docker_host: str, found: BaseProbe, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has an image built, with a folder of its own for what it leaves behind."""
    settings = {"docker_command": DOCKER, "docker_host": docker_host}
    dockerfile = f"FROM {BASE}\nRUN : layer=packages && sleep 3600 # {os.urandom(4).hex()}\n"
    order = json.dumps([settings, "ds01-test/killed", dockerfile])
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", HUB, order], env=environment)
    yield process
    process.kill()
    process.wait()


def test_a_build_ends_with_the_hub_that_is_killed_and_leaves_no_file(
    hub_that_builds: subprocess.Popen[bytes],
    engine: docker.DockerClient,
    fragile_engine: FragileEngine,
    tmp_path: Path,
) -> None:
    before = images_of(engine)
    wait_for(find_steps, "the step runs")
    assert "docker" in fragile_engine.find_commands().values()
    hub_that_builds.kill()
    fragile_engine.wait_until_idle()
    assert images_of(engine) == before
    assert list(tmp_path.iterdir()) == []
