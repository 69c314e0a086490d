"""The image of a server: found by one look at its content hash, built only where it is absent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import image
from ..buildlog import ProgressReader
from ..errors import BuildFailed, ConfigBroken, ImageFailed, RequestRefused
from ..model import BaseImage, BuiltImage, ImageSpec, ServerRequest
from ..templating import template_directory

if TYPE_CHECKING:
    from ..adapters.builder import Builder
    from ..adapters.engine import DockerEngine, ImageInfo

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Takes a sentence about the progress; called from the building thread."""

_Content = tuple[str, bool, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class Build:
    """One build that is under way, however many wait for it; late ones hear what was told before."""

    def __init__(self, content: _Content) -> None:
        self.content = content
        self.future: Future[BuiltImage] = Future()
        self.given_up = threading.Event()
        self.listeners: list[Tell] = []
        self._told: list[str] = []

    def listen(self, tell: Tell) -> None:
        """Add a listener."""
        for sentence in self._told:
            tell(sentence)
        self.listeners.append(tell)

    def tell(self, sentence: str) -> None:
        """Tell all that listen."""
        self._told.append(sentence)
        for tell in tuple(self.listeners):
            tell(sentence)


class Images:
    """Builds on AIME's base images what a request asks for, each content once.

    Builds run in threads of their own, `pool_size` at once.
    """

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
        pool_size: int = 2,
    ) -> None:
        self._engine = engine
        self._builder = builder
        self._hub_version = hub_version
        self._runtime_image = runtime_image
        self._base_packages = tuple(base_packages)
        self._base_system_packages = tuple(base_system_packages)
        self._use_cases = {name: tuple(packages) for name, packages in use_cases.items()}
        self._maintainer = (maintainer, maintainer_id)
        self._pool = ThreadPoolExecutor(pool_size, thread_name_prefix="ds01-build")
        self._lock = threading.Lock()
        self._builds: dict[_Content, Build] = {}

    @property
    def use_cases(self) -> tuple[str, ...]:
        """The names of the use cases, `none` among them."""
        return tuple(dict.fromkeys(["none", *self._use_cases]))

    def find(self, base: BaseImage, request: ServerRequest) -> BuiltImage | None:
        """Return the image of `request` on `base` if it was built before; a short call."""
        local = self._engine.image(base.image)
        return None if local is None else self._find(_tag(self.spec(base, local.id, request)))

    def join(self, base: BaseImage, request: ServerRequest, tell: Tell) -> Build:
        """Begin to build, or wait with the others who want the same; `leave` it at the end, whichever.

        Its future gives the image, or raises:
            ImageFailed: the base cannot be had, cannot run the server, or a step failed.
        """
        content = (
            base.image,
            bool(request.base_image),
            request.use_case,
            request.packages,
            request.requirements,
            request.system_packages,
        )
        with self._lock:
            build = self._builds.get(content)
            if build is None:
                build = self._builds[content] = Build(content)
                build.future = self._pool.submit(self._make, build, base, request)
            build.listen(tell)
        return build

    def leave(self, build: Build, tell: Tell) -> None:
        """Wait no longer; a build that nobody waits for ends."""
        with self._lock:
            build.listeners.remove(tell)
            if not build.listeners:
                del self._builds[build.content]
                build.given_up.set()

    def _make(self, build: Build, base: BaseImage, request: ServerRequest) -> BuiltImage:
        if build.given_up.is_set():
            raise BuildFailed("The build was given up. Start again.")
        local = self._base(base.image, build.tell, is_hers=bool(request.base_image))
        spec = self.spec(base, local.id, request)
        tag = _tag(spec)
        found = self._find(tag)
        if found is not None:
            return found
        probe = self._engine.probe(spec.base)
        image.check_base(spec, probe)
        build.tell("Building your image. Nobody built this one before; the next start skips this step.")
        self._builder.build(
            tag,
            image.render_dockerfile(spec, probe, _read_template()),
            image.context_files(spec, probe),
            _step_teller(build),
            build.given_up,
        )
        log.info("built %s on %s", tag, base.image)
        made = self._find(tag)
        if made is None:
            raise ConfigBroken(
                "Your image was built and is not where servers run. Please tell your admin.",
                detail=f"{tag} is not on the Docker Engine of c.DS01.docker_host",
            )
        return replace(made, was_built=True)

    def _find(self, tag: str) -> BuiltImage | None:
        built = self._engine.image(tag)
        if built is None:
            return None
        return BuiltImage(tag=tag, id=built.id, was_built=False, labels=built.labels)

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


def _tag(spec: ImageSpec) -> str:
    return image.tag(spec, _read_template())


def _read_template() -> str:
    return (template_directory() / "Dockerfile.j2").read_text(encoding="utf-8")


def _step_teller(build: Build) -> Callable[[str], None]:
    """Return a reader of the build's log that tells each step once, when it starts or fails."""
    reader = ProgressReader()

    def read(line: str) -> None:
        step = reader.read(line)
        if step is not None and step.state in ("started", "failed"):
            build.tell(f"{step}{' failed' if step.state == 'failed' else ''}")

    return read
