"""What there is of built images, and which of them go, on an Engine and a ledger of their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ds01_spawner import image
from ds01_spawner.adapters.build_logs import BuildLogs
from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.allocator import LeaseDraft
from ds01_spawner.core import Images, ImageStore, Offers
from ds01_spawner.core.stock import Start, Starts
from ds01_spawner.errors import EngineUnavailable, NothingFree, RequestRefused
from ds01_spawner.keeping import Bounds
from ds01_spawner.mlc import BASE_IMAGE_LABEL, MAINTAINER_LABEL
from ds01_spawner.model import (
    BuildOutcome,
    BuildRecord,
    GpuWish,
    ImageUse,
    Lease,
    ServerRequest,
)
from ds01_spawner.templating import read_dockerfile

from .shelf import DAY, HOUR, MEGABYTE, NOW, Shelf

pytest_plugins = ["tests.adapters.shelf"]
pytestmark = pytest.mark.docker

BASE = "lab/base:1"
BASE_LAYERS = {"base": 3 * MEGABYTE}
CATALOG = f"Pytorch, 2.8.0, CUDA_ADA, {BASE}\n"
OLD, OLDER, NEW = ("ds01/image:" + digits for digits in ("0" * 16 + "-0", "1" * 16 + "-0", "2" * 16 + "-0"))
MONTH = Bounds(max_age=30 * DAY, grace=HOUR)
CPU = ServerRequest(profile="cpu", framework="Pytorch")
VISION = replace(CPU, profile="vision", use_case="cv")


def refuse_to_read() -> Any:
    raise AssertionError("neither limits nor accounts are asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The use cases on the shelf; `now` is their clock's."""

    shelf: Shelf
    images: Images
    store: ImageStore
    offers: Offers

    def load(self, name: str, *, size: int = MEGABYTE, **kwargs: Any) -> str:
        """Load an image on the base, with a layer of its own."""
        layers = BASE_LAYERS | {f"layer-{secrets.token_hex(4)}": size}
        return self.shelf.load(name, layers=layers, labels={BASE_IMAGE_LABEL: BASE}, **kwargs)

    def name_of(self, request: ServerRequest, *, base_id: str = "") -> str:
        """Return how the image of a request is called, on a base or on that of now."""
        base = self.offers.base_of(request)
        found = base_id or self.shelf.client.inspect_image(BASE)["Id"]
        return image.tag(self.images.spec(base, found, request), read_dockerfile("Dockerfile.j2"))

    def use(self, name: str, user: str, ago: timedelta) -> None:
        self.shelf.ledger.note_use(ImageUse(tag=name, user=user, last_used_at=NOW - ago))

    def lease(self, user: str, *, waits: bool = False) -> Lease | None:
        """Give a user a pending lease, or a place in the queue."""
        draft = LeaseDraft(
            user=user,
            server="",
            container_name=f"jupyter._.{user}",
            group="student",
            nonce=secrets.token_hex(8),
            created_at=NOW,
            deadline=NOW + HOUR,
        )
        if not waits:
            return self.shelf.ledger.reserve(draft, lambda _view: ())

        def refuse(_view: object) -> tuple[()]:
            raise NothingFree("Nothing is free.")

        wish = GpuWish(user=user, profile="full", count=1, requested_at=NOW)
        with pytest.raises(NothingFree):
            self.shelf.ledger.reserve(draft, refuse, wish=wish, queue_limit=9)
        return None

    def prune(
        self, *requests: ServerRequest, bounds: Bounds = MONTH, problems: tuple[str, ...] = (), **kwargs: Any
    ) -> dict[str, str]:
        """Prune, and return why each image stays, and "gone" for one that went."""
        pruned = self.store.prune(offer(*requests, problems=problems), bounds, **kwargs)
        assert pruned.problems == problems
        return {
            name: one.why if one.is_kept else "gone" for one in pruned.verdicts for name in one.image.names
        }


