"""Base images from a real registry: with a login and without, by each policy, slow, wrong and dead."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

import docker
import pytest
from docker.errors import NotFound

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.errors import BuildFailed, ConfigBroken, ImageFailed, RegistryUnavailable
from ds01_spawner.site import DS01

from ..conftest import PrivateEngine
from .registry import Registry, SlowWay, find_port, run_registry

pytestmark = pytest.mark.docker

LONG = timedelta(minutes=5)
# A path of the registry that stands for Docker's own.
MIRROR = "mirror"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def client(private_engine: PrivateEngine) -> Iterator[docker.APIClient]:
    opened = docker.APIClient(base_url=private_engine.docker_host, version="auto")
    yield opened
    opened.close()


@pytest.fixture
def name(client: docker.APIClient) -> Iterator[str]:
    """The catalog's name of an image that nobody has; what a test pulled under it goes."""
    made = f"ds01-test/pulled-{secrets.token_hex(4)}:1"
    yield made
    repository = made.partition(":")[0]
    for image in client.images():
        for found in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
            if repository in found and "<none>" not in found:
                # The digest goes with the last tag of its repository.
                with suppress(NotFound):
                    client.remove_image(found)


@pytest.fixture
def open_site(private_engine: PrivateEngine, registry: Registry, tmp_path: Path) -> Callable[..., DS01]:
    """A site whose base images come from the registry, with other settings where they are given."""

    def open_it(**settings: str) -> DS01:
        login = registry.write_login(tmp_path / "config.json")
        usual = {"registry": f"{registry.address}/{MIRROR}", "registry_login": str(login)}
        return DS01(docker_host=private_engine.docker_host, **(usual | settings))

    return open_it


def pull(engine: DockerEngine, name: str, told: list[str] | None = None) -> str:
    return engine.pull(name, (told if told is not None else []).append, Event(), LONG).id


def test_a_base_image_of_the_sites_registry_gets_the_catalogs_name_and_its_download_is_told(
    client: docker.APIClient, registry: Registry, open_site: Callable[..., DS01], name: str
) -> None:
    registry.push(client, f"{MIRROR}/{name}", megabytes=30)
    engine, told = open_site().engine, list[str]()
    assert engine.image(name) is None
    pulled = pull(engine, name, told)
    assert client.inspect_image(name)["Id"] == pulled
    assert told[-1].endswith("MB of the base image; unpacking it.")


def test_a_digest_is_pulled_found_and_built_on(
    client: docker.APIClient,
    registry: Registry,
    open_site: Callable[..., DS01],
    private_engine: PrivateEngine,
    name: str,
) -> None:
    digest = registry.push(client, f"{MIRROR}/{name}")
    repository = name.partition(":")[0]
    engine, reference = open_site().engine, f"{repository}@{digest}"
    pulled = pull(engine, reference)
    found = engine.image(reference)
    assert found is not None
    assert found.id == pulled
    builder = Builder(docker_command=("/usr/bin/docker",), docker_host=private_engine.docker_host)
    dockerfile = f"FROM {engine.local_name(reference)}\nLABEL made=here\n"
    builder.build(f"{repository}:built", dockerfile, {}, len, Event())
    client.remove_image(f"{repository}:built")


def test_a_digest_with_its_registry_in_the_name_is_pulled(
    client: docker.APIClient, registry: Registry, open_site: Callable[..., DS01], name: str
) -> None:
    digest = registry.push(client, name)
    reference = f"{registry.address}/{name.partition(':')[0]}@{digest}"
    pulled = pull(open_site().engine, reference)
    assert client.inspect_image(reference)["Id"] == pulled


def test_a_registry_that_wants_a_login_is_told_apart_from_one_that_has_no_such_image(
    client: docker.APIClient,
    registry: Registry,
    open_site: Callable[..., DS01],
    name: str,
    tmp_path: Path,
) -> None:
    registry.push(client, f"{MIRROR}/{name}")
    nobody = registry.write_login(tmp_path / "nobody.json", address="elsewhere.invalid")
    wrong = registry.write_login(tmp_path / "wrong.json", "not the password")
    for login in (nobody, wrong):
        with pytest.raises(ImageFailed, match=r"does not take this server's login.*registry_login"):
            pull(open_site(registry_login=str(login)).engine, name)
    with pytest.raises(ImageFailed, match="has no base image ds01-test/nothing:1"):
        pull(open_site().engine, "ds01-test/nothing:1")
    with pytest.raises(NotFound):
        client.inspect_image(name)


