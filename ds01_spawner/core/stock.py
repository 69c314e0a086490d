"""What images there are, built here or by people themselves, who needs them, and what profiles ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .. import image, keeping, mlc
from ..errors import DS01Error, EngineUnavailable, RequestRefused
from ..keeping import Needs, StoredImage
from ..model import BaseImage, BuildOutcome, BuildRecord, BuiltImage, ImageUse, LeaseState, ServerRequest
from .images import Images, find_key
from .offers import Offers

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine
    from ..adapters.ledger import Ledger

OURS = f"{image.REPOSITORY}:"
"""What the names of all images begin with that the Hub has built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a start of a profile asks for; `profile` is its slug, "" where the site has none."""

    profile: str
    request: ServerRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """All that the site's profiles start; `problems` are sentences on what of it cannot be known."""

    starts: tuple[Start, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileImage:
    """The image that profiles ask for: the one that a start gets now, None where it has to be built first."""

    profiles: tuple[str, ...]
    request: ServerRequest
    base: BaseImage
    built: BuiltImage | None

    @property
    def is_current(self) -> bool:
        """Whether it is there, on the base as it is now."""
        return self.built is not None and not self.built.is_outdated


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """An image of ours with what is known of it; `build` is None where the history does not go back so far.

    `is_outdated` means that its base image was pulled anew since.
    """

    stored: StoredImage
    base: str
    build: BuildRecord | None
    is_outdated: bool
    containers: tuple[str, ...]
    profiles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnImage:
    """An image that a person made herself with `ds01 image create`; it is hers to remove. Sizes in bytes."""

    name: str
    user: str
    base: str
    created_at: datetime
    size: int
    shared_size: int
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """All that there is, as of `at`, what was used last first; `build_cache` in bytes."""

    at: datetime
    images: tuple[ListedImage, ...]
    own: tuple[OwnImage, ...]
    profiles: tuple[ProfileImage, ...]
    build_cache: int
    problems: tuple[str, ...]


class Stocktaker:
    """Looks at images; it changes nothing."""

    def __init__(
        self,
        *,
        engine: DockerEngine,
        ledger: Ledger,
        images: Images,
        offers: Offers,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._images = images
        self._offers = offers
        self._now = clock

    def stock(self, starts: Starts) -> Stock:
        """Return all images of ours, and what profiles ask for."""
        profiles, problems = self.profile_images(starts)
        needs = self._find_needs(profiles)
        usage = self._engine.disk_usage()
        labels = self._find_ours()
        builds = self._find_builds()
        endings: dict[str, str] = {}
        listed = []
        for stored in self._look(labels, usage.sizes):
            build = next((builds[name] for name in stored.names if name in builds), None)
            base = labels[stored.id].get(mlc.BASE_IMAGE_LABEL, "")
            if base not in endings:
                endings[base] = self._images.on_base(base) if base else ""
            ending = endings[base]
            listed.append(
                ListedImage(
                    stored=stored,
                    base=base,
                    build=build,
                    is_outdated=bool(ending)
                    and not any(name.endswith(f"-{ending}") for name in stored.names),
                    containers=needs.containers.get(stored.id, ()),
                    profiles=keeping.find_profiles(stored, needs),
                )
            )
        listed.sort(key=lambda one: one.stored.touched_at, reverse=True)
        return Stock(
            at=self._now(),
            images=tuple(listed),
            own=self._find_own(needs, usage.sizes),
            profiles=profiles,
            build_cache=usage.build_cache,
            problems=problems,
        )

    def profile_images(self, starts: Starts) -> tuple[tuple[ProfileImage, ...], tuple[str, ...]]:
        """Return each image that profiles ask for once, and what of it cannot be known."""
        found: dict[object, ProfileImage] = {}
        problems = dict.fromkeys(starts.problems)
        for start in starts.starts:
            try:
                base = self._offers.base_of(start.request)
                key = find_key(base, start.request)
                if key not in found:
                    built = self._images.find(base, start.request)
                    found[key] = ProfileImage(profiles=(), request=start.request, base=base, built=built)
            except EngineUnavailable:
                raise
            except DS01Error as exc:
                about = f"Profile {start.profile}: " if start.profile else ""
                problems[f"{about}{exc}"] = None
                continue
            known = found[key]
            found[key] = replace(known, profiles=tuple(dict.fromkeys((*known.profiles, start.profile))))
        return tuple(found.values()), tuple(problems)

    def builds(self, text: str = "") -> tuple[BuildRecord, ...]:
        """Return the builds that were tried, the newest first: all, or those of the image that `text` names.

        Raises:
            RequestRefused: none, or several images, may be meant.
        """
        records = self._ledger.builds()
        if not text:
            return records
        name = find_one(text, [record.tag for record in records], "was built here of late")
        return tuple(record for record in records if record.tag == name)

    def _find_own(self, needs: Needs, sizes: Mapping[str, tuple[int, int]]) -> tuple[OwnImage, ...]:
        """Return the images that people made themselves, the newest first."""
        found = []
        for one in self._engine.images_named("*-image:latest"):
            user = one.labels.get(mlc.MAINTAINER_LABEL, "")
            if user and one.name.endswith(f"{mlc.own_image_name('', user)}:latest"):
                size, shared_size = sizes.get(one.id, (one.size, 0))
                own = OwnImage(
                    name=one.name.removesuffix(":latest"),
                    user=user,
                    base=one.labels.get(mlc.BASE_IMAGE_LABEL, ""),
                    created_at=one.created_at,
                    size=size,
                    shared_size=shared_size,
                    containers=needs.containers.get(one.id, ()),
                )
                found.append(own)
        return tuple(found)

    def _look_at_all(self) -> tuple[StoredImage, ...]:
        return tuple(self._look(self._find_ours(), self._engine.disk_usage().sizes))

    def _look(self, ids: Iterable[str], sizes: Mapping[str, tuple[int, int]]) -> Iterator[StoredImage]:
        """Yield the images of these ids; one that has gone meanwhile is left out."""
        uses, builds = self._find_uses(), self._find_builds()
        for image_id in ids:
            found = self._engine.names_of(image_id)
            ours = tuple(name for name in found.names if name.startswith(OURS)) if found else ()
            if found is None or not ours:
                continue
            size, shared_size = sizes.get(image_id, (0, 0))
            built = [builds[name].ended_at for name in ours if name in builds]
            yield StoredImage(
                id=image_id,
                names=ours,
                other_names=tuple(name for name in found.names if name not in ours),
                made_at=max((found.made_at, *built)),
                tagged_at=found.tagged_at,
                size=size,
                shared_size=shared_size,
                uses=tuple(use for name in ours for use in uses[name]),
            )

    def _find_ours(self) -> dict[str, Mapping[str, str]]:
        """Return the labels of each image of ours, by its id."""
        return {one.id: one.labels for one in self._engine.images_named(f"{OURS}*")}

    def _find_uses(self) -> dict[str, list[ImageUse]]:
        uses = defaultdict(list)
        for use in self._ledger.image_uses():
            uses[use.tag].append(use)
        return uses

    def _find_builds(self) -> dict[str, BuildRecord]:
        """Return the newest build of each image."""
        oldest_first = reversed(self._ledger.builds())
        return {one.tag: one for one in oldest_first if one.outcome is BuildOutcome.BUILT}

    def _find_needs(self, profiles: Sequence[ProfileImage]) -> Needs:
        # In this order, and before the uses are read: a start notes its use, then waits or has a pending
        # lease, then has its container, so it is seen at least once on its way.
        waiting = {entry.wish.user for entry in self._ledger.queue()}
        pending = {lease.user for lease in self._ledger.live_leases() if lease.state is LeaseState.PENDING}
        containers: dict[str, tuple[str, ...]] = {}
        for one in self._engine.container_images():
            containers[one.image_id] = (*containers.get(one.image_id, ()), one.name)
        named: dict[str, tuple[str, ...]] = {}
        for wanted in profiles:
            if wanted.built is not None:
                named[wanted.built.tag] = (*named.get(wanted.built.tag, ()), *wanted.profiles)
        return Needs(containers=containers, profiles=named, starting=frozenset(waiting | pending))


def find_one(text: str, names: Iterable[str], where: str) -> str:
    """Return the one name that `text` means.

    Raises:
        RequestRefused: it means none, or may mean several.
    """
    found = image.find_named(text, names)
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestRefused(
            f"No image {text[:80]!r} {where}. `ds01 image list --all` shows those there are."
        )
    raise RequestRefused(f"{text[:80]!r} may be each of {', '.join(found[:9])}. Write more of one.")
