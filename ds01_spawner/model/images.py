"""Images: in the catalog, as a base, as something to build, and built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One line of AIME's `ml_images.repo`."""

    framework: str
    version: str
    architectures: tuple[str, ...]
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """The image a build starts FROM, and how it was found.

    `framework` and `version` are the catalog's own spelling (for a custom base: `custom` and the
    tag). `warning` is a sentence for the person when it is not exactly what she asked for.
    """

    framework: str
    version: str
    architecture: str
    image: str
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Everything that goes into one built image, in the order of its layers.

    `base_id` is the base image's content id, `runtime_id` that of the image a missing Python is
    copied from ("" when none is configured). Two equal specs give one image.
    """

    base: str
    base_id: str
    hub_version: str
    runtime_image: str = ""
    runtime_id: str = ""
    base_packages: tuple[str, ...] = ()
    base_system_packages: tuple[str, ...] = ()
    use_case: str = "none"
    use_case_packages: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """The image a server runs: its tag and content id, its labels, whether it was built just now."""

    tag: str
    id: str
    was_built: bool
    labels: Mapping[str, str] = field(default_factory=dict)
