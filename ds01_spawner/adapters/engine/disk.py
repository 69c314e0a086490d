"""What images and build cache take on the disk, who needs them, and how they are removed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker.errors
from docker.utils import version_gte

from ...errors import EngineUnavailable
from .connection import ASK_ADMIN, translated
from .images import ImageCalls
from .times import read_time

log = logging.getLogger(__name__)

# Docker 28.0, where `keep-storage` got another name.
_API_WITH_RESERVED_SPACE = "1.48"
_SLOW_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What `docker system df` says, in bytes: of each image by its id, size and what of it others share;
    of the build cache what no image holds.
    """

    sizes: Mapping[str, tuple[int, int]]
    build_cache: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNames:
    """All names of an image, when it was built, and when Docker gave it a name last."""

    names: tuple[str, ...]
    made_at: datetime
    tagged_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """A container, stopped or running, and the id of the image that it was made from."""

    id: str
    name: str
    image_id: str


class DiskCalls(ImageCalls):
    """What is asked about disk space."""

    def disk_usage(self) -> DiskUsage:
        """Return what images and build cache take; layers that two images have count in both, as shared."""
        # docker-py's df() takes no parameters, and would have each container and volume measured.
        url = self.client._url("/system/df")
        try:
            with translated("measuring the images"):
                answer = self.client._get(url, params={"type": ["image", "build-cache"], "verbose": 1})
                return read_usage(self.client._result(answer, json=True))
        except docker.errors.NotFound as exc:
            raise EngineUnavailable(
                f"An image went away while Docker measured them all. {ASK_ADMIN}", detail=str(exc)
            ) from exc

    def names_of(self, image_id: str) -> ImageNames | None:
        """Return what an image is called, None if it has gone."""
        try:
            with translated(f"looking at the image {image_id}"):
                found = self.client.inspect_image(image_id)
        except docker.errors.NotFound:
            return None
        made_at = read_time(found["Created"])
        tagged_at = (found.get("Metadata") or {}).get("LastTagTime")
        return ImageNames(
            names=tuple(found["RepoTags"] or ()),
            made_at=made_at,
            tagged_at=read_time(tagged_at) if tagged_at else made_at,
        )

    def container_images(self) -> tuple[ContainerImage, ...]:
        """Return what all containers are made from, stopped ones too."""
        with translated("listing containers"):
            rows = self.client.containers(all=True)
        return tuple(
            ContainerImage(
                id=row["Id"], name=(row["Names"] or [row["Id"][:12]])[0].strip("/"), image_id=row["ImageID"]
            )
            for row in rows
        )

    def remove_name(self, name: str) -> bool:
        """Remove an image by one of its names, or only the name while it has another; gone already is fine.

        Returns False where Docker keeps it, since a container is made from it.
        """
        try:
            url = self.client._url("/images/{0}", name)
            with translated(f"removing the image {name}"):
                # docker-py's remove_image waits no longer than for any call, and layers may be large.
                self.client._raise_for_status(self.client._delete(url, timeout=_SLOW_SECONDS))
        except docker.errors.NotFound:
            log.debug("the image %s has gone already", name)
        except EngineUnavailable as exc:
            if getattr(exc.__cause__, "status_code", None) != 409:
                raise
            log.debug("the image %s stays: %s", name, exc.detail)
            return False
        return True

    def prune_build_cache(self, budget: int) -> int:
        """Remove what was used longest ago of the build cache until it has `budget` bytes; returns how many
        came free. What images hold, or a build uses now, stays.
        """
        name = "keep-storage"
        if version_gte(self.client.api_version, _API_WITH_RESERVED_SPACE):
            name = "reserved-space"
        url = self.client._url("/build/prune")
        with translated("pruning the build cache"):
            # docker-py's prune_builds knows the older name only, and waits as little.
            answer = self.client._post(url, params={name: budget}, timeout=_SLOW_SECONDS)
            found: dict[str, Any] = self.client._result(answer, json=True)
        return int(found.get("SpaceReclaimed") or 0)


def read_usage(found: Mapping[str, Any]) -> DiskUsage:
    """Read Docker's answer; from Docker 29 on the lists may be a level deeper."""
    images = found.get("Images") or found.get("ImageUsage", {}).get("Items") or ()
    cache = found.get("BuildCache") or found.get("BuildCacheUsage", {}).get("Items") or ()
    return DiskUsage(
        # An engine that has not counted what is shared says -1.
        sizes={row["Id"]: (row["Size"], max(0, row["SharedSize"])) for row in images},
        build_cache=sum(row["Size"] for row in cache if not row["Shared"]),
    )
