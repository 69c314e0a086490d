"""Hubs for the tests, and their logs beside each failure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker
import docker.errors
import pytest

from ..conftest import PrivateEngine, run_tool
from ..simulator.build import build_library
from .docker_link import DockerLink
from .hub import ADMIN, Hub
from .lab import Lab
from .student import Student

_names = (f"student{number}" for number in itertools.count(1))

Settings = Mapping[str, Mapping[str, object]]

# For a Hub whose service takes up no server unasked: what a student does with a container that the Hub
# forgot would be a race otherwise.
ONLY_LOOKS = [{"name": "ds01", "services": ["ds01"], "scopes": ["list:users", "read:servers"]}]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need Docker and start a Hub."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.hub)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of each Hub's log beside a failure."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Hub):
                report.sections.append((f"log of {value.lab.name}", value.log()))
    return report


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated NVML, for the unmodified nvidia-ml-py."""
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def proxy() -> Path:
    """node's configurable-http-proxy."""
    installed = run_tool("proxy")
    assert installed.returncode == 0, installed.stderr
    return Path(installed.stdout.strip())


@contextmanager
def tagged(engine: PrivateEngine, *names: str) -> Iterator[None]:
    """Let the small base image have each of `names`, as if somebody had pulled it."""
    client = docker.APIClient(base_url=engine.docker_host, version="auto")
    missing = []
    for name in names:
        try:
            client.inspect_image(name)
        except docker.errors.ImageNotFound:
            missing.append(name if ":" in name.rpartition("/")[2] else f"{name}:latest")
    if missing:
        arguments = [word for name in missing for word in ("--tag", name)]
        ensured = run_tool("base_image", "ensure", "--docker-host", engine.docker_host, *arguments)
        assert ensured.returncode == 0, ensured.stderr
    try:
        yield
    finally:
        for name in missing:
            client.remove_image(name, noprune=True)
        client.close()


OpenHub = Callable[..., Hub]


@contextmanager
def opening_hubs(private_engine: PrivateEngine, proxy: Path, nvml: Path) -> Iterator[OpenHub]:
    """Give a function that starts a Hub on a lab of its own; `prepare` changes the lab before."""
    with ExitStack() as stack:

        def start(
            *,
            engine: PrivateEngine = private_engine,
            docker_host: str = "",
            settings: Settings | None = None,
            prepare: Callable[[Lab], None] = lambda lab: None,
        ) -> Hub:
            lab = Lab(engine.cdi_directory)
            stack.callback(lab.remove)
            prepare(lab)
            stack.enter_context(tagged(engine, lab.base.image))
            hub = Hub(lab, engine, proxy=proxy, nvml=nvml, docker_host=docker_host, settings=settings)
            stack.callback(hub.remove)
            hub.start()
            return hub

        yield start


@pytest.fixture(scope="module")
def open_hub(private_engine: PrivateEngine, proxy: Path, nvml: Path) -> Iterator[OpenHub]:
    """A function that starts a Hub for one module; it ends with it, since each costs the others time."""
    with opening_hubs(private_engine, proxy, nvml) as start:
        yield start


@pytest.fixture(scope="session")
def open_shared_hub(private_engine: PrivateEngine, proxy: Path, nvml: Path) -> Iterator[OpenHub]:
    """A function that starts a Hub which runs until the end."""
    with opening_hubs(private_engine, proxy, nvml) as start:
        yield start


@pytest.fixture(scope="session")
def hub(open_shared_hub: OpenHub) -> Hub:
    """The Hub that most tests share: its people are strangers to each other."""
    return open_shared_hub()


@pytest.fixture(scope="session")
def admin(hub: Hub) -> Iterator[Student]:
    """The admin of the shared Hub, signed in."""
    admin = hub.sign_in(hub.lab.enrol(ADMIN))
    yield admin
    admin.close()


@pytest.fixture
def newcomer(hub: Hub) -> Iterator[Callable[[], Student]]:
    """A function that gives one more student of the shared Hub, signed in."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(signed_in(hub))


@pytest.fixture
def student(newcomer: Callable[[], Student]) -> Student:
    """A student who is new to the shared Hub."""
    return newcomer()


@contextmanager
def signed_in(hub: Hub, *, uid: int | None = None) -> Iterator[Student]:
    """A student with an account of her own; her servers are stopped and her traces removed at the end."""
    student = hub.sign_in(hub.lab.enrol(next(_names), uid=uid))
    try:
        yield student
    finally:
        for server in student.model()["servers"]:
            if student.server(server):
                student.stop(server)
        student.close()
        hub.clean(student.person)


@pytest.fixture(scope="session")
def link(private_engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLink]:
    """A way to the Engine that tests can hold and cut."""
    link = DockerLink(tmp_path_factory.mktemp("link") / "docker.sock", private_engine.docker_host)
    yield link
    link.cut()


@pytest.fixture(scope="session")
def linked_hub(open_shared_hub: OpenHub, link: DockerLink) -> Hub:
    """The Hub whose Docker is reached through `link`, and which says `202, under way` after a second."""
    quick = {"slow_spawn_timeout": 1, "slow_stop_timeout": 1}
    settings = {"JupyterHub": {"tornado_settings": quick, "load_roles": ONLY_LOOKS}}
    return open_shared_hub(docker_host=link.docker_host, settings=settings)


@pytest.fixture
def linked_newcomer(linked_hub: Hub) -> Iterator[Callable[[], Student]]:
    """A function that gives one more student of the linked Hub, signed in."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(signed_in(linked_hub))


@pytest.fixture
def linked_student(linked_newcomer: Callable[[], Student]) -> Student:
    """A student who is new to the linked Hub."""
    return linked_newcomer()
