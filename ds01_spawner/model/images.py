"""Images: in the catalog, as a base, as something to build, and built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from .gpus import LOCAL_NODE


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
class PackageProblem:
    """Why an image with what she asked for cannot be built, found out before the build.

    `field` is the option that it belongs to: packages, requirements or system_packages. `package` is what
    is written there, `sentence` says why and what to try. `is_buildable` means that pip would build it,
    with something in the image that does not work any more.
    """

    field: str
    package: str
    sentence: str
    is_buildable: bool = False


class BuildOutcome(Enum):
    """How a build ended."""

    BUILT = "built"
    FAILED = "failed"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """One build that was tried: what, for whom, how long, and what came of it.

    `summary` is what went in, in a few words; `reused` of its `steps` had been built before; `why` is the
    sentence that she read when it failed; `log` the name under which its log is kept, "" for none.
    """

    tag: str
    base: str
    user: str
    summary: str
    started_at: datetime
    ended_at: datetime
    outcome: BuildOutcome
    steps: int = 0
    reused: int = 0
    why: str = ""
    log: str = ""
    node: str = LOCAL_NODE

    @property
    def duration(self) -> timedelta:
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUse:
    """That a user's servers ran from an image, and when one of them was started last."""

    tag: str
    user: str
    last_used_at: datetime
    node: str = LOCAL_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """The image a server runs: its tag and content id, its labels.

    `is_outdated` means that its base image was pulled anew since. `build` is how it was built if that was
    just now, None for one that was found.
    """

    tag: str
    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_outdated: bool = False
    build: BuildRecord | None = None
