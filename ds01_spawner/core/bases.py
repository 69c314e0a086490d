"""The base image of a build: the one on this machine, or one that the site's policy lets be downloaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from ..errors import ImageFailed

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine, ImageInfo

log = logging.getLogger(__name__)

POLICIES = ("ifnotpresent", "always", "never")


class BaseSupply:
    """Gives base images to builds.

    `policy` is one of `POLICIES`: a download where there is none here; at each build, for a newer one; or
    none at all. A download takes no longer than `timeout`.
    """

    def __init__(
        self, *, engine: DockerEngine, policy: str = "ifnotpresent", timeout: timedelta = timedelta(hours=1)
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._timeout = timeout

    def get(
        self, reference: str, tell: Callable[[str], None], given_up: threading.Event | None = None
    ) -> ImageInfo:
        """Return the base image, downloaded if need be; blocks, and ends within a second of `given_up`.

        With `always`, the one that is here serves where a newer one cannot be had.

        Raises:
            ImageFailed: it is not here and cannot, or may not, be downloaded.
            BuildFailed: the download was given up, or took too long.
        """
        found = self._engine.image(reference)
        if found is not None and self._policy != "always":
            return found
        if self._policy == "never":
            raise ImageFailed(
                f"The base image {reference} is not on the server, which downloads none by itself. Choose "
                f"another framework version, or ask your admin to run: {self._command(reference)}"
            )
        if found is None:
            tell(f"Downloading the base image {reference}. This takes a few minutes the first time.")
        given_up = given_up or threading.Event()
        try:
            return self._engine.pull(reference, tell, given_up, self._timeout)
        except ImageFailed as exc:
            if found is None or given_up.is_set():
                raise
            log.warning("no newer base image %s, building on the one that is here: %s", reference, exc.detail)
            tell(f"Nobody could say whether there is a newer {reference}; building on the one that is here.")
            return found

    def _command(self, reference: str) -> str:
        remote = self._engine.remote_name(reference)
        pull = f"docker pull {remote}"
        return (
            pull
            if remote == self._engine.local_name(reference)
            else f"{pull} && docker tag {remote} {reference}"
        )
