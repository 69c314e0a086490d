"""Images: found, named, looked into."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import docker.errors

from ... import mlc
from ...errors import EngineUnavailable, ImageFailed
from ...image import PROBE_SCRIPT, BaseProbe, parse_probe
from ..processes import own_process
from .connection import Connection, translated

log = logging.getLogger(__name__)

_PROBE_MEMORY = 512 * 1024**2
_PROBE_PIDS = 64
_NAMELESS = "<none>:<none>"  # what Docker 20.10 calls an image without a name
# Go's os.ModeDir, as Docker's path stat has it.
_GO_MODE_DIRECTORY = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """A local image: its content id and its labels."""

    id: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedImage:
    """A name of a local image, `repository:tag`, and what the image is.

    `size` is in bytes, with the layers that it shares with others.
    """

    name: str
    id: str
    labels: Mapping[str, str]
    created_at: datetime
    size: int


class ImageCalls(Connection):
    """What is asked about images."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._image_files: dict[str, dict[str, bytes]] = {}
        self._ulimits: dict[tuple[tuple[str, int], ...], bool] = {}

    def image(self, reference: str) -> ImageInfo | None:
        """Return the local image under that name, tag or id; None if there is none."""
        try:
            with translated(f"looking for the image {reference}"):
                found = self.client.inspect_image(reference)
        except docker.errors.NotFound:
            return None
        labels = (found.get("Config") or {}).get("Labels") or {}
        return ImageInfo(id=found["Id"], labels=dict(labels))

    def images_named(self, pattern: str) -> tuple[NamedImage, ...]:
        """Return the names of local images that match, e.g. `ds01/image:*`, the newest image first."""
        with translated(f"listing the images {pattern}"):
            rows = self.client.images(name=pattern)
        found = [
            NamedImage(
                name=name,
                id=row["Id"],
                labels=dict(row["Labels"] or {}),
                created_at=datetime.fromtimestamp(row["Created"], timezone.utc),
                size=row["Size"],
            )
            for row in rows
            for name in row["RepoTags"] or ()
            if fnmatchcase(name, pattern)
        ]
        return tuple(sorted(found, key=lambda one: one.created_at, reverse=True))

    def image_names(self) -> frozenset[str]:
        """Return the names of all local images, `repository:tag`; one image may have several."""
        with translated("listing images"):
            rows = self.client.images()
        return frozenset(name for row in rows for name in row["RepoTags"] or () if name != _NAMELESS)

    def tag(self, image_id: str, name: str) -> None:
        """Give the image one more name, `repository:tag`."""
        repository, _, tag = name.rpartition(":")
        with translated(f"tagging {name}"):
            self.client.tag(image_id, repository, tag, force=True)

    def untag(self, name: str) -> None:
        """Take a name away; the image stays if it has another. No error if it has gone."""
        try:
            with translated(f"untagging {name}"):
                self.client.remove_image(name, noprune=True)
        except docker.errors.NotFound:
            log.debug("the tag %s has gone already", name)
        except EngineUnavailable as exc:
            if getattr(exc.__cause__, "status_code", None) != 409:
                raise
            # Somebody else runs a container of it, and it is the image's only name.
            log.warning("the tag %s stays: %s", name, exc.detail)

    def remove_nameless(self, image_id: str) -> None:
        """Remove an image that has no name any more and no container; any other stays."""
        try:
            with translated(f"removing the image {image_id}"):
                if not self.client.inspect_image(image_id)["RepoTags"]:
                    self.client.remove_image(image_id)
        except docker.errors.NotFound:
            log.debug("the image %s has gone already", image_id)
        except EngineUnavailable as exc:
            if getattr(exc.__cause__, "status_code", None) != 409:
                raise
            log.debug("the image %s is used: %s", image_id, exc.detail)

    def probe(self, reference: str) -> BaseProbe:
        """Return what a base image offers (Python, pip, …), by running a script in it without network.

        Raises:
            ImageFailed: it has ONBUILD instructions: they would run in our build, with the site's secrets.
            RequestRefused: it has a label whose name breaks AIME's `mlc list`.
        """
        with translated(f"looking into the image {reference}"):
            config = self.client.inspect_image(reference).get("Config") or {}
        if config.get("OnBuild"):
            raise ImageFailed(
                f"The base image {reference} has ONBUILD instructions of its own, which are not run here. "
                "Choose another base image.",
                detail=str(config["OnBuild"])[:2000],
            )
        output = self._run(reference, PROBE_SCRIPT)
        return parse_probe(output)

    def _run(self, reference: str, script: str, **host_config: object) -> str:
        """Run `/bin/sh -c script` in a throw-away container and return what it printed."""
        # The image may be a student's own: it gets no GPU, no capability and little of the machine.
        config = self.client.create_host_config(
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=_PROBE_MEMORY,
            pids_limit=_PROBE_PIDS,
            # Should this process be killed meanwhile.
            auto_remove=True,
            **host_config,
        )
        with translated(f"looking into the image {reference}"):
            made = self.client.create_container(
                reference,
                entrypoint=["/bin/sh"],
                command=["-c", script],
                environment={"NVIDIA_VISIBLE_DEVICES": "void"},
                host_config=config,
                user="0",
                **self._look(reference),
            )
            try:
                # Before its start: it is gone at its end, and what it printed with it.
                output = self.client.attach(made["Id"], stdout=True, stderr=False, stream=True)
                self.client.start(made["Id"])
                return b"".join(output).decode(errors="replace")
            finally:
                self._throw_away(made["Id"])

    def _look(self, reference: str) -> dict[str, Any]:
        """Return what marks a container as ours to look into an image, and to be removed once we are gone."""
        config = self.client.inspect_image(reference).get("Config") or {}
        labels = mlc.look_labels(config.get("Labels") or {}, own_process())
        return {"name": f"{mlc.LOOK_NAME}{secrets.token_hex(8)}", "labels": labels}

    def _throw_away(self, container_id: str) -> None:
        try:
            self.client.remove_container(container_id, force=True, v=True)
        except docker.errors.APIError as exc:
            # Gone, or going by itself.
            if exc.status_code not in (404, 409):
                raise

    def supports_ulimits(self, reference: str, ulimits: Mapping[str, int]) -> bool:
        """Whether this engine may set those ulimits (one without CAP_SYS_RESOURCE may not); asked once."""
        key = tuple(sorted(ulimits.items()))
        if key not in self._ulimits:
            wanted = [{"Name": name, "Soft": value, "Hard": value} for name, value in key]
            try:
                self._run(reference, ":", ulimits=wanted)
                self._ulimits[key] = True
            except EngineUnavailable as exc:
                if "rlimit" not in exc.detail:
                    raise
                log.warning("this Docker cannot set the ulimits %s: servers start without them", dict(key))
                self._ulimits[key] = False
        return self._ulimits[key]

    def image_files(self, image_id: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        """Return files of an image, b"" for one that is not there; looked at once per image.

        Asked of a container without mounts that never runs. A symlink among the directories is refused:
        dockerd follows it when it writes a file, with the mounts in place, as root, into whatever a
        mount's source is by then.

        Raises:
            ImageFailed: a directory on the way to a path is no real directory.
        """
        with self._lock:
            known = self._image_files.setdefault(image_id, {})
        missing = tuple(path for path in paths if path not in known)
        if missing:
            known |= self._read_image_files(image_id, missing)
        return {path: known[path] for path in paths}

    def _read_image_files(self, image_id: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        with translated(f"looking into the image {image_id}"):
            made = self.client.create_container(
                image_id, entrypoint=["/"], network_disabled=True, **self._look(image_id)
            )
            try:
                parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
                for parent in sorted(parents - {"/"}):
                    self._require_directory(made["Id"], parent)
                return {path: self._read_file(made["Id"], path) for path in paths}
            finally:
                self._throw_away(made["Id"])

    def _require_directory(self, container_id: str, path: str) -> None:
        # docker-py has no call for the path's stat alone, and a GET would send the whole directory.
        url = self.client._url("/containers/{0}/archive", container_id)
        answer = self.client.head(url, params={"path": path}, timeout=self._timeout)
        if answer.status_code == 404:
            return
        answer.raise_for_status()
        stat = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        if not stat["mode"] & _GO_MODE_DIRECTORY or stat["linkTarget"]:
            raise ImageFailed(
                f"Your image replaces the directory {path} by something else, so no server can start from "
                "it. Leave out the package that does, or choose another base image.",
                detail=f"{path} in the image is {stat}",
            )

    def _read_file(self, container_id: str, path: str) -> bytes:
        try:
            stream, _ = self.client.get_archive(container_id, path)
        except docker.errors.NotFound:
            return b""
        return _first_file(b"".join(stream))


def _first_file(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            opened = tar.extractfile(member) if member.isfile() else None
            if opened is not None:
                return opened.read()
    return b""
