"""AIME's catalog of base images: what `ml_images.repo` says, and which image a request means.

Lines are `Framework, version, architecture, image`, without a header. Version 1 of the file writes
one bare architecture (`CUDA_ADA`), version 2 brackets with `;` between several
(`[CUDA_ADA;CUDA_AMPERE]`); both may stand in one file. Whatever follows the fourth field is
reserved and ignored, as are empty lines and lines that begin with `#`.

Order of versions: the highest release first, as `packaging.version` compares what stands before the
first `-` (so `1.14.0a-nvidia` is a pre-release of 1.14.0); within the same release the order of the
file, where AIME puts its own build (`2.8.0-aime`) above the plain one; a version that is no release
number comes last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packaging.version import InvalidVersion, Version

from ds01_spawner.errors import CatalogBroken, ConfigBroken, UnknownFramework
from ds01_spawner.model import BaseImage, CatalogEntry

ARCHITECTURES = ("CUDA", "CUDA_AMPERE", "CUDA_ADA", "CUDA_BLACKWELL", "ROCM5", "ROCM6")

SEARCH_PATHS = (
    "/opt/ds01-infra/aime-ml-containers/ml_images.repo",
    "/opt/aime-ml-containers/ml_images.repo",
    "/opt/aime-mlc/ml_images.repo",
)
"""Where DS01 and AIME install the catalog, in the order in which they are tried."""

_ALIASES = {"torch": "pytorch", "tf": "tensorflow", "apachemxnet": "mxnet"}
_DOCKER_HUB = {
    "pytorch": ("Pytorch", "2.5.1", "pytorch/pytorch:2.5.1-cuda11.8-cudnn9-runtime"),
    "tensorflow": ("Tensorflow", "2.14.0", "tensorflow/tensorflow:2.14.0-gpu"),
}

_NEWEST = ("", "latest", "newest")
_FRAMEWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_ARCHITECTURE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_REFERENCE = re.compile(
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
_MAX_REFERENCE = 512
_MAX_LISTED = 6


def parse_catalog(text: str) -> tuple[CatalogEntry, ...]:
    """Return the entries of a catalog in the order of its lines.

    Raises:
        CatalogBroken: a line is not an entry (its number and text are named), or there is no entry.
    """
    entries = tuple(
        _parse_line(number, line)
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not entries:
        raise CatalogBroken("The catalog of base images is empty. Ask your admin to check `catalog_file`.")
    return entries


def resolve(
    entries: Sequence[CatalogEntry], framework: str, version: str = "", architecture: str = ""
) -> BaseImage:
    """Return the base image that is meant by a framework, a version and an architecture.

    The framework is found in any case and under its usual short names (`PyTorch`, `torch`, `tf`).
    No version means the newest; the beginning of one (`2.8`) the newest that begins so, and one
    that does not exist the newest of all, both with a warning. No architecture means any.

    Raises:
        UnknownFramework: no such framework, or none for this architecture; says what there is.
        ConfigBroken: no such architecture; says which there are.
    """
    wanted_architecture = _check_architecture(entries, architecture)
    offered = _select(entries, wanted_architecture)
    of_framework = [entry for entry in entries if _normalise(entry.framework) == _normalise(framework)]
    if not of_framework:
        raise UnknownFramework(
            f"There is no framework {framework[:40]!r} in the catalog. {_list_frameworks(offered)}"
        )
    found = _sort(_select(of_framework, wanted_architecture))
    if not found:
        others = dict.fromkeys(name for entry in of_framework for name in entry.architectures)
        raise UnknownFramework(
            f"There is no {of_framework[0].framework} for {wanted_architecture}, only for "
            f"{', '.join(others)}. {_list_frameworks(offered)}"
        )
    entry, warning = _choose_version(found, version.strip(), wanted_architecture)
    return BaseImage(
        framework=entry.framework,
        version=entry.version,
        architecture=wanted_architecture or entry.architectures[0],
        image=entry.image,
        warning=warning,
    )


def find_base(text: str | None, framework: str, version: str = "", architecture: str = "") -> BaseImage:
    """Return the base image of a framework from the catalog's `text`; None is no catalog: the fallback.

    Raises:
        CatalogBroken: a line of it cannot be read.
        UnknownFramework: there is none.
    """
    if text is None:
        return fallback(framework, architecture)
    return resolve(parse_catalog(text), framework, version, architecture)


def fallback(framework: str, architecture: str = "") -> BaseImage:
    """Return the Docker Hub image of a framework, with a warning, for when there is no catalog file.

    Raises:
        UnknownFramework: there is none for this framework, or the GPUs are not NVIDIA's.
    """
    known = _DOCKER_HUB.get(_normalise(framework))
    if known is None or is_rocm(architecture):
        what = f"{framework[:40]!r} on {architecture}" if is_rocm(architecture) else f"{framework[:40]!r}"
        names = " and ".join(name for name, _, _ in _DOCKER_HUB.values())
        raise UnknownFramework(
            f"The catalog of base images was not found, and there is no substitute for {what}, only for "
            f"{names} on NVIDIA GPUs. Ask your admin to set `catalog_file`."
        )
    name, version, image = known
    return BaseImage(
        framework=name,
        version=version,
        architecture=architecture,
        image=image,
        warning=(
            f"The catalog of base images was not found, so you get {image} from Docker Hub. "
            "Ask your admin to set `catalog_file`."
        ),
    )


def frameworks(
    entries: Sequence[CatalogEntry], architecture: str = ""
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (framework, versions) pairs for an architecture, versions newest first.

    Raises:
        ConfigBroken: no such architecture.
    """
    by_name: dict[str, list[CatalogEntry]] = {}
    for entry in _select(entries, _check_architecture(entries, architecture)):
        by_name.setdefault(_normalise(entry.framework), []).append(entry)
    return tuple(
        (group[0].framework, tuple(dict.fromkeys(entry.version for entry in _sort(group))))
        for group in by_name.values()
    )