def test_a_registry_that_does_not_answer_is_said(open_site: Callable[..., DS01], name: str) -> None:
    dead = f"127.0.0.1:{find_port()}"
    with pytest.raises(RegistryUnavailable, match=f"The registry {dead} does not answer") as caught:
        pull(open_site(registry=dead).engine, name)
    assert "connection refused" in caught.value.detail


class TestSlowRegistry:
    """A registry so slow that a download takes minutes."""

    @pytest.fixture
    def way(self, registry: Registry) -> Iterator[SlowWay]:
        opened = SlowWay(registry.address)
        yield opened
        opened.close()

    @pytest.fixture
    def engine(
        self,
        client: docker.APIClient,
        registry: Registry,
        way: SlowWay,
        open_site: Callable[..., DS01],
        name: str,
        tmp_path: Path,
    ) -> DockerEngine:
        registry.push(client, f"{MIRROR}/{name}", megabytes=30)
        login = registry.write_login(tmp_path / "slow.json", address=way.address)
        return open_site(registry=f"{way.address}/{MIRROR}", registry_login=str(login)).engine

    def test_a_pull_that_nobody_waits_for_ends(
        self, client: docker.APIClient, way: SlowWay, engine: DockerEngine, name: str
    ) -> None:
        given_up = Event()
        with pytest.raises(BuildFailed, match="given up"):
            engine.pull(name, lambda _: given_up.set(), given_up, LONG)
        wait_until(lambda: way.is_idle)
        assert way.passed < 30 * 10**6
        with pytest.raises(NotFound):
            client.inspect_image(name)

    def test_a_pull_that_takes_too_long_ends(self, way: SlowWay, engine: DockerEngine, name: str) -> None:
        with pytest.raises(BuildFailed, match="took longer than"):
            engine.pull(name, [].append, Event(), timedelta(seconds=2))
        wait_until(lambda: way.is_idle)
        assert way.passed < 30 * 10**6


def test_an_image_that_is_here_is_not_asked_for_unless_the_policy_says_so(
    client: docker.APIClient,
    registry: Registry,
    open_site: Callable[..., DS01],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    usual, always, told = open_site().bases, open_site(pull_policy="always").bases, list[str]()
    registry.push(client, f"{MIRROR}/{name}")
    old = usual.get(name, told.append).id
    registry.push(client, f"{MIRROR}/{name}")
    assert usual.get(name, told.append).id == old
    new = always.get(name, told.append).id
    assert new != old
    assert client.inspect_image(name)["Id"] == new

    registry.stop()
    told.clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert always.get(name, told.append).id == new
    finally:
        registry.start()
    assert told == [f"Nobody could say whether there is a newer {name}; building on the one that is here."]
    assert "connection refused" in caplog.text


def test_a_site_that_downloads_nothing_names_the_command_that_does(
    registry: Registry, open_site: Callable[..., DS01], name: str
) -> None:
    remote = f"{registry.address}/{MIRROR}/{name}"
    for site, command in (
        (open_site(pull_policy="never"), f"docker pull {remote} && docker tag {remote} {name}"),
        (open_site(pull_policy="never", registry=""), f"docker pull {name}"),
    ):
        with pytest.raises(ImageFailed) as caught:
            site.bases.get(name, [].append)
        assert caught.value.message.startswith(f"The base image {name} is not on the server")
        assert caught.value.message.endswith(f"run: {command}")


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"auths": {"lab": {"auth": "%%%"}}}'])
def test_a_login_that_cannot_be_read_names_its_setting(
    open_site: Callable[..., DS01], name: str, tmp_path: Path, content: str | None
) -> None:
    login = tmp_path / "broken.json"
    if content is not None:
        login.write_text(content)
    with pytest.raises(ConfigBroken) as caught:
        pull(open_site(registry_login=str(login)).engine, name)
    assert "c.DS01.registry_login" in caught.value.detail


def test_a_login_that_others_can_read_is_noted(
    registry: Registry,
    open_site: Callable[..., DS01],
    name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    login = registry.write_login(tmp_path / "open.json")
    for mode, is_noted in ((0o600, False), (0o640, True)):
        login.chmod(mode)
        caplog.clear()
        with pytest.raises(ImageFailed):
            pull(open_site(registry_login=str(login)).engine, name)
        assert ("others can read" in caplog.text) is is_noted


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