def offer(*requests: ServerRequest, problems: tuple[str, ...] = ()) -> Starts:
    starts = tuple(Start(profile=request.profile, request=request) for request in requests)
    return Starts(starts=starts, problems=problems)


def open_store(shelf: Shelf, engine: DockerEngine, folder: Path) -> Store:
    offers = Offers(
        ledger=shelf.ledger,
        read_catalog=lambda: CATALOG,
        read_limits=refuse_to_read,
        find_account=lambda _login: refuse_to_read(),
        open_mounts=lambda _account, _wishes: refuse_to_read(),
        architecture="CUDA_ADA",
        environ={},
    )
    images = Images(
        engine=engine,
        builder=Builder(docker_command=("/none",), docker_host=shelf.docker_host),
        ledger=shelf.ledger,
        logs=BuildLogs(folder / "builds"),
        hub_version="6.1",
    )
    store = ImageStore(
        engine=engine,
        ledger=shelf.ledger,
        images=images,
        offers=offers,
        bounds=Bounds(grace=HOUR),
        clock=lambda: NOW,
    )
    return Store(shelf=shelf, images=images, store=store, offers=offers)


@pytest.fixture
def store(shelf: Shelf, shelf_engine: DockerEngine, tmp_path: Path) -> Store:
    shelf.load(BASE, layers=BASE_LAYERS)
    return open_store(shelf, shelf_engine, tmp_path)


# list


def test_each_image_is_listed_with_all_that_is_known_of_it(store: Store) -> None:
    name = store.name_of(CPU)
    image_id = store.load(name, size=2 * MEGABYTE)
    store.use(name, "ada", DAY)
    store.use(name, "bob", 3 * DAY)
    record = BuildRecord(
        tag=name,
        base=BASE,
        user="ada",
        summary="Pytorch 2.8.0, with six",
        started_at=NOW - 5 * DAY,
        ended_at=NOW - 5 * DAY + HOUR,
        outcome=BuildOutcome.BUILT,
    )
    store.shelf.ledger.write_build(record)
    store.shelf.ledger.write_build(replace(record, outcome=BuildOutcome.FAILED, ended_at=NOW - DAY))
    container = store.shelf.contain(name, "vision._.1001")
    assert container

    stock = store.store.stock(offer(CPU, replace(CPU, profile="other"), VISION))
    (listed,) = stock.images
    stored = listed.stored
    assert (stored.id, stored.names) == (image_id, (name,))
    assert (stored.size, stored.shared_size) == (5 * MEGABYTE, 3 * MEGABYTE)
    assert [(use.user, use.last_used_at) for use in stored.uses] == [
        ("ada", NOW - DAY),
        ("bob", NOW - 3 * DAY),
    ]
    assert (stored.made_at, stored.last_used_at) == (NOW - 5 * DAY + HOUR, NOW - DAY)
    assert (listed.base, listed.build, listed.is_outdated) == (BASE, record, False)
    assert (listed.containers, listed.profiles) == (("vision._.1001",), ("cpu", "other"))
    assert [(one.profiles, one.built and one.built.tag, one.is_current) for one in stock.profiles] == [
        (("cpu", "other"), name, True),
        (("vision",), None, False),
    ]
    assert (stock.at, stock.build_cache, stock.own, stock.problems) == (NOW, 0, (), ())


def test_what_was_used_last_comes_first_and_what_is_not_ours_is_left_out(store: Store) -> None:
    store.load(OLD)
    store.load(OLDER)
    store.load(NEW, made_at=NOW - 50 * DAY)
    store.use(OLD, "ada", 3 * DAY)
    store.shelf.load("ds01/images:1", "lab/ds01/image:1", layers={"foreign": MEGABYTE})
    listed = store.store.stock(Starts()).images
    assert [one.stored.names for one in listed] == [(OLD,), (NEW,), (OLDER,)]


