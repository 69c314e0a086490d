"""What Docker says of a pull, in words for people: how far it is, and why it failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import docker.auth

from ...errors import ImageFailed, RegistryUnavailable

Event = Mapping[str, Any]
"""A line of Docker's answer to a pull."""

_MEGABYTE = 10**6


class PullProgress:
    """Turns what Docker says of a pull into sentences, one for each tenth that was downloaded."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._tenths = 0

    def read(self, event: Event) -> str | None:
        """Return a sentence if `event` is worth one."""
        layer, status = str(event.get("id", "")), event.get("status")
        if status == "Pulling fs layer":
            self._layers.setdefault(layer, (0, 0))
        elif status == "Downloading":
            detail = event.get("progressDetail") or {}
            self._layers[layer] = int(detail.get("current") or 0), int(detail.get("total") or 0)
        elif status in ("Download complete", "Already exists") and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = total, total
        else:
            return None
        return self._sum_up()

    def _sum_up(self) -> str | None:
        here, total = (sum(sizes) for sizes in zip(*self._layers.values(), strict=True))
        tenths = 10 * here // total if total else 0
        if tenths <= self._tenths:
            return None
        self._tenths = tenths
        # A layer says how large it is only when its turn has come.
        if not all(size for _, size in self._layers.values()):
            return f"Downloaded {here // _MEGABYTE} of at least {total // _MEGABYTE} MB of the base image."
        if here < total:
            return f"Downloaded {here // _MEGABYTE} of {total // _MEGABYTE} MB of the base image."
        return f"Downloaded all {total // _MEGABYTE} MB of the base image; unpacking it."


def explain_pull(reference: str, remote: str, said: str) -> ImageFailed:
    """Return what a pull failed of, with what to do; `said` are Docker's words."""
    registry, _ = docker.auth.resolve_repository_name(remote)
    for pattern, error, sentence in _CAUSES:
        if re.search(pattern, said, flags=re.IGNORECASE):
            message = sentence.format(registry=registry, reference=reference)
            return error(message, detail=f"pulling {remote}: {said}")
    return ImageFailed(
        f"The base image {reference} could not be downloaded. Choose another version of the framework, or "
        "tell your admin.",
        detail=f"pulling {remote}: {said}",
    )


# In this order: the second words also stand in what Docker Hub says of an image that it does not have.
_CAUSES: tuple[tuple[str, type[ImageFailed], str], ...] = (
    (
        r"pull access denied|repository does not exist",
        ImageFailed,
        "The registry {registry} has no base image {reference}, or gives it to nobody without a login. Check "
        "its name, choose another version of the framework, or tell your admin (c.DS01.registry_login).",
    ),
    (
        r"no basic auth credentials|unauthorized|authentication required|incorrect username|denied",
        ImageFailed,
        "The registry {registry} does not take this server's login, so the base image {reference} cannot be "
        "downloaded. Choose another one, or tell your admin (c.DS01.registry_login).",
    ),
    (
        r"manifest unknown|name unknown|not found",
        ImageFailed,
        "The registry {registry} has no base image {reference}. Check its name, choose another version of "
        "the framework, or ask your admin to put it there.",
    ),
    (
        r"invalid reference format|repository name must be",
        ImageFailed,
        "{reference} is not the name of an image. Choose another base image.",
    ),
    (
        r"no such host",
        ImageFailed,
        "There is no registry {registry}, so the base image {reference} cannot be downloaded. Check its "
        "name, choose another base image, or tell your admin.",
    ),
    (
        r"toomanyrequests|rate limit",
        ImageFailed,
        "The registry {registry} gives this server no more images for now, so {reference} cannot be "
        "downloaded. Try again in some hours, or ask your admin to log in (c.DS01.registry_login).",
    ),
    (
        r"no space left on device",
        ImageFailed,
        "The disk of the server is too full for the base image {reference}. Tell your admin.",
    ),
    (
        r"x509|certificate|HTTP response to HTTPS client",
        RegistryUnavailable,
        "Docker does not trust the connection to the registry {registry}, so the base image {reference} "
        "cannot be downloaded. Tell your admin.",
    ),
    (
        r"dial tcp|connection (?:refused|reset)|timeout|timed out|deadline exceeded|EOF|unreachable|"
        r"server misbehaving|unexpected HTTP status|received unexpected HTTP|\b50[0-9]\b",
        RegistryUnavailable,
        "The registry {registry} does not answer, so the base image {reference} cannot be downloaded. Start "
        "again later, or tell your admin.",
    ),
)
