"""Checks before a build, on a real engine and a real index: what is said, and where the build has to decide.

The base has an old pip, and requests, which needs an old urllib3. The packages of each image have Flask,
which needs a new Werkzeug: it is only noted by a check, and never installed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import docker
import jupyterhub
import pytest
from docker.errors import ImageNotFound
from docker.models.images import Image

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.buildlog import explain_failure
from ds01_spawner.errors import BuildFailed, ConfigBroken
from ds01_spawner.image import BaseProbe, context_files, render_dockerfile
from ds01_spawner.model import ImageSpec, PackageProblem
from ds01_spawner.resolution import read
from ds01_spawner.templating import read_dockerfile, template_directory

from .building import BASE, CA_BUNDLE, DOCKER

pytest_plugins = ["tests.adapters.building"]
pytestmark = pytest.mark.docker

RUN = secrets.token_hex(4)
OLD = f"ds01-test/check-base-{RUN}:latest"
WITH_CA = "RUN --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle"
MAKE_OLD = f"""\
FROM {BASE}
{WITH_CA} PIP_CERT=/run/secrets/ca_bundle pip install --no-cache-dir pip==21.3 requests==2.28.2
"""
PLAIN = ImageSpec(
    base=OLD, base_id="test", hub_version=jupyterhub.__version__, base_packages=("flask==2.3.3",)
)
Check = Callable[..., tuple[PackageProblem | None, str]]


@pytest.fixture(scope="module")
def old_base(engine: docker.DockerClient, builder: Builder) -> Iterator[str]:
    builder.build(OLD, MAKE_OLD, {}, len, Event())
    yield OLD
    engine.images.remove(OLD)


@pytest.fixture(scope="module")
def check(old_base: str, builder: Builder, probe: Callable[[str], BaseProbe]) -> Check:
    """What a check of a spec finds, and its log; `by` is a builder with other settings."""

    def run(spec: ImageSpec, by: Builder = builder) -> tuple[PackageProblem | None, str]:
        found = probe(spec.base)
        program = (template_directory() / "resolve.py").read_bytes()
        dockerfile = render_dockerfile(spec, found, read_dockerfile("resolve.j2"))
        log = by.resolve(dockerfile, {**context_files(spec, found), "resolve.py": program}, Event())
        problem = read(spec, explain_failure(log), log, python=found.version) if log else None
        return problem, "\n".join(log)

    return run


def test_what_can_be_had_is_let_pass_and_leaves_no_image(engine: docker.DockerClient, check: Check) -> None:
    # docopt has no wheel: its setup.py tells what it needs. Werkzeug stays as new as Flask needs it.
    packages = ("docopt==0.6.2", "six", "werkzeug>=2.3")
    assert check(replace(PLAIN, packages=packages, system_packages=("tree",))) == (None, "")
    assert not [image for image in engine.images.list(all=True) if "/opt/ds01/check" in read_history(image)]


def read_history(image: Image) -> str:
    with suppress(ImageNotFound):
        return str(image.history())
    # Another test removed it in between.
    return ""


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        (
            {"packages": ("six", "ds01-there-is-no-such-package")},
            "packages",
            "There is no package ds01-there-is-no-such-package. Check how it is written.",
        ),
        (
            {"requirements": ("six==99", "tabulate")},
            "requirements",
            "There is no six==99 for Python 3.11; the newest are ",
        ),
        (
            {"packages": ("requests==2.32.3",), "requirements": ("urllib3==1.20",)},
            "packages",
            "requests==2.32.3 and urllib3==1.20 conflict: requests 2.32.3 needs urllib3<3,>=1.21.1. Ask for "
            "other versions, or leave one out.",
        ),
        (
            {"packages": ("urllib3==2.2.1",)},
            "packages",
            "requests 2.28.2 of this image needs urllib3<1.27,>=1.21.1, but you ask for urllib3==2.2.1. Ask "
            "for another version, or add requests to your packages, so that versions are found that go "
            "together.",
        ),
        (
            {"requirements": ("werkzeug==2.2.3",)},
            "requirements",
            "flask 2.3.3 of this image needs Werkzeug>=2.3.7, but you ask for werkzeug==2.2.3. Ask for "
            "another version, or add flask to your packages, so that versions are found that go together.",
        ),
        (
            {"system_packages": ("tree", "ffmpegg")},
            "system_packages",
            "There is no system package ffmpegg for this image. Did you mean ffmpeg?",
        ),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    check: Check, change: dict[str, tuple[str, ...]], field: str, sentence: str
) -> None:
    problem, _ = check(replace(PLAIN, **change))  # type: ignore[arg-type]
    assert problem is not None
    assert problem.field == field
    assert problem.sentence.startswith(sentence)


def test_what_would_break_is_mended_by_asking_for_it_as_well(check: Check) -> None:
    assert check(replace(PLAIN, packages=("urllib3==2.2.1", "requests"))) == (None, "")


class AnIndexThatIsDown:
    """An index that answers every question with 503, of which pip says nothing."""

    def __init__(self, host: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(503)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer((host, 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{host}:{self._server.server_port}/simple/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def broken_index(engine: docker.DockerClient) -> Iterator[str]:
    gateway = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    index = AnIndexThatIsDown(gateway)
    yield index.url
    index.close()


@pytest.fixture
def without_index(docker_host: str, tmp_path: Path) -> Callable[[str], Builder]:
    """A builder whose pip looks for packages at a URL where none are."""

    def make(url: str) -> Builder:
        pip_config = tmp_path / "pip.conf"
        host = url.split("/")[2].split(":")[0]
        pip_config.write_text(f"[global]\nindex-url = {url}\ntrusted-host = {host}\n", encoding="utf-8")
        return Builder(
            docker_command=DOCKER, docker_host=docker_host, ca_bundle=CA_BUNDLE, pip_config=pip_config
        )

    return make


def test_an_index_that_is_down_is_not_her_mistake(
    check: Check, without_index: Callable[[str], Builder], broken_index: str
) -> None:
    check(replace(PLAIN, packages=("six",)))
    problem, log = check(replace(PLAIN, packages=("tabulate",)), by=without_index(broken_index))
    assert "No matching distribution found for tabulate" in log
    assert problem is None


def test_a_network_that_is_dead_is_not_her_mistake(
    check: Check, without_index: Callable[[str], Builder]
) -> None:
    check(replace(PLAIN, packages=("six",)))
    problem, log = check(
        replace(PLAIN, packages=("tabulate",)), by=without_index("http://127.0.0.1:9/simple/")
    )
    assert "No matching distribution found for tabulate" in log
    assert problem is None


def test_where_no_pip_can_be_had_that_can_check_the_build_decides(
    engine: docker.DockerClient, builder: Builder, check: Check
) -> None:
    name = f"ds01-test/check-old-pip-{RUN}:latest"
    bound = f"FROM {BASE}\nRUN echo 'pip<22' > /constraints.txt\nENV PIP_CONSTRAINT=/constraints.txt\n"
    builder.build(name, bound, {}, len, Event())
    try:
        problem, log = check(replace(PLAIN, base=name, packages=("ds01-there-is-no-such-package",)))
    finally:
        engine.images.remove(name)
    assert "no such option: --dry-run" in log
    assert problem is None


def test_buildx_checks_as_well(
    docker_host: str, settings: dict[str, Path], buildx: tuple[str, ...], check: Check
) -> None:
    by = Builder(docker_command=buildx, docker_host=docker_host, **settings)
    assert check(replace(PLAIN, packages=("six",)), by=by) == (None, "")
    problem, _ = check(replace(PLAIN, packages=("six==99",)), by=by)
    assert problem is not None


def test_a_check_that_takes_too_long_or_is_given_up_ends(docker_host: str) -> None:
    builder = Builder(docker_command=DOCKER, docker_host=docker_host)
    sleeping = f"FROM {BASE}\nRUN sleep 3600 # {os.urandom(4).hex()}\n"
    with pytest.raises(BuildFailed, match="took longer than 1 s"):
        builder.resolve(sleeping, {}, Event(), timeout=timedelta(seconds=1))
    given_up = Event()
    given_up.set()
    with pytest.raises(BuildFailed, match="given up"):
        builder.resolve(sleeping, {}, given_up)


def test_a_check_with_a_docker_that_cannot_build_says_so() -> None:
    fails = ("/bin/sh", "-c", "echo 'ERROR: BuildKit is enabled but the buildx component is missing'; exit 1")
    with pytest.raises(ConfigBroken, match="docker-buildx-plugin"):
        Builder(docker_command=fails, docker_host="unix:///nowhere").resolve("FROM x\n", {}, Event())
