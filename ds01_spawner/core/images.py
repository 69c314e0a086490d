"""The image of a server: found by one look at its content hash, built only where it is absent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING

from .. import image, mlc, resolution
from ..buildlog import ProgressReader, describe_duration, read_output
from ..errors import (
    BuildFailed,
    ConfigBroken,
    DS01Error,
    ImageFailed,
    LedgerUnavailable,
    RegistryUnavailable,
    RequestRefused,
)
from ..metrics import BUILD_STEPS, BUILDS
from ..model import BaseImage, BuildOutcome, BuildRecord, BuiltImage, ImageSpec, ImageUse, ServerRequest
from ..templating import read_dockerfile
from .bases import BaseSupply
from .builds import Build, BuildQueue, Tell
from .checks import PackageChecks

if TYPE_CHECKING:
    from ..adapters.build_logs import BuildLogs
    from ..adapters.builder import Builder
    from ..adapters.engine import DockerEngine, ImageInfo
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)

# So many of the newest builds say how long the next one may take.
_COMPARED = 20
# So much of a log's end reaches a student's page.
_SHOWN_CHARACTERS = 200_000
_SHOWN_IN_A_LINE = 500


class Images:
    """Builds on AIME's base images what a request asks for, each content once.

    Builds run in threads of their own, `pool_size` at once. `labels` are an admin's own on each image.
    `bases` gives the base images, downloaded where there are none if nothing else is said.
    """

    def __init__(
        self,
        *,
        engine: DockerEngine,
        builder: Builder,
        ledger: Ledger,
        logs: BuildLogs,
        bases: BaseSupply | None = None,
        hub_version: str,
        runtime_image: str = "",
        base_packages: Sequence[str] = image.DEFAULT_BASE_PACKAGES,
        base_system_packages: Sequence[str] = (),
        use_cases: Mapping[str, Sequence[str]] = image.DEFAULT_USE_CASES,
        labels: Mapping[str, str] | None = None,
        maintainer: str = "DS01",
        maintainer_id: str = "0",
        pool_size: int = 2,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._engine = engine
        self._builder = builder
        self._ledger = ledger
        self._logs = logs
        self._bases = bases or BaseSupply(engine=engine)
        self._hub_version = hub_version
        self._runtime_image = runtime_image
        self._base_packages = tuple(base_packages)
        self._base_system_packages = tuple(base_system_packages)
        self._use_cases = {name: tuple(packages) for name, packages in use_cases.items()}
        self._extra_labels = dict(labels or {})
        self._maintainer = (maintainer, maintainer_id)
        self._queue = BuildQueue(pool_size)
        self._checks = PackageChecks(builder)
        self._check_pool = ThreadPoolExecutor(pool_size, thread_name_prefix="ds01-check")
        self._now = clock

    @property
    def use_cases(self) -> tuple[str, ...]:
        """The names of the use cases, `none` among them."""
        return tuple(dict.fromkeys(["none", *self._use_cases]))

    def find(self, base: BaseImage, request: ServerRequest) -> BuiltImage | None:
        """Return the image of `request` if it was built before; a short call.

        That on the base as it is now, else, unless a rebuild is asked for, the newest on the base as it was.
        """
        local = self._engine.image(base.image)
        spec = self.spec(base, local.id if local else "", request)
        exact = self._find(_tag(spec)) if local else None
        if exact is not None or request.rebuild:
            return exact
        older = self._engine.images_named(f"{image.content(spec, _read_template())}-*")
        if not older:
            return None
        newest = older[0]
        return BuiltImage(tag=newest.name, id=newest.id, labels=newest.labels, is_outdated=local is not None)

    def on_base(self, base: str) -> str:
        """Return how the names of all images on a base end as it is now, "" if it is not here."""
        local = self._engine.image(base)
        return image.on_base(local.id, self._runtime_id()) if local else ""

    def note_use(self, built: BuiltImage, user: str) -> None:
        """Record that a user's server starts from an image, which is not pruned for a time then.

        That it cannot be recorded is in the log, and no error: a lease is what a start needs.
        """
        try:
            self._ledger.note_use(ImageUse(tag=built.tag, user=user, last_used_at=self._now()))
        except LedgerUnavailable as exc:
            log.warning("that %s uses %s is not recorded: %s", user, built.tag, exc.detail)

    def submit_check(self, base: BaseImage, request: ServerRequest) -> Future[None]:
        """Begin to try the packages of an image that has to be built; takes seconds.

        The future may raise PackageRefused, or as `find` does. Where the base is not here yet, nothing is
        tried before it is.
        """
        return self._check_pool.submit(self._check, base, request)

    def _check(self, base: BaseImage, request: ServerRequest) -> None:
        local = self._engine.image(base.image)
        if local is None or self.find(base, request) is not None:
            return
        spec = self.spec(base, local.id, request)
        if resolution.is_needed(spec):
            probe = self._engine.probe(spec.base)
            image.check_base(spec, probe)
            self._checks.check(_tag(spec), spec, probe, threading.Event())

    def join(
        self, base: BaseImage, request: ServerRequest, user: str, tell: Tell, tell_log: Tell | None = None
    ) -> Build:
        """Begin to build, or wait with the others who want the same; `leave` it at the end, whichever.

        `tell_log` gets what the steps print, line by line, under their names.

        Its future gives the image, or raises:
            ImageFailed: the base cannot be had, cannot run the server, or a step failed.
            PackageRefused: a package does not exist, or conflicts; nothing was built.
        """
        key = find_key(base, request)
        log = {} if tell_log is None else {"tell_log": tell_log}
        return self._queue.join(key, lambda build: self._make(build, base, request, user), tell, **log)

    def leave(self, build: Build, tell: Tell) -> None:
        """Wait no longer; a build that nobody waits for ends."""
        self._queue.leave(build, tell)

    def _make(self, build: Build, base: BaseImage, request: ServerRequest, user: str) -> BuiltImage:
        if build.given_up.is_set():
            raise BuildFailed("The build was given up. Start again.")
        local = self._base(build, base.image, is_hers=bool(request.base_image))
        spec = self.spec(base, local.id, request)
        tag = _tag(spec)
        found = self._find(tag)
        if found is not None:
            return found
        probe = self._engine.probe(spec.base)
        image.check_base(spec, probe)
        if resolution.is_needed(spec):
            build.tell("Looking whether your packages exist and go together.")
            self._checks.check(tag, spec, probe, build.given_up)
        seconds = self.estimate(base)
        before = f" The last ones like it took about {describe_duration(seconds)}." if seconds else ""
        build.tell(f"Building your image: nobody built this one before; the next start skips this.{before}")
        dockerfile = image.render_dockerfile(spec, probe, _read_template())
        started = BuildRecord(
            tag=tag,
            base=base.image,
            user=user,
            summary=_sum_up(base, request),
            started_at=self._now(),
            ended_at=self._now(),
            outcome=BuildOutcome.BUILT,
            log=f"{self._now():%Y%m%d-%H%M%S}-{tag.rpartition(':')[2]}.log",
        )
        record = self._run(build, started, dockerfile, image.context_files(spec, probe))
        made = self._find(tag)
        if made is None:
            raise ConfigBroken(
                "Your image was built and is not where servers run. Please tell your admin.",
                detail=f"{tag} is not on the Docker Engine of c.DS01.docker_host",
            )
        return replace(made, build=record)

    def _run(
        self, build: Build, started: BuildRecord, dockerfile: str, files: Mapping[str, bytes]
    ) -> BuildRecord:
        """Build, and record how that went, also when it fails."""
        reader = ProgressReader()
        try:
            with self._logs.write(started.log) as keep:

                def read(line: str) -> None:
                    keep(line)
                    step = reader.read(line)
                    # The command of a step is long, and of no use to who waits for it.
                    has_begun = step is not None and step.state == "started"
                    if shown := str(step) if has_begun else read_output(line)[:_SHOWN_IN_A_LINE]:
                        build.tell_log(shown)
                    if step is not None and step.state in ("started", "failed"):
                        build.tell(f"{step}{' failed' if step.state == 'failed' else ''}")

                self._builder.build(started.tag, dockerfile, files, read, build.given_up)
        except DS01Error as exc:
            outcome = BuildOutcome.GIVEN_UP if build.given_up.is_set() else BuildOutcome.FAILED
            self._record(replace(started, outcome=outcome, why=exc.message), reader)
            if isinstance(exc, BuildFailed):
                exc.log = self._logs.read(started.log)[-_SHOWN_CHARACTERS:] or exc.detail
            raise
        return self._record(started, reader)

    def _record(self, started: BuildRecord, reader: ProgressReader) -> BuildRecord:
        steps = reader.layers
        reused = sum(step.state == "cached" for step in steps)
        record = replace(started, ended_at=self._now(), steps=len(steps), reused=reused)
        log.info("build of %s on %s: %s", record.tag, record.base, record.outcome.value)
        BUILDS.labels(record.outcome.value).observe(record.duration.total_seconds())
        BUILD_STEPS.labels("reused").inc(reused)
        BUILD_STEPS.labels("run").inc(len(steps) - reused)
        try:
            self._ledger.write_build(record)
        except LedgerUnavailable as exc:
            # What was built is there all the same; without a ledger the start ends at its lease.
            log.warning("the build of %s is not recorded: %s", record.tag, exc.detail)
        return record

    def estimate(self, base: BaseImage) -> float | None:
        """Return how many seconds a build may take, by the last ones on the same base; None without any."""
        took = [
            record.duration.total_seconds()
            for record in self._ledger.builds(limit=_COMPARED)
            if record.base == base.image and record.outcome is BuildOutcome.BUILT
        ]
        return median(took) if took else None

    def _find(self, tag: str) -> BuiltImage | None:
        built = self._engine.image(tag)
        return None if built is None else BuiltImage(tag=tag, id=built.id, labels=built.labels)

    def spec(self, base: BaseImage, base_id: str, request: ServerRequest) -> ImageSpec:
        """Return everything that goes into the image, as a value."""
        if request.use_case not in self.use_cases:
            raise RequestRefused(
                f"The use case {request.use_case!r} does not exist. "
                f"Choose one of {', '.join(self.use_cases)}."
            )
        return ImageSpec(
            base=self._engine.local_name(base.image),
            base_id=base_id,
            hub_version=self._hub_version,
            runtime_image=self._runtime_image,
            runtime_id=self._runtime_id(),
            base_packages=self._base_packages,
            base_system_packages=self._base_system_packages,
            use_case=request.use_case,
            use_case_packages=self._use_cases.get(request.use_case, ()),
            packages=request.packages,
            requirements=request.requirements,
            system_packages=request.system_packages,
            labels=self._labels(base, request),
        )

    def _runtime_id(self) -> str:
        runtime = self._engine.image(self._runtime_image) if self._runtime_image else None
        return runtime.id if runtime else ""

    def _labels(self, base: BaseImage, request: ServerRequest) -> tuple[tuple[str, str], ...]:
        name, number = self._maintainer
        for own in self._extra_labels:
            if own == mlc.LABEL or own.startswith(f"{mlc.LABEL}."):
                raise ConfigBroken(
                    f"image_labels: {own} is one of AIME's names. Tell your admin to choose another."
                )
        return (
            *self._extra_labels.items(),
            *mlc.image_labels(
                base=base.image,
                maintainer=name,
                maintainer_id=number,
                custom_image=base.image if request.base_image else "",
            ),
        )

    def _base(self, build: Build, reference: str, *, is_hers: bool) -> ImageInfo:
        try:
            return self._bases.get(reference, build.tell, build.given_up)
        except (BuildFailed, RegistryUnavailable):
            raise
        except ImageFailed as exc:
            if is_hers:
                raise RequestRefused(exc.message, detail=exc.detail) from exc
            raise


def find_key(base: BaseImage, request: ServerRequest) -> tuple[object, ...]:
    """Return what is equal for two requests exactly when one image serves both."""
    return (
        base.image,
        bool(request.base_image),
        request.use_case,
        request.packages,
        request.requirements,
        request.system_packages,
    )


def _tag(spec: ImageSpec) -> str:
    return image.tag(spec, _read_template())


def _read_template() -> str:
    return read_dockerfile("Dockerfile.j2")


def _sum_up(base: BaseImage, request: ServerRequest) -> str:
    """Return what goes into an image, in a few words."""
    own = [*request.packages, *request.system_packages]
    if request.requirements:
        own.append(f"a file of {len(request.requirements)} requirements")
    use_case = "" if request.use_case == "none" else f" for {request.use_case}"
    return f"{base.framework} {base.version}{use_case}{', with ' if own else ''}{', '.join(own)}"