def test_base_that_was_pulled_anew_is_noticed_and_its_images_stay_in_use(store: Store) -> None:
    before = store.shelf.client.inspect_image(BASE)["Id"]
    older = store.name_of(CPU)
    store.load(older)
    store.shelf.load(BASE, layers=BASE_LAYERS | {"newer": MEGABYTE})
    stock = store.store.stock(offer(CPU))
    (listed,) = stock.images
    assert (listed.is_outdated, listed.profiles) == (True, ("cpu",))
    (wanted,) = stock.profiles
    assert wanted.built is not None
    assert (wanted.built.tag, wanted.is_current) == (older, False)
    assert store.prune(CPU) == {older: "needed by profile cpu"}

    store.load(store.name_of(CPU))
    assert store.name_of(CPU, base_id=before) == older
    assert store.prune(CPU) == {older: "gone", store.name_of(CPU): "needed by profile cpu"}


def test_base_that_has_gone_makes_no_image_an_older_one(store: Store) -> None:
    name = store.name_of(CPU)
    store.load(name)
    store.shelf.client.remove_image(BASE)
    stock = store.store.stock(offer(CPU))
    assert [one.is_outdated for one in stock.images] == [False]
    assert [one.is_current for one in stock.profiles] == [True]


def test_images_that_people_made_are_listed_and_never_pruned(store: Store) -> None:
    labels = {BASE_IMAGE_LABEL: BASE, MAINTAINER_LABEL: "Ada"}
    store.shelf.load("thesis-ada-image:latest", layers={"own": MEGABYTE}, labels=labels)
    # Not by its name, not by its label, and a container's.
    store.shelf.load("thesis-bob-image:latest", layers={"x": 1}, labels={MAINTAINER_LABEL: "Ada"})
    store.shelf.load("a-ada-image:latest", layers={"y": 1})
    store.shelf.load("vision-ada-image:1001", layers={"z": 1}, labels={MAINTAINER_LABEL: "Ada"})
    store.shelf.contain("thesis-ada-image", "mine._.1001")
    (own,) = store.store.stock(Starts()).own
    assert (own.name, own.user, own.base, own.size) == ("thesis-ada-image", "Ada", BASE, MEGABYTE)
    assert own.containers == ("mine._.1001",)
    there = store.shelf.names
    assert store.prune(bounds=Bounds(max_age=timedelta(0), budget=0, grace=timedelta(0))) == {}
    assert store.shelf.names == there


def test_profile_whose_base_is_not_known_is_told_and_the_others_are_found(store: Store) -> None:
    lost = replace(CPU, profile="lost", framework="Caffe")
    stock = store.store.stock(offer(lost, CPU))
    assert [one.profiles for one in stock.profiles] == [("cpu",)]
    (said,) = stock.problems
    assert said.startswith("Profile lost: ")


# prune


def test_what_nobody_used_for_too_long_goes_with_its_uses(store: Store) -> None:
    for name in (OLD, NEW):
        store.load(name)
    store.use(OLD, "ada", 31 * DAY)
    store.use(NEW, "ada", 29 * DAY)
    foretold = store.prune(dry_run=True)
    assert foretold == {OLD: "gone", NEW: "used 29 days ago"}
    assert store.shelf.names == {BASE, OLD, NEW}
    assert store.prune() == foretold
    assert store.shelf.names == {BASE, NEW}
    assert [use.tag for use in store.shelf.ledger.image_uses()] == [NEW]


def test_least_recently_used_goes_until_the_budget_holds(store: Store) -> None:
    for name, days in ((OLD, 9), (OLDER, 12), (NEW, 3)):
        store.load(name, size=2 * MEGABYTE)
        store.use(name, "ada", days * DAY)
    bounds = Bounds(budget=4 * MEGABYTE, grace=HOUR)
    assert store.prune(bounds=bounds) == {OLDER: "gone", OLD: "used 9 days ago", NEW: "used 3 days ago"}
    assert store.shelf.names == {BASE, OLD, NEW}


