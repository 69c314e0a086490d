"""The use cases, synchronous: what is free, the image, the lease, and how it ends.

`Core` is made of twelve parts, each with the adapters it needs by constructor: `Offers` (what she may
have), `Prospects` (what a start would meet now), `Images` (resolve and build), `ImageStore` (list, remove
and prune what was built), `Previews` (which image a start would find), `Leases` (reserve, activate, settle),
`SelfTest` (that a server sees its GPUs alone), `Lifetimes` (watch running servers, warn, extend and end
them), `Servers` (what people see of them), `Upkeep` (reconcile, read the GPUs), `Admin` (look, allocate,
release, drain), `Adoptions` (take over AIME's containers). None of them awaits.
"""

from __future__ import annotations

from dataclasses import dataclass

from .admin import Admin
from .adoptions import Adoptions
from .bases import BaseSupply
from .image_store import ImageStore
from .images import Images
from .leases import Leases
from .lifetimes import Lifetimes
from .offers import Offers
from .previews import Previews
from .prospects import Prospects
from .self_test import SelfTest
from .servers import Servers
from .upkeep import Upkeep

__all__ = [
    "Admin",
    "Adoptions",
    "BaseSupply",
    "Core",
    "ImageStore",
    "Images",
    "Leases",
    "Lifetimes",
    "Offers",
    "Previews",
    "Prospects",
    "SelfTest",
    "Servers",
    "Upkeep",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The twelve parts, for whoever serves people: the spawner, the service, the command line."""

    offers: Offers
    prospects: Prospects
    images: Images
    image_store: ImageStore
    previews: Previews
    leases: Leases
    self_test: SelfTest
    lifetimes: Lifetimes
    servers: Servers
    upkeep: Upkeep
    admin: Admin
    adoptions: Adoptions
