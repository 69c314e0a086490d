"""Images really built for tests: a pytest plugin, named in `pytest_plugins` of the modules that use it.

Every build gets settings of a site that carry `MARK`, which no image may show. What a module had built is
removed at its end; what it was built from stays in the Engine's cache.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import docker
import pytest
from binaries import ensure_test_programs

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.buildlog import BuildStep, ProgressReader
from ds01_spawner.image import (
    PROBE_SCRIPT,
    BaseProbe,
    context_files,
    parse_probe,
    render_dockerfile,
    tag,
)
from ds01_spawner.model import ImageSpec
from ds01_spawner.templating import read_dockerfile

from ..conftest import PrivateEngine, run_tool

BASE = "aimehub/pytorch-2.8.0-cuda12.6.3:latest"
NO_PYTHON = "ds01-test/no-python:latest"
DOCKER = ("/usr/bin/docker",)
TEMPLATE = read_dockerfile("Dockerfile.j2")
CA_BUNDLE = ssl.get_default_verify_paths().cafile
MARK = "ds01-test-mark-of-the-sites-own-settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One image that a test had built, the steps that its build told of, and its log."""

    tag: str
    id: str
    steps: tuple[BuildStep, ...]
    log: tuple[str, ...]


def ensure_bases(docker_host: str, *arguments: str) -> None:
    """Give base images to the Engine; `arguments` are those of `tools/base_image.py ensure`."""
    ensured = run_tool("base_image", "ensure", "--docker-host", docker_host, *arguments)
    assert ensured.returncode == 0, ensured.stderr


def read_steps(lines: list[str]) -> tuple[BuildStep, ...]:
    reader = ProgressReader()
    return tuple(step for step in map(reader.read, lines) if step is not None)


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    ensure_bases(private_engine.docker_host, "--tag", BASE)
    ensure_bases(private_engine.docker_host, "--no-python", "--tag", NO_PYTHON)
    return private_engine.docker_host


@pytest.fixture(scope="module")
def engine(docker_host: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=docker_host)
    yield client
    client.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("site")
    pip_config, apt_config, ca_bundle = (directory / name for name in ("pip.conf", "apt.conf", "ca.pem"))
    pip_config.write_text(f"# {MARK}\n[global]\nretries = 3\n", encoding="utf-8")
    apt_config.write_text(f'# {MARK}\nAcquire::Retries "2";\n', encoding="utf-8")
    ca_bundle.write_text(f"# {MARK}\n{Path(CA_BUNDLE or '').read_text(encoding='utf-8')}", encoding="utf-8")
    return {"pip_config": pip_config, "apt_config": apt_config, "ca_bundle": ca_bundle}


@pytest.fixture(scope="module")
def builder(docker_host: str, settings: dict[str, Path]) -> Builder:
    proxies = {"no_proxy": f"{MARK}.example"}
    return Builder(docker_command=DOCKER, docker_host=docker_host, proxies=proxies, **settings)


@pytest.fixture
def buildx(tmp_path: Path) -> tuple[str, ...]:
    """Debian's docker with buildx in place of what it builds with itself."""
    plugins = tmp_path / "cli-plugins"
    plugins.mkdir()
    (plugins / "docker-buildx").symlink_to(ensure_test_programs() / "docker-buildx")
    (tmp_path / "config.json").write_text(json.dumps({"aliases": {"builder": "buildx"}}))
    return (*DOCKER, "--config", str(tmp_path))


@pytest.fixture(scope="module")
def probe(engine: docker.DockerClient) -> Callable[[str], BaseProbe]:
    def run(image: str) -> BaseProbe:
        output = engine.containers.run(
            image, ["-c", PROBE_SCRIPT], entrypoint="/bin/sh", network_mode="none", remove=True
        )
        return parse_probe(output.decode())

    return run


@pytest.fixture(scope="module")
def build(
    engine: docker.DockerClient, builder: Builder, probe: Callable[[str], BaseProbe]
) -> Iterator[Callable[[ImageSpec], Built]]:
    made: list[str] = []

    def run(spec: ImageSpec) -> Built:
        found, lines, name = probe(spec.base), list[str](), tag(spec, TEMPLATE)
        dockerfile = render_dockerfile(spec, found, TEMPLATE)
        image_id = builder.build(name, dockerfile, context_files(spec, found), lines.append, Event())
        made.append(name)
        return Built(tag=name, id=image_id, steps=read_steps(lines), log=tuple(lines))

    yield run
    for name in made:
        engine.images.remove(name, noprune=False)


def ask(engine: docker.DockerClient, image: str, *command: str) -> str:
    """What `command` prints in a container of `image`, as a user that the image does not know."""
    output = engine.containers.run(
        image,
        list(command),
        user="12345:12345",
        environment={"HOME": "/tmp/home"},
        network_mode="none",
        tmpfs={"/tmp": "exec,mode=1777"},
        remove=True,
    )
    return str(output.decode())


def layers(engine: docker.DockerClient, image: str) -> list[str]:
    """The layers of an image, from the base up: each a hash of all that is in it."""
    return list(engine.images.get(image).attrs["RootFS"]["Layers"])
