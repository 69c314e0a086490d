"""One build of one content, however many ask for it: on a real engine."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event

import docker
import docker.errors
import jupyterhub
import pytest

from ds01_spawner.adapters.build_logs import BuildLogs
from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.core import Images
from ds01_spawner.errors import BuildFailed, ConfigBroken, ImageFailed, PackageRefused, RequestRefused
from ds01_spawner.model import BaseImage, BuildOutcome, BuiltImage, ImageUse, ServerRequest
from ds01_spawner.site import DS01

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


@pytest.fixture
def engine(docker_host: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=docker_host)
    yield client
    client.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


@pytest.fixture
def images(docker_host: str, engine: docker.DockerClient, ledger: Ledger, tmp_path: Path) -> Iterator[Images]:
    """What builds images; those of a test go at its end, and what they were built from stays in the cache."""
    builder = Builder(
        docker_command=("/usr/bin/docker",),
        docker_host=docker_host,
        ca_bundle=ssl.get_default_verify_paths().cafile,
    )
    yield Images(
        engine=DockerEngine(docker_host=docker_host),
        builder=builder,
        ledger=ledger,
        logs=BuildLogs(tmp_path / "builds"),
        hub_version=jupyterhub.__version__,
        base_packages=(),
        labels={"org.example.lab": "two halls; $ay"},
    )
    for tag in {record.tag for record in ledger.builds()}:
        with suppress(docker.errors.ImageNotFound):
            engine.images.remove(tag, noprune=False)


@pytest.fixture
def request_() -> ServerRequest:
    """A request that nobody made before: the marker makes its content new, and nothing is installed."""
    number = int.from_bytes(os.urandom(3), "big")
    return ServerRequest(
        profile="", packages=(f'six; python_version < "3.{number % 9}" and os_name == "{number}"',)
    )


@pytest.fixture
def own_base(engine: docker.DockerClient) -> Iterator[BaseImage]:
    """A base image under a name that no other test uses."""
    name = f"ds01-test/base-{os.urandom(4).hex()}"
    engine.images.get(BASE.image).tag(name, "latest")
    yield replace(BASE, image=f"{name}:latest")
    engine.images.remove(f"{name}:latest", noprune=False)


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
    first = images.join(BASE, request_, "ada", ada.tell)
    assert ada.is_building.wait(BUILD_SECONDS)
    second = images.join(BASE, request_, "bob", bob.tell)
    assert second is first
    built = second.future.result(BUILD_SECONDS)
    images.leave(first, ada.tell)
    images.leave(second, bob.tell)
    assert built.build is not None
    assert ada.heard == bob.heard
    found = images.find(BASE, replace(request_, profile="another"))
    assert found == replace(built, build=None)
    assert built.labels["org.example.lab"] == "two halls; $ay"


@pytest.mark.parametrize("label", ["aime.mlc", "aime.mlc.MAINTAINER"])
def test_a_label_of_aimes_is_not_the_admins_to_set(
    tmp_path: Path, request_: ServerRequest, label: str
) -> None:
    site = DS01(ledger_url=f"sqlite:///{tmp_path / 'ledger.sqlite'}", image_labels={label: "x"})
    with pytest.raises(ConfigBroken, match=f"image_labels: {label} is one of AIME's"):
        site.core.images.spec(BASE, "sha256:0f", request_)


def test_thirty_users_of_one_profile_wait_for_one_build(
    images: Images, ledger: Ledger, request_: ServerRequest
) -> None:
    users = [(f"student{number}", Listener()) for number in range(30)]
    builds = [images.join(BASE, request_, name, listener.tell) for name, listener in users]
    assert len({build.future.result(BUILD_SECONDS).id for build in builds}) == 1
    for build, (_, listener) in zip(builds, users, strict=True):
        images.leave(build, listener.tell)
    assert [record.user for record in ledger.builds()] == ["student0"]


def test_a_build_goes_on_while_one_of_two_still_waits(images: Images, request_: ServerRequest) -> None:
    ada, bob = Listener(), Listener()
    build = images.join(BASE, request_, "ada", ada.tell)
    images.join(BASE, request_, "bob", bob.tell)
    assert ada.is_building.wait(BUILD_SECONDS)
    images.leave(build, ada.tell)
    assert build.future.result(BUILD_SECONDS).build
    images.leave(build, bob.tell)


def test_a_build_that_all_gave_up_ends_and_does_not_end_the_next_one(
    images: Images, ledger: Ledger, request_: ServerRequest
) -> None:
    ada, bob = Listener(), Listener()
    given_up = images.join(BASE, request_, "ada", ada.tell)
    assert ada.is_building.wait(BUILD_SECONDS)
    images.leave(given_up, ada.tell)
    wanted = images.join(BASE, request_, "bob", bob.tell)
    assert wanted is not given_up
    assert wanted.future.result(BUILD_SECONDS).id
    images.leave(wanted, bob.tell)
    assert isinstance(given_up.future.exception(BUILD_SECONDS), BuildFailed)
    outcomes = {record.user: record.outcome for record in ledger.builds()}
    assert outcomes == {"ada": BuildOutcome.GIVEN_UP, "bob": BuildOutcome.BUILT}


def test_a_base_of_hers_that_is_nowhere_is_refused_and_one_of_the_catalog_is_the_sites(
    images: Images,
) -> None:
    nowhere = replace(BASE, image="ds01.invalid/nothing/like-it:1")
    listener = Listener()
    for asked, error in (
        (ServerRequest(profile="", base_image=nowhere.image), RequestRefused),
        (ServerRequest(profile=""), ImageFailed),
    ):
        build = images.join(nowhere, asked, "ada", listener.tell)
        assert isinstance(build.future.exception(BUILD_SECONDS), error)
        images.leave(build, listener.tell)


def build_now(images: Images, base: BaseImage, request: ServerRequest) -> BuiltImage:
    listener = Listener()
    build = images.join(base, request, "ada", listener.tell)
    try:
        return build.future.result(BUILD_SECONDS)
    finally:
        images.leave(build, listener.tell)


def test_a_build_is_recorded_with_its_steps_and_its_log(
    images: Images, ledger: Ledger, request_: ServerRequest, tmp_path: Path
) -> None:
    built = build_now(images, BASE, request_)
    (record,) = ledger.builds()
    assert record == built.build
    assert (record.user, record.base, record.outcome) == ("ada", BASE.image, BuildOutcome.BUILT)
    assert record.summary == f"Pytorch 2.8.0, with {request_.packages[0]}"
    assert record.steps == 3  # the notebook server, the kernel, her packages
    assert "layer=packages" in tmp_path.joinpath("builds", record.log).read_text()


def test_a_build_that_fails_is_recorded_with_its_reason_and_leaves_no_image(
    images: Images, ledger: Ledger
) -> None:
    # Its setup.py tells its name and needs; then it wants a compiler, which the base image has not.
    wrong = ServerRequest(profile="", packages=("pycrypto==2.6.1",))
    with pytest.raises(BuildFailed, match="pycrypto could not be compiled") as caught:
        build_now(images, BASE, wrong)
    assert any("pycrypto" in line for line in caught.value.lines)
    assert "layer=packages" in caught.value.log
    (record,) = ledger.builds()
    assert (record.outcome, record.why) == (BuildOutcome.FAILED, caught.value.message)
    assert images.find(BASE, wrong) is None


def test_a_package_that_cannot_be_had_is_refused_before_a_build(images: Images, ledger: Ledger) -> None:
    wrong = ServerRequest(profile="", packages=("ds01-no-such-package-anywhere",))
    with pytest.raises(PackageRefused, match="There is no package ds01-no-such-package-anywhere") as caught:
        build_now(images, BASE, wrong)
    assert caught.value.field == "packages"
    with pytest.raises(PackageRefused):
        images.submit_check(BASE, wrong).result(BUILD_SECONDS)
    assert ledger.builds() == ()


def test_an_image_on_an_older_base_stays_in_use_until_a_rebuild_is_asked_for(
    images: Images, engine: docker.DockerClient, own_base: BaseImage
) -> None:
    request = ServerRequest(profile="")
    first = build_now(images, own_base, request)
    assert images.find(own_base, request) == replace(first, build=None)
    container = engine.containers.create(own_base.image, ["true"])
    container.commit(own_base.image.removesuffix(":latest"), "latest", changes=['LABEL newer="yes"'])
    container.remove()

    kept = images.find(own_base, request)
    assert kept == replace(first, build=None, is_outdated=True)
    rebuild = replace(request, rebuild=True)
    assert images.find(own_base, rebuild) is None

    second = build_now(images, own_base, rebuild)
    assert second.tag != first.tag
    assert images.find(own_base, request) == replace(second, build=None)


def test_an_image_is_found_although_its_base_was_removed(
    images: Images, engine: docker.DockerClient, own_base: BaseImage
) -> None:
    request = ServerRequest(profile="")
    built = build_now(images, own_base, request)
    engine.images.remove(own_base.image, noprune=True)
    assert images.find(own_base, request) == replace(built, build=None)
    engine.images.get(BASE.image).tag(own_base.image)


def test_who_starts_from_an_image_is_noted(images: Images, ledger: Ledger) -> None:
    built = BuiltImage(tag="ds01/image:some", id="sha256:0")
    images.note_use(built, "ada")
    (use,) = ledger.image_uses()
    assert use == ImageUse(tag=built.tag, user="ada", last_used_at=use.last_used_at)