def test_what_a_container_a_profile_or_a_start_needs_stays(store: Store) -> None:
    needed = store.name_of(VISION)
    for name in (OLD, OLDER, NEW, needed):
        store.load(name)
    store.shelf.contain(OLD, "vision._.1001")
    store.use(OLDER, "ada", HOUR / 2)
    store.use(NEW, "bob", HOUR / 2)
    store.lease("ada")
    store.lease("bob", waits=True)
    tight = Bounds(max_age=timedelta(0), budget=0, grace=HOUR)
    assert store.prune(VISION, bounds=tight) == {
        OLD: "needed by container vision._.1001",
        OLDER: "needed by a start of ada",
        NEW: "needed by a start of bob",
        needed: "needed by profile vision",
    }
    assert store.shelf.names == {BASE, OLD, OLDER, NEW, needed}


def test_what_was_named_just_now_or_has_a_strangers_name_stays(store: Store) -> None:
    named, foreign = store.load(OLD), store.load(NEW)
    store.shelf.client.tag(named, "ds01/image", OLDER.rpartition(":")[2])
    store.shelf.load("mine:1", layers={"x": 1})
    assert foreign
    assert store.prune() == {
        OLD: "used or built only just now",
        OLDER: "used or built only just now",
        NEW: "gone",
    }


def test_budget_has_no_effect_while_not_all_that_profiles_need_is_known(store: Store) -> None:
    store.load(OLD)
    store.load(NEW)
    store.use(NEW, "ada", DAY)
    unknown = ("`profile_list` is a function.",)
    only_budget = Bounds(budget=0, grace=HOUR)
    assert "gone" not in store.prune(bounds=only_budget, problems=unknown).values()
    both = Bounds(max_age=30 * DAY, budget=0, grace=HOUR)
    assert store.prune(bounds=both, problems=unknown) == {OLD: "gone", NEW: "used 24 hours ago"}


class RemovesSlowly(DockerEngine):
    """An engine that takes so long to remove an image that something happens meanwhile."""

    meanwhile: Callable[[], object]

    def remove_name(self, name: str) -> bool:
        is_removed = super().remove_name(name)
        self.meanwhile()
        return is_removed


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda store: store.use(NEW, "ada", timedelta(0)), "used or built only just now"),
        (lambda store: store.shelf.contain(NEW, "vision._.1001"), "needed by container vision._.1001"),
        (
            lambda store: store.shelf.client.tag(NEW, "vision-ada-image", "1001"),
            "also called vision-ada-image:1001",
        ),
    ],
)
def test_image_that_a_start_takes_while_others_are_removed_stays(
    shelf: Shelf, tmp_path: Path, happens: Callable[[Store], object], why: str
) -> None:
    engine = RemovesSlowly(docker_host=shelf.docker_host)
    store = open_store(shelf, engine, tmp_path)
    engine.meanwhile = lambda: happens(store)
    store.load(OLD, made_at=NOW - 200 * DAY)
    store.load(NEW)
    assert store.prune() == {OLD: "gone", NEW: why}
    assert NEW in shelf.names


class MakesContainers(DockerEngine):
    """An engine on which a container appears right before an image is removed."""

    shelf: Shelf

    def remove_name(self, name: str) -> bool:
        self.shelf.contain(name, "vision._.1001")
        return super().remove_name(name)


def test_image_whose_container_came_at_the_last_moment_is_kept_by_docker(
    shelf: Shelf, tmp_path: Path
) -> None:
    engine = MakesContainers(docker_host=shelf.docker_host)
    engine.shelf = shelf
    store = open_store(shelf, engine, tmp_path)
    store.load(OLD)
    store.use(OLD, "ada", 40 * DAY)
    assert store.prune() == {OLD: "needed by a container that was made just now"}
    assert OLD in shelf.names
    assert [use.tag for use in shelf.ledger.image_uses()] == [OLD]


