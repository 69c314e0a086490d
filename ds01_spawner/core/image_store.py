"""What happens to built images when the disk fills, or an admin wants one gone.

Only images under our own name are ever removed. Right before each removal it is looked once more who needs
it, so that a start in between keeps its image.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import keeping
from ..errors import EngineUnavailable, RequestRefused
from ..keeping import Bounds, StoredImage, Verdict
from ..model import ImageUse
from .stock import OURS, ProfileImage, Starts, Stocktaker, find_one

log = logging.getLogger(__name__)

_JUST_MADE = "needed by a container that was made just now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An image that is, or would be, removed, and the profiles whose next start builds it again."""

    image: StoredImage
    profiles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What became, or would become, of each image, and what kept the bounds from being applied in full."""

    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...]


class ImageStore(Stocktaker):
    """Lists and removes built images; `bounds` and `build_cache_budget` (bytes, None for no bound) are the
    site's.
    """

    def __init__(self, *, bounds: Bounds, build_cache_budget: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bounds = bounds
        self.build_cache_budget = build_cache_budget

    def remove(self, texts: Sequence[str], starts: Starts, *, dry_run: bool = False) -> tuple[Removal, ...]:
        """Remove the images that `texts` name; none where one of them cannot go.

        Raises:
            RequestRefused: none or several may be meant, or a container or a start has one; names who.
        """
        profiles, _ = self.profile_images(starts)
        needs = self._find_needs(profiles)
        stored = {name: one for one in self._look_at_all() for name in one.names}
        chosen = {one.id: one for one in (stored[find_one(text, stored, "is here")] for text in texts)}
        for one in chosen.values():
            user = keeping.find_user(one, needs, self.bounds, self._now())
            if user:
                raise _refuse_used(one, user)
        for one in chosen.values():
            if not dry_run and not self._remove(one):
                raise _refuse_used(one, _JUST_MADE)
        return tuple(
            Removal(image=one, profiles=keeping.find_profiles(one, needs)) for one in chosen.values()
        )

    def prune(self, starts: Starts, bounds: Bounds, *, dry_run: bool = False) -> Pruned:
        """Remove what the bounds do not let stay.

        Where it is not known what all profiles need, the budget counts for nothing: what was used within
        the age limit stays.
        """
        profiles, problems = self.profile_images(starts)
        if problems:
            bounds = replace(bounds, budget=None)
        needs = self._find_needs(profiles)
        stored = self._look_at_all()
        verdicts = keeping.judge(stored, needs, bounds, self._now())
        if not dry_run:
            verdicts = tuple(
                verdict if verdict.is_kept else self._apply(verdict, profiles, bounds) for verdict in verdicts
            )
        return Pruned(verdicts=verdicts, problems=problems)

    def prune_build_cache(self, budget: int, *, dry_run: bool = False) -> int:
        """Bring BuildKit's cache down to a budget; returns how many bytes come free, with `dry_run` about."""
        if dry_run:
            return max(0, self._engine.disk_usage().build_cache - budget)
        return self._engine.prune_build_cache(budget)

    def note_running(self) -> None:
        """Record what servers run from as used now: one that runs for a month uses its image all the time."""
        names = defaultdict(list)
        for one in self._engine.images_named(f"{OURS}*"):
            names[one.id].append(one.name)
        users = {lease.container_id: lease.user for lease in self._ledger.live_leases() if lease.container_id}
        for container in self._engine.container_images():
            if container.id in users:
                for name in names[container.image_id]:
                    use = ImageUse(tag=name, user=users[container.id], last_used_at=self._now())
                    self._ledger.note_use(use)

    def _apply(self, verdict: Verdict, profiles: Sequence[ProfileImage], bounds: Bounds) -> Verdict:
        """Remove an image unless somebody has come to need it."""
        try:
            needs = self._find_needs(profiles)
            for fresh in self._look((verdict.image.id,), {}):
                need = keeping.find_need(fresh, needs, bounds, self._now())
                if not need and not self._remove(fresh):
                    need = _JUST_MADE
                if need:
                    return replace(verdict, is_kept=True, why=need)
        except EngineUnavailable as exc:
            # The others may well go.
            log.warning("the image %s stays: %s", verdict.image.names[0], exc.detail)
            return replace(verdict, is_kept=True, why=f"not removed by Docker: {exc.detail}")
        return verdict

    def _remove(self, stored: StoredImage) -> bool:
        """Remove all our names of an image; False where Docker keeps one."""
        for name in stored.names:
            if not self._engine.remove_name(name):
                return False
            self._ledger.forget_image(name)
        return True


def _refuse_used(stored: StoredImage, user: str) -> RequestRefused:
    return RequestRefused(f"The image {stored.names[0]} is {user}, so it stays. End that first.")
