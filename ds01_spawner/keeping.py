"""Which built images stay on the disk and which go, and why: by what needs them, their age and a budget.

What a container, a start under way or a profile needs is never removed, nor what was used or built only just
now. Of the rest the least recently used goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ds01_spawner.model import ImageUse


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of ours as it lies on the disk; `names` are ours, `other_names` what else it is called.

    Sizes are in bytes; `shared_size` is what lies in layers that other images have as well. `tagged_at` is
    when Docker gave it a name last, which each start of a server does.
    """

    id: str
    names: tuple[str, ...]
    made_at: datetime
    tagged_at: datetime
    size: int
    shared_size: int = 0
    other_names: tuple[str, ...] = ()
    uses: tuple[ImageUse, ...] = ()

    @property
    def own_size(self) -> int:
        """What comes free when it goes."""
        return max(0, self.size - self.shared_size)

    @property
    def last_used_at(self) -> datetime | None:
        """When a server was last started from it, None for never."""
        return max((use.last_used_at for use in self.uses), default=None)

    @property
    def touched_at(self) -> datetime:
        """When it was used last, or built."""
        return max(self.made_at, self.tagged_at, self.last_used_at or self.made_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is needed now: by containers (names, by the image's id), by profiles (slugs, by the image's name;
    "" where the site has none), and by users whose servers start or wait for a GPU.
    """

    containers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    profiles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    starting: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long an unused image stays, and how many bytes all may have for themselves; None is no bound.

    Whatever was touched within `grace` stays: a start of it may be under way.
    """

    max_age: timedelta | None = None
    budget: int | None = None
    grace: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one image, and why."""

    image: StoredImage
    is_kept: bool
    why: str


def judge(
    images: Collection[StoredImage], needs: Needs, bounds: Bounds, now: datetime
) -> tuple[Verdict, ...]:
    """Return a verdict on each image: first those that go, in this order, then those that stay.

    The budget counts what each image has for itself, as `docker system df` does, of all images that stay.
    """
    removed: list[Verdict] = []
    kept: list[Verdict] = []
    spare: list[StoredImage] = []
    for image in sorted(images, key=lambda one: (one.touched_at, one.id)):
        need = find_need(image, needs, bounds, now)
        if need:
            kept.append(Verdict(image=image, is_kept=True, why=need))
        elif bounds.max_age is not None and now - image.touched_at > bounds.max_age:
            removed.append(Verdict(image=image, is_kept=False, why=_say_last_use(image, now)))
        else:
            spare.append(image)
    left = sum(image.own_size for image in (*spare, *(one.image for one in kept)))
    for image in spare:
        if bounds.budget is None or left <= bounds.budget:
            kept.append(Verdict(image=image, is_kept=True, why=_say_last_use(image, now)))
            continue
        left -= image.own_size
        why = f"{_say_last_use(image, now)}, and all together are over the budget"
        removed.append(Verdict(image=image, is_kept=False, why=why))
    return (*removed, *kept)


def find_need(image: StoredImage, needs: Needs, bounds: Bounds, now: datetime) -> str:
    """Return why an image must stay, whatever the bounds; "" for one that may go."""
    user = find_user(image, needs, bounds, now)
    if user:
        return user
    profiles = find_profiles(image, needs)
    if profiles:
        return f"needed by {_list('profile', profiles) if any(profiles) else 'starts without a profile'}"
    if image.other_names:
        return f"also called {image.other_names[0]}"
    if now - image.touched_at <= bounds.grace:
        return "used or built only just now"
    return ""


def find_profiles(image: StoredImage, needs: Needs) -> tuple[str, ...]:
    """Return which profiles need an image."""
    return tuple(dict.fromkeys(slug for name in image.names for slug in needs.profiles.get(name, ())))


def find_user(image: StoredImage, needs: Needs, bounds: Bounds, now: datetime) -> str:
    """Return which containers or starts have an image; "" for none."""
    containers = needs.containers.get(image.id, ())
    if containers:
        return f"needed by {_list('container', containers)}"
    starting = [
        use.user
        for use in image.uses
        if use.user in needs.starting and now - use.last_used_at <= bounds.grace
    ]
    return f"needed by a start of {starting[0]}" if starting else ""


def _list(noun: str, names: Collection[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _say_last_use(image: StoredImage, now: datetime) -> str:
    if image.last_used_at is None:
        return f"built {_say_ago(now - image.touched_at)} and not used since"
    return f"used {_say_ago(now - image.touched_at)}"


def _say_ago(span: timedelta) -> str:
    hours = max(0, int(span.total_seconds() // 3600))
    number, noun = (hours // 24, "day") if hours >= 48 else (hours, "hour")
    if not number:
        return "less than an hour ago"
    return f"{number} {noun}{'' if number == 1 else 's'} ago"