class LosesOneImage(DockerEngine):
    """An engine that answers to one removal with a fault of its own."""

    def remove_name(self, name: str) -> bool:
        if name == OLD:
            raise EngineUnavailable("Docker failed.", detail="input/output error")
        return super().remove_name(name)


def test_image_that_docker_cannot_remove_does_not_keep_the_others(shelf: Shelf, tmp_path: Path) -> None:
    store = open_store(shelf, LosesOneImage(docker_host=shelf.docker_host), tmp_path)
    store.load(OLD, made_at=NOW - 200 * DAY)
    store.load(NEW)
    assert store.prune() == {OLD: "not removed by Docker: input/output error", NEW: "gone"}
    assert shelf.names == {OLD}


def test_image_of_a_server_that_runs_for_weeks_counts_as_used(store: Store) -> None:
    store.load(OLD)
    store.load(NEW)
    store.use(OLD, "ada", 40 * DAY)
    lease = store.lease("ada")
    assert lease is not None
    store.shelf.ledger.activate(lease.id, store.shelf.contain(OLD, "jupyter._.ada"), NOW)
    store.shelf.contain(NEW, "somebody-elses")
    store.store.note_running()
    (use,) = store.shelf.ledger.image_uses()
    assert (use.tag, use.user, use.last_used_at) == (OLD, "ada", NOW)


# remove


def test_image_is_removed_by_the_beginning_of_its_name(store: Store) -> None:
    store.load(OLD)
    store.load(NEW)
    (foretold,) = store.store.remove(["0000"], Starts(), dry_run=True)
    assert (foretold.image.names, store.shelf.names) == ((OLD,), {BASE, OLD, NEW})
    (removal,) = store.store.remove(["0000"], Starts())
    assert (removal, store.shelf.names) == (foretold, {BASE, NEW})


def test_image_that_a_profile_needs_goes_when_it_is_asked_for_and_says_so(store: Store) -> None:
    name = store.name_of(CPU)
    store.load(name)
    (removal,) = store.store.remove([name], offer(CPU))
    assert removal.profiles == ("cpu",)
    assert name not in store.shelf.names


def test_images_go_all_or_none(store: Store) -> None:
    alike = ("ds01/image:" + "4" * 16 + "-0", "ds01/image:" + "4" * 16 + "-1")
    for name in (OLD, OLDER, NEW, *alike):
        store.load(name)
    store.shelf.contain(NEW, "vision._.1001")
    store.use(OLDER, "ada", HOUR / 2)
    store.lease("ada", waits=True)
    there = store.shelf.names
    for second, said in (
        ("2222", "is needed by container vision._.1001, so it stays"),
        ("1111", "is needed by a start of ada, so it stays"),
        ("3333", "No image '3333' is here"),
        ("ds01/image:", "No image 'ds01/image:' is here"),
        ("lab/base:1", "No image 'lab/base:1' is here"),
        ("4", "'4' may be each of "),
    ):
        with pytest.raises(RequestRefused) as caught:
            store.store.remove(["0000", second], Starts())
        assert said in str(caught.value)
        assert store.shelf.names == there


# builds


def test_builds_of_an_image_are_found_by_the_beginning_of_its_name_be_it_gone(store: Store) -> None:
    for place, name in enumerate((OLD, NEW, OLD)):
        record = BuildRecord(
            tag=name,
            base=BASE,
            user="ada",
            summary=str(place),
            started_at=NOW,
            ended_at=NOW,
            outcome=BuildOutcome.FAILED,
        )
        store.shelf.ledger.write_build(record)
    assert [record.summary for record in store.store.builds()] == ["2", "1", "0"]
    assert [record.summary for record in store.store.builds("0000")] == ["2", "0"]
    with pytest.raises(RequestRefused, match="No image '9' was built here of late"):
        store.store.builds("9")
