"""One build of one content, however many ask for it: on a real engine."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import docker
import jupyterhub
import pytest

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.core import Images
from ds01_spawner.errors import BuildFailed, ImageFailed, RequestRefused
from ds01_spawner.model import BaseImage, ServerRequest

from ..conftest import PrivateEngine, run_tool

pytestmark = pytest.mark.docker

BASE = BaseImage(
    framework="Pytorch",
    version="2.8.0",
    architecture="CUDA_ADA",
    image="aimehub/pytorch-2.8.0-cuda12.6.3:latest",
)
BUILD_SECONDS = 600


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    ensured = run_tool(
        "base_image", "ensure", "--docker-host", private_engine.docker_host, "--tag", BASE.image
    )
    assert ensured.returncode == 0, ensured.stderr
    return private_engine.docker_host


@pytest.fixture(scope="module")
def images(docker_host: str) -> Images:
    builder = Builder(
        docker_command=("/usr/bin/docker",),
        docker_host=docker_host,
        ca_bundle=ssl.get_default_verify_paths().cafile,
    )
    return Images(
        engine=DockerEngine(docker_host=docker_host),
        builder=builder,
        hub_version=jupyterhub.__version__,
        base_packages=(),
    )


@pytest.fixture
def request_() -> ServerRequest:
    """A request that nobody made before: the marker makes its content new, and nothing is installed."""
    number = int.from_bytes(os.urandom(3), "big")
    return ServerRequest(
        profile="", packages=(f'six; python_version < "3.{number % 9}" and os_name == "{number}"',)
    )


@pytest.fixture(autouse=True)
def clean(docker_host: str) -> Iterator[None]:
    """Remove the images of a test; what they were built from stays in the cache."""
    client = docker.DockerClient(base_url=docker_host)
    before = {tag for image in client.images.list("ds01/image") for tag in image.tags}
    yield
    for image in client.images.list("ds01/image"):
        for tag in set(image.tags) - before:
            client.images.remove(tag, noprune=False)
    client.close()


class Listener:
    """Who waits for a build, and when she has heard that it goes on."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.is_building = Event()

    def tell(self, sentence: str) -> None:
        self.heard.append(sentence)
        if sentence.startswith("["):
            self.is_building.set()


def test_two_who_ask_for_the_same_wait_for_one_build_and_hear_the_same(
    images: Images, request_: ServerRequest
) -> None:
    assert images.find(BASE, request_) is None
    ada, bob = Listener(), Listener()
    first = images.join(BASE, request_, ada.tell)
    assert ada.is_building.wait(BUILD_SECONDS)
    second = images.join(BASE, request_, bob.tell)
    assert second is first
    built = second.future.result(BUILD_SECONDS)
    images.leave(first, ada.tell)
    images.leave(second, bob.tell)
    assert built.was_built
    assert ada.heard == bob.heard
    found = images.find(BASE, replace(request_, profile="another"))
    assert found == replace(built, was_built=False)


def test_a_build_goes_on_while_one_of_two_still_waits(images: Images, request_: ServerRequest) -> None:
    ada, bob = Listener(), Listener()
    build = images.join(BASE, request_, ada.tell)
    images.join(BASE, request_, bob.tell)
    assert ada.is_building.wait(BUILD_SECONDS)
    images.leave(build, ada.tell)
    assert build.future.result(BUILD_SECONDS).was_built
    images.leave(build, bob.tell)


def test_a_build_that_all_gave_up_ends_and_does_not_end_the_next_one(
    images: Images, request_: ServerRequest
) -> None:
    ada, bob = Listener(), Listener()
    given_up = images.join(BASE, request_, ada.tell)
    assert ada.is_building.wait(BUILD_SECONDS)
    images.leave(given_up, ada.tell)
    wanted = images.join(BASE, request_, bob.tell)
    assert wanted is not given_up
    assert wanted.future.result(BUILD_SECONDS).id
    images.leave(wanted, bob.tell)
    assert isinstance(given_up.future.exception(BUILD_SECONDS), BuildFailed)


def test_a_base_of_hers_that_is_nowhere_is_refused_and_one_of_the_catalog_is_the_sites(
    images: Images,
) -> None:
    nowhere = replace(BASE, image="ds01.invalid/nothing/like-it:1")
    listener = Listener()
    for asked, error in (
        (ServerRequest(profile="", base_image=nowhere.image), RequestRefused),
        (ServerRequest(profile=""), ImageFailed),
    ):
        build = images.join(nowhere, asked, listener.tell)
        assert isinstance(build.future.exception(BUILD_SECONDS), error)
        images.leave(build, listener.tell)