def is_rocm(architecture: str) -> bool:
    """Say whether an architecture is one of AMD's."""
    return architecture.upper().startswith("ROCM")


def _parse_line(number: int, line: str) -> CatalogEntry:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < 4:
        raise _broken(number, line, "it is not `Framework, version, architecture, image`")
    framework, version, architecture, image = fields[:4]
    if not _FRAMEWORK.fullmatch(framework):
        raise _broken(number, line, f"{framework!r} is not the name of a framework")
    if not _VERSION.fullmatch(version):
        raise _broken(number, line, f"{version!r} is not a version")
    bracketed = _BRACKETS.fullmatch(architecture)
    names = tuple(name.strip() for name in (bracketed[1] if bracketed else architecture).split(";"))
    if not all(_ARCHITECTURE.fullmatch(name) for name in names):
        raise _broken(number, line, f"{architecture!r} is not an architecture such as [CUDA_ADA;CUDA_AMPERE]")
    if len(image) > _MAX_REFERENCE or not _REFERENCE.fullmatch(image):
        raise _broken(number, line, f"{image[:80]!r} is not the name of a Docker image")
    names = tuple(name.upper() for name in names)
    return CatalogEntry(framework=framework, version=version, architectures=names, image=image)


def _broken(number: int, line: str, why: str) -> CatalogBroken:
    return CatalogBroken(
        f"The catalog of base images cannot be read: in line {number}, `{line.strip()[:200]}`, {why}. "
        "Ask your admin to mend it."
    )


def _check_architecture(entries: Iterable[CatalogEntry], architecture: str) -> str:
    """Return the architecture in the catalog's spelling, "" for any."""
    wanted = architecture.strip().upper()
    # AIME adds architectures by adding lines, so what the catalog itself names is known too.
    known = dict.fromkeys((*ARCHITECTURES, *(name for entry in entries for name in entry.architectures)))
    if wanted and wanted not in known:
        raise ConfigBroken(
            f"There is no GPU architecture {architecture[:40]!r}. "
            f"Ask your admin to set `architecture` to one of {', '.join(known)}."
        )
    return wanted


def _select(entries: Iterable[CatalogEntry], architecture: str) -> list[CatalogEntry]:
    return [entry for entry in entries if not architecture or architecture in entry.architectures]


def _normalise(framework: str) -> str:
    name = re.sub(r"[^a-z0-9]", "", framework.casefold())
    return _ALIASES.get(name, name)


def _sort(entries: Iterable[CatalogEntry]) -> list[CatalogEntry]:
    return sorted(entries, key=_release, reverse=True)


def _release(entry: CatalogEntry) -> tuple[bool, Version]:
    try:
        return True, Version(entry.version.partition("-")[0])
    except InvalidVersion:
        return False, Version("0")


def _choose_version(
    newest_first: Sequence[CatalogEntry], version: str, architecture: str
) -> tuple[CatalogEntry, str]:
    """Return the entry and the warning, "" when it is exactly what was asked for."""
    wanted = version.casefold()
    for entry in newest_first:
        if entry.version.casefold() == wanted:
            return entry, ""
    newest = newest_first[0]
    if wanted in _NEWEST:
        return newest, ""
    for entry in newest_first:
        if entry.version.casefold().startswith((f"{wanted}.", f"{wanted}-")):
            return entry, (
                f"{entry.framework} {version[:40]!r} was taken as {entry.version}, "
                "the newest version that begins so."
            )
    where = f" for {architecture}" if architecture else ""
    versions = ", ".join(list(dict.fromkeys(entry.version for entry in newest_first))[:_MAX_LISTED])
    return newest, (
        f"There is no {newest.framework} {version[:40]!r}{where}, so you get the newest, {newest.version}. "
        f"The newest there are: {versions}."
    )


def _list_frameworks(entries: Iterable[CatalogEntry]) -> str:
    names = ", ".join(dict.fromkeys(entry.framework for entry in entries))
    return f"Choose one of {names}." if names else "Nothing in the catalog is for these GPUs."
