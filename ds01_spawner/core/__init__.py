"""The use cases, synchronous: what is free, the image, the lease, and how it ends.

`Core` is made of four parts, each with the adapters it needs by constructor: `Offers` (what she may
have), `Images` (resolve and build), `Leases` (reserve, activate, settle), `Upkeep` (reconcile, read the
GPUs). None of them awaits.
"""

from __future__ import annotations

from dataclasses import dataclass

from .images import Images
from .leases import Leases
from .offers import Offers
from .upkeep import Upkeep

__all__ = ["Core", "Images", "Leases", "Offers", "Upkeep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The four parts, for whoever serves people: the spawner, the service, the command line."""

    offers: Offers
    images: Images
    leases: Leases
    upkeep: Upkeep
