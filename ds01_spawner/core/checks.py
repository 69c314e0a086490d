"""Packages tried before a build: whether they exist, and go together with what the image has.

In the base image, in seconds, and no image comes of it. Where it cannot be told, the build decides.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from .. import image, resolution
from ..buildlog import explain_failure
from ..errors import DS01Error, PackageRefused
from ..image import BaseProbe
from ..model import ImageSpec
from ..templating import read_dockerfile, template_directory

if TYPE_CHECKING:
    from ..adapters.builder import Builder

log = logging.getLogger(__name__)

_MOST_REMEMBERED = 1000


class PackageChecks:
    """Tries packages, and remembers which images' packages passed."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._passed: dict[str, None] = {}

    def check(self, tag: str, spec: ImageSpec, probe: BaseProbe, given_up: threading.Event) -> None:
        """Try the packages of `spec`, which would become the image `tag`; ends soon after `given_up`.

        Raises:
            PackageRefused: one does not exist, or conflicts; names the field.
        """
        if tag in self._passed or not resolution.is_needed(spec):
            return
        program = (template_directory() / "resolve.py").read_bytes()
        try:
            dockerfile = image.render_dockerfile(spec, probe, read_dockerfile("resolve.j2"))
            files = {**image.context_files(spec, probe), "resolve.py": program}
            said = self._builder.resolve(dockerfile, files, given_up)
        except DS01Error as exc:
            log.warning("the packages of %s could not be tried: %s", tag, exc)
            return
        if said:
            # Where the image's own Python will not do, packages go into another one.
            python = probe.version if probe.runs_kernel else ()
            problem = resolution.read(spec, explain_failure(said), said, python=python)
            if problem is not None:
                raise PackageRefused(problem.sentence, field=problem.field)
            log.warning("whether the packages of %s go together is left to the build: %s", tag, said[-1])
            return
        self._passed[tag] = None
        while len(self._passed) > _MOST_REMEMBERED:
            self._passed.pop(next(iter(self._passed)), None)
