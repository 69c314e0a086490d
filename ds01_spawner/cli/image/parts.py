"""What the commands need besides her files: the site's settings, Docker, the catalog, what is in a base.

The Hub's settings are read where they are named or readable, mostly by root; everybody else gets the
defaults. Only what is needed is imported, since JupyterHub takes its time.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from ... import catalog
from ...adapters.site_files import read_catalog
from ...errors import EngineUnavailable, RequestRefused, UnknownFramework
from ...model import BaseImage
from ..sources import HUB_CONFIG, Sources, find_architecture, find_sources
from .recipe import Owner

if TYPE_CHECKING:
    from ...adapters.builder import Builder
    from ...adapters.engine import DockerEngine
    from ...image import BaseProbe

_SECRETS = ("ca_bundle", "pip_config", "apt_config")
_FALLBACKS = ("Pytorch", "Tensorflow")


def add_site(sources: Sources) -> Sources:
    """Return the sources with the Hub's settings, if they are where they usually are and may be read."""
    path = os.environ.get("DS01_CONFIG", "") or HUB_CONFIG
    if sources.site is not None or not os.access(path, os.R_OK, effective_ids=True):
        return sources
    return find_sources(config_file=path, catalog_file=sources.catalog_file, limits_file=sources.limits_file)


def find_engine(sources: Sources) -> DockerEngine | None:
    """Return Docker, None if it does not answer this person."""
    try:
        return _reach(sources)
    except EngineUnavailable:
        return None


def require_engine(sources: Sources) -> DockerEngine:
    """Return Docker.

    Raises:
        EngineUnavailable: it does not answer this person; says what she can do without.
    """
    try:
        return _reach(sources)
    except EngineUnavailable as exc:
        is_closed = "Permission denied" in exc.detail
        what = "Only root and the docker group may use Docker" if is_closed else "Docker does not answer"
        raise EngineUnavailable(
            f"{what} on this machine, and images are built with it. Start a server in the browser, where the "
            "same packages can be chosen, or ask your admin; `ds01 image create` with --no-build or --print "
            "works without.",
            detail="" if is_closed else exc.detail,
        ) from exc


def _reach(sources: Sources) -> DockerEngine:
    from ...adapters.engine import DockerEngine

    engine = DockerEngine() if sources.site is None else sources.site.engine
    engine.image_names()
    return engine


def open_builder(options: argparse.Namespace, sources: Sources) -> Builder:
    """Return what builds, with the files that are named on the command line before those of the settings."""
    from ...site import DS01

    site = sources.site or DS01()
    for name in _SECRETS:
        if getattr(options, name):
            setattr(site, name, os.path.abspath(getattr(options, name)))
    return site.builder


def require_base(engine: DockerEngine, sources: Sources, base: str) -> str:
    """Return the content id of a base image, which is downloaded as the settings say.

    Raises:
        ImageFailed: it cannot be had.
    """
    from ...core import BaseSupply

    supply = BaseSupply(engine=engine) if sources.site is None else sources.site.bases
    return supply.get(base, say).id


def look_into(engine: DockerEngine | None, base: str) -> BaseProbe:
    """Return what is in a base image; where Docker cannot tell, what is usual, and say so."""
    from ...image import OLDEST_HUB_PYTHON, BaseProbe

    if engine is not None and engine.image(base) is not None:
        return engine.probe(base)
    usual = BaseProbe(
        python="/usr/bin/python3",
        version=OLDEST_HUB_PYTHON,
        has_pip=True,
        has_venv=True,
        has_apt=True,
        has_bash=True,
    )
    why = "Docker does not answer" if engine is None else "It is not on this machine"
    oldest = ".".join(map(str, OLDEST_HUB_PYTHON))
    say(
        f"The base image {base} was not looked into. {why}, so it is taken to have bash, apt, and at "
        f"{usual.python} a Python {oldest} or newer with pip and venv."
    )
    return usual


def refuse_foreign(engine: DockerEngine, owner: Owner, name: str) -> bool:
    """Return whether there is such an image of hers.

    Raises:
        RequestRefused: there is one, and it is not hers.
    """
    found = engine.image(owner.image(name))
    if found is not None and not owner.owns(found.labels):
        raise RequestRefused(
            f"There is an image {owner.image(name)} that you did not make with `ds01 image create`. "
            "Take another name."
        )
    return found is not None


class Bases:
    """The base images there are to choose from, read from the catalog when they are first asked for."""

    def __init__(self, sources: Sources, architecture: str) -> None:
        self._sources = sources
        self._asked = architecture

    @cached_property
    def _text(self) -> str | None:
        return read_catalog(self._sources.catalog_file, catalog.SEARCH_PATHS)

    @cached_property
    def _architecture(self) -> str:
        return find_architecture(self._sources, self._asked)

    @cached_property
    def frameworks(self) -> dict[str, tuple[str, ...]]:
        """The versions of each framework, the newest first; none where only one is to be had."""
        if self._text is not None:
            return dict(catalog.frameworks(catalog.parse_catalog(self._text), self._architecture))
        found: dict[str, tuple[str, ...]] = {}
        for name in _FALLBACKS:
            try:
                found[catalog.fallback(name, self._architecture).framework] = ()
            except UnknownFramework:
                continue
        return found

    def find(self, framework: str, version: str = "") -> BaseImage:
        """Return the base image of a framework, the newest unless a version is named, and say its warning."""
        base = catalog.find_base(self._text, framework, version, self._architecture)
        if base.warning:
            say(base.warning)
        return base


def say(sentence: str) -> None:
    """Tell the person something that does not belong to the answer."""
    print(f"ds01: {sentence}", file=sys.stderr)
