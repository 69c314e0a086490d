"""What the service does about built images: it notes which are in use, and removes what the settings say."""

from __future__ import annotations

import logging

from ..site import DS01

log = logging.getLogger(__name__)


def tend_images(site: DS01) -> None:
    """Look after images and build cache once; removals take their time.

    Raises:
        EngineUnavailable, LedgerUnavailable: the rest has to wait for the next time.
    """
    store = site.core.image_store
    store.note_running()
    if store.bounds.max_age is not None or store.bounds.budget is not None:
        _prune(site)
    if store.build_cache_budget is not None:
        freed = store.prune_build_cache(store.build_cache_budget)
        if freed:
            log.info("of the build cache %d bytes are removed: it was over its budget", freed)


def _prune(site: DS01) -> None:
    # Imported here, since it brings the spawner, which a service without bounds has no use for.
    from ..spawner.starts import find_starts

    store = site.core.image_store
    pruned = store.prune(find_starts(site), store.bounds)
    for problem in pruned.problems:
        log.warning("image_disk_budget has no effect, not all that profiles need is known: %s", problem)
    for one in pruned.verdicts:
        if not one.is_kept:
            names = ", ".join(one.image.names)
            log.info("the image %s (%d bytes) is removed: %s", names, one.image.own_size, one.why)
