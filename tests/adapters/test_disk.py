"""What Docker says of the disk, and what it removes, on an Engine of its own."""

from __future__ import annotations

from datetime import datetime, timezone
from threading import Event

import pytest

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.engine.disk import read_usage
from ds01_spawner.errors import EngineUnavailable

from .shelf import DAY, MEGABYTE, NOW, Shelf

pytest_plugins = ["tests.adapters.shelf"]
pytestmark = pytest.mark.docker

BASE = {"base": 3 * MEGABYTE}


def test_layers_that_two_images_have_count_as_shared_in_both(
    shelf: Shelf, shelf_engine: DockerEngine
) -> None:
    alone = shelf.load("lab/alone:1", layers={"alone": MEGABYTE})
    first = shelf.load("lab/first:1", layers=BASE | {"first": MEGABYTE})
    second = shelf.load("lab/second:1", layers=BASE | {"second": 2 * MEGABYTE})
    assert shelf_engine.disk_usage().sizes == {
        alone: (MEGABYTE, 0),
        first: (4 * MEGABYTE, 3 * MEGABYTE),
        second: (5 * MEGABYTE, 3 * MEGABYTE),
    }
    shelf_engine.remove_name("lab/first:1")
    assert shelf_engine.disk_usage().sizes == {alone: (MEGABYTE, 0), second: (5 * MEGABYTE, 0)}


def test_machine_without_images_takes_nothing(shelf_engine: DockerEngine) -> None:
    usage = shelf_engine.disk_usage()
    assert (usage.sizes, usage.build_cache) == ({}, 0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda images, cache: {"Images": images, "BuildCache": cache},
        lambda images, cache: {"ImageUsage": {"Items": images}, "BuildCacheUsage": {"Items": cache}},
    ],
)
def test_answer_of_older_and_newer_engines_is_read(wrap: object) -> None:
    assert callable(wrap)
    images = [{"Id": "a", "Size": 9, "SharedSize": 4}, {"Id": "b", "Size": 5, "SharedSize": -1}]
    cache = [{"Size": 7, "Shared": False}, {"Size": 8, "Shared": True}]
    usage = read_usage(wrap(images, cache))
    assert (usage.sizes, usage.build_cache) == ({"a": (9, 4), "b": (5, 0)}, 7)
    assert read_usage(wrap(None, None)).sizes == {}


def test_all_names_of_an_image_are_known_and_when_it_was_named_last(
    shelf: Shelf, shelf_engine: DockerEngine
) -> None:
    image = shelf.load("lab/a:1", "lab/b:1", layers=BASE, made_at=NOW - DAY)
    found = shelf_engine.names_of(image)
    assert found is not None
    assert (set(found.names), found.made_at) == ({"lab/a:1", "lab/b:1"}, NOW - DAY)
    assert found.tagged_at < found.made_at
    before = datetime.now(timezone.utc)
    shelf_engine.tag(image, "lab/c:1")
    found = shelf_engine.names_of(image)
    assert found is not None
    assert set(found.names) == {"lab/a:1", "lab/b:1", "lab/c:1"}
    assert before <= found.tagged_at <= datetime.now(timezone.utc)
    assert shelf_engine.names_of("sha256:" + "0" * 64) is None


def test_containers_tell_their_image_although_its_name_went_to_another(
    shelf: Shelf, shelf_engine: DockerEngine
) -> None:
    image = shelf.load("lab/a:1", layers=BASE)
    container = shelf.contain("lab/a:1", "vision._.1001")
    newer = shelf.load("lab/a:1", layers={"newer": MEGABYTE})
    (found,) = shelf_engine.container_images()
    assert (found.id, found.name, found.image_id) == (container, "vision._.1001", image)
    assert newer != image


def test_image_goes_by_its_name_and_its_other_names_stay(shelf: Shelf, shelf_engine: DockerEngine) -> None:
    image = shelf.load("lab/a:1", "lab/b:1", layers=BASE)
    assert shelf_engine.remove_name("lab/a:1")
    assert shelf.names == {"lab/b:1"}
    assert shelf_engine.names_of(image) is not None
    assert shelf_engine.remove_name("lab/b:1")
    assert shelf_engine.names_of(image) is None
    assert shelf_engine.remove_name("lab/b:1")


def test_image_of_a_container_is_kept_by_docker(shelf: Shelf, shelf_engine: DockerEngine) -> None:
    shelf.load("lab/a:1", layers=BASE)
    shelf.contain("lab/a:1", "vision._.1001")
    assert not shelf_engine.remove_name("lab/a:1")
    assert shelf.names == {"lab/a:1"}


def test_build_cache_comes_down_to_its_budget_and_images_stay(
    shelf: Shelf, shelf_engine: DockerEngine
) -> None:
    builder = Builder(docker_command=("/usr/bin/docker",), docker_host=shelf.docker_host)
    for name in ("a", "b", "c"):
        files = {"file": name.encode() * MEGABYTE}
        builder.build(f"lab/{name}:1", f"FROM scratch\nCOPY file /{name}\n", files, lambda _: None, Event())
    held = shelf_engine.disk_usage().build_cache
    shelf_engine.remove_name("lab/a:1")
    shelf_engine.remove_name("lab/b:1")
    # What an image held is the cache's own now.
    whole = shelf_engine.disk_usage().build_cache
    assert whole == held + 2 * MEGABYTE
    assert shelf_engine.prune_build_cache(whole + 1) == 0
    freed = shelf_engine.prune_build_cache(whole - 2 * MEGABYTE)
    assert freed >= 2 * MEGABYTE
    assert shelf_engine.disk_usage().build_cache == whole - freed > 0
    shelf_engine.prune_build_cache(0)
    assert shelf_engine.disk_usage().build_cache == 0
    assert shelf.names == {"lab/c:1"}


def test_engine_that_does_not_answer_is_said() -> None:
    nowhere = DockerEngine(docker_host="unix:///nowhere/docker.sock")
    for ask in (
        nowhere.disk_usage,
        nowhere.container_images,
        lambda: nowhere.names_of("lab/a:1"),
        lambda: nowhere.remove_name("lab/a:1"),
        lambda: nowhere.prune_build_cache(0),
    ):
        with pytest.raises(EngineUnavailable):
            ask()
