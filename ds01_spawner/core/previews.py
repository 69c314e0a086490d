"""What a start would do about its image, told before anybody starts: nothing is built or written."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import image
from ..errors import ImageFailed
from ..image import BaseProbe
from ..model import BaseImage, ServerRequest
from ..templating import read_dockerfile
from .images import Images

if TYPE_CHECKING:
    from ..adapters.engine import DockerEngine

# To look into a base image runs a container; so many of the last ones are remembered.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreview:
    """Whether an image is there; else in how many seconds it should be built, None where nobody knows.

    `is_outdated` says that the base is newer than the image which is there.
    """

    is_ready: bool
    is_outdated: bool = False
    seconds: float | None = None


class Previews:
    """Looks at the images of requests that nobody made yet."""

    def __init__(self, *, images: Images, engine: DockerEngine) -> None:
        self._images = images
        self._engine = engine
        self._lock = threading.Lock()
        self._probes: dict[str, BaseProbe] = {}

    def look(self, base: BaseImage, request: ServerRequest) -> ImagePreview:
        """Return what a start would find; a short call.

        Raises:
            EngineUnavailable, LedgerUnavailable: nobody can say.
        """
        found = self._images.find(base, request)
        if found is None:
            return ImagePreview(is_ready=False, seconds=self._images.estimate(base))
        return ImagePreview(is_ready=True, is_outdated=found.is_outdated)

    def write_dockerfile(self, base: BaseImage, request: ServerRequest) -> str:
        """Return the Dockerfile that the image would be built from; takes a second for a new base.

        Raises:
            ImageFailed: the base is not on this machine yet, or cannot run a server.
        """
        local = self._engine.image(base.image)
        if local is None:
            raise ImageFailed(
                f"The base image {base.image} comes at the first start with it; the Dockerfile can be "
                "shown after that."
            )
        spec = self._images.spec(base, local.id, request)
        # One at a time: each may run a container.
        with self._lock:
            if local.id not in self._probes:
                self._probes[local.id] = self._engine.probe(spec.base)
                for oldest in list(self._probes)[:-_REMEMBERED]:
                    del self._probes[oldest]
            probe = self._probes[local.id]
        return image.render_dockerfile(spec, probe, read_dockerfile("Dockerfile.j2"))
