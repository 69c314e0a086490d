"""The image of a server: found by one look at its content hash, built only where it is absent."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import image
from ..buildlog import ProgressReader
from ..errors import ImageFailed, RequestRefused
from ..model import BaseImage, BuiltImage, ImageSpec, ServerRequest
from ..templating import template_directory

if TYPE_CHECKING:
    from ..adapters.builder import Builder
    from ..adapters.engine import DockerEngine, ImageInfo

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Takes a sentence about the progress; called from the building thread."""


class Images:
    """Builds on AIME's base images what a request asks for, each content once."""

    def __init__(
        self,
        *,
        engine: DockerEngine,
        builder: Builder,
        hub_version: str,
        runtime_image: str = "",
        base_packages: Sequence[str] = image.DEFAULT_BASE_PACKAGES,
        base_system_packages: Sequence[str] = (),
        use_cases: Mapping[str, Sequence[str]] = image.DEFAULT_USE_CASES,
        maintainer: str = "DS01",
        maintainer_id: str = "0",
    ) -> None:
        self._engine = engine
        self._builder = builder
        self._hub_version = hub_version
        self._runtime_image = runtime_image
        self._base_packages = tuple(base_packages)
        self._base_system_packages = tuple(base_system_packages)
        self._use_cases = {name: tuple(packages) for name, packages in use_cases.items()}
        self._maintainer = (maintainer, maintainer_id)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @property
    def use_cases(self) -> tuple[str, ...]:
        """The names of the use cases, `none` among them."""
        return tuple(dict.fromkeys(["none", *self._use_cases]))

    def ensure(self, base: BaseImage, request: ServerRequest, tell: Tell) -> BuiltImage:
        """Return the image of `request` on `base`; build it if nothing like it was built before.

        Raises:
            ImageFailed: the base cannot be had, cannot run the server, or a step failed.
        """
        found = self._base(base.image, tell, is_hers=bool(request.base_image))
        spec = self.spec(base, found.id, request)
        template = (template_directory() / "Dockerfile.j2").read_text(encoding="utf-8")
        tag = image.tag(spec, template)
        with self._locks[tag]:
            built = self._engine.image(tag)
            if built is not None:
                return BuiltImage(tag=tag, id=built.id, base=base, was_built=False, labels=built.labels)
            self._build(spec, template, tag, tell)
        made = self._engine.image(tag)
        assert made is not None, f"{tag} was built and is not there"
        log.info("built %s on %s", tag, base.image)
        return BuiltImage(tag=tag, id=made.id, base=base, was_built=True, labels=made.labels)

    def spec(self, base: BaseImage, base_id: str, request: ServerRequest) -> ImageSpec:
        """Return everything that goes into the image, as a value."""
        if request.use_case not in self.use_cases:
            raise RequestRefused(
                f"The use case {request.use_case!r} does not exist. "
                f"Choose one of {', '.join(self.use_cases)}."
            )
        runtime = self._engine.image(self._runtime_image) if self._runtime_image else None
        return ImageSpec(
            base=base.image,
            base_id=base_id,
            hub_version=self._hub_version,
            runtime_image=self._runtime_image,
            runtime_id=runtime.id if runtime else "",
            base_packages=self._base_packages,
            base_system_packages=self._base_system_packages,
            use_case=request.use_case,
            use_case_packages=self._use_cases.get(request.use_case, ()),
            packages=request.packages,
            requirements=request.requirements,
            system_packages=request.system_packages,
            labels=self._labels(base, request),
        )

    def _labels(self, base: BaseImage, request: ServerRequest) -> tuple[tuple[str, str], ...]:
        name, number = self._maintainer
        return (
            ("aime.mlc.BASE_IMAGE", base.image),
            ("aime.mlc.MAINTAINER", name),
            ("aime.mlc.MAINTAINER_ID", number),
            ("aime.mlc.CUSTOM_IMAGE", base.image if request.base_image else ""),
        )

    def _base(self, reference: str, tell: Tell, *, is_hers: bool) -> ImageInfo:
        found = self._engine.image(reference)
        if found is not None:
            return found
        tell(f"Downloading the base image {reference}. This takes a few minutes the first time.")
        try:
            return self._engine.pull(reference)
        except ImageFailed as exc:
            if is_hers:
                raise RequestRefused(exc.message, detail=exc.detail) from exc
            raise

    def _build(self, spec: ImageSpec, template: str, tag: str, tell: Tell) -> None:
        probe = self._engine.probe(spec.base)
        image.check_base(spec, probe)
        tell("Building your image. Nobody built this one before; the next start skips this step.")
        self._builder.build(
            tag,
            image.render_dockerfile(spec, probe, template),
            image.context_files(spec, probe),
            _step_teller(tell),
        )


def _step_teller(tell: Tell) -> Callable[[str], None]:
    """Return a reader of the build's log that tells each step once, when it starts."""
    reader = ProgressReader()

    def read(line: str) -> None:
        step = reader.read(line)
        if step is not None and step.state in ("started", "failed"):
            tell(f"{step}{' failed' if step.state == 'failed' else ''}")

    return read
