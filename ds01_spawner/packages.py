"""Which package names a person may write, checked before any of them reaches pip or apt.

What passes is a name with extras, versions and a marker (pip), or a name with a version (apt): never
an option, a URL, a path or anything that a shell could read as more than one word, and nothing that
pip or apt read in another way than it was checked. Equal wishes come out as equal strings, so that they
meet in one image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ds01_spawner.errors import RequestRefused

MAX_REQUIREMENTS = 200
MAX_SYSTEM_PACKAGES = 100
MAX_LENGTH = 300

_SHOWN = 60
# What ends in "-" would be a removal to apt, its version included.
_SYSTEM_PACKAGE = re.compile(
    r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](?:=[0-9](?:[A-Za-z0-9.+~:-]*[A-Za-z0-9~])?)?", re.ASCII
)
# In its lists pip fills in ${NAME}, joins lines at a backslash, drops what follows " #" and takes " -x" for
# an option, also between quotes. So a marker compares with plain words.
_WORD = "[A-Za-z0-9._+*,][A-Za-z0-9._+*,-]*"
_VALUE = f"(?:{_WORD}(?: {_WORD})*)?"
_PLAIN = re.compile(rf"""(?:[A-Za-z0-9._, @<>=!~*+\[\]();-]|"{_VALUE}"|'{_VALUE}')*""")
# Without ";", behind which pip reads a marker.
_URL = re.compile(r"(?:git\+)?https?://[A-Za-z0-9](?:[A-Za-z0-9._~:/?#!&()*+,=%-]|@(?!-))*")
_LOCATION = re.compile(r"[.~]|[A-Za-z][A-Za-z0-9+.-]*:|.*[/\\]")
# pip takes a name that ends like this for a file.
_ARCHIVE = re.compile(r".*\.(?:whl|zip|tar|tgz|tbz|txz|tlz|tar\.[a-z0-9]+)", re.IGNORECASE)
_HASH = re.compile(r"\s--hash[=\s]\s*[a-z0-9]+:[0-9a-fA-F]+(?=\s|$)")
_OPTION = re.compile(r"(?:^|\s)(--?[A-Za-z][A-Za-z0-9-]*)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def normalise_requirement(text: str, *, allow_urls: bool = False) -> str:
    """Return the one spelling of a Python requirement, e.g. `torch[opt]<3,>=2.1`.

    `allow_urls` lets `name @ URL` pass; options and paths never do.

    Raises:
        RequestRefused: not a package name with optional extras, versions and marker.
    """
    wanted = text.strip()
    if len(wanted) > MAX_LENGTH or not wanted.isprintable():
        raise RequestRefused(f"{_show(wanted)} is too long or has control characters. {_ADVICE}")
    if wanted.startswith("-"):
        raise RequestRefused(f"{_show(wanted)} is an option of pip, not a package. {_ADVICE}")
    if "\\" in wanted:
        # A marker would read it as an escape.
        raise RequestRefused(f"{_show(wanted)} has a backslash. {_ADVICE}")
    try:
        requirement = Requirement(wanted)
    except InvalidRequirement as exc:
        is_location = _LOCATION.match(wanted)
        what = "is a URL or a path, not a package" if is_location else "is not the name of a package"
        raise RequestRefused(f"{_show(wanted)} {what}. {_ADVICE}", detail=str(exc)) from exc
    _check_source(requirement, wanted, allow_urls=allow_urls)
    requirement.name = canonicalize_name(requirement.name)
    normal = str(requirement)
    # As it was written and as it came out: quotes are set anew, and an extra that is compared with too.
    for spelling in (wanted, normal):
        if _PLAIN.fullmatch(spelling.replace(requirement.url or "", "", 1)) is None:
            raise RequestRefused(f"{_show(wanted)} compares with something that is no plain word. {_ADVICE}")
    return normal


def normalise_requirements(
    items: Sequence[str], *, limit: int = MAX_REQUIREMENTS, allow_urls: bool = False
) -> tuple[str, ...]:
    """Return `items` normalised, sorted and each once.

    Raises:
        RequestRefused: more than `limit` items, or one that `normalise_requirement` refuses.
    """
    _check_count(items, limit, "Python packages")
    return tuple(sorted({normalise_requirement(item, allow_urls=allow_urls) for item in items}))


def parse_requirements_file(
    text: str, *, limit: int = MAX_REQUIREMENTS, allow_urls: bool = False
) -> tuple[str, ...]:
    """Return the requirements of a `requirements.txt`, normalised, sorted and each once.

    Comments, continued lines, markers and hashes are read. Hashes are not enforced: pip would then
    ask for one for every package of the image. Options are refused, with their line.

    Raises:
        RequestRefused: a line that is not a requirement, named by its number, or more than `limit`.
    """
    found: list[str] = []
    for number, line in _join_lines(text):
        requirement = _HASH.sub("", f" {line}").strip()
        option = _OPTION.search(requirement)
        if option is not None:
            raise RequestRefused(
                f"Line {number} of the requirements file uses the option {_show(option[1])}, which is not "
                f"allowed here. {_ADVICE}"
            )
        try:
            found.append(normalise_requirement(requirement, allow_urls=allow_urls))
        except RequestRefused as exc:
            message = f"Line {number} of the requirements file: {exc.message}"
            raise RequestRefused(message, detail=exc.detail) from exc
        _check_count(found, limit, "requirements")
    return tuple(sorted(set(found)))


def check_system_package(name: str) -> str:
    """Return `name`, an apt package such as `ffmpeg` or `ffmpeg=7:5.1.6-0`.

    Raises:
        RequestRefused: anything else.
    """
    if len(name) > MAX_LENGTH or _SYSTEM_PACKAGE.fullmatch(name) is None:
        raise RequestRefused(
            f"{_show(name)} is not the name of a system package. Write names such as ffmpeg or "
            "libgl1, one by one, with =version at most."
        )
    return name


def check_system_packages(names: Sequence[str], *, limit: int = MAX_SYSTEM_PACKAGES) -> tuple[str, ...]:
    """Return `names` checked, sorted and each once.

    Raises:
        RequestRefused: more than `limit` names, or one that `check_system_package` refuses.
    """
    _check_count(names, limit, "system packages")
    return tuple(sorted({check_system_package(name.strip()) for name in names}))


def _check_source(requirement: Requirement, wanted: str, *, allow_urls: bool) -> None:
    """Refuse a requirement that pip would take from anywhere but an index, or a URL that is allowed."""
    if requirement.url and not allow_urls:
        raise RequestRefused(f"{_show(wanted)} installs from a URL, which is not allowed here. {_ADVICE}")
    if requirement.url and _URL.fullmatch(requirement.url) is None:
        raise RequestRefused(f"{_show(wanted)} has to name its URL as https://… or git+https://….")
    # pip looks at the end of a name, and of a version that stands behind it.
    ends = requirement.name, f"{requirement.name}{requirement.specifier}"
    if not requirement.url and any(map(_ARCHIVE.fullmatch, ends)):
        raise RequestRefused(f"{_show(wanted)} is the name of a file, not of a package. {_ADVICE}")
    if any(specifier.operator == "===" for specifier in requirement.specifier):
        # pip would take `===x.zip` for a file of that name.
        raise RequestRefused(f"{_show(wanted)} uses ===; write == and a version instead.")


_ADVICE = "Write packages by name and version, such as numpy or torch>=2.1."


def _join_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, line) without comments, empty lines and continuations."""
    first, parts = 0, ""
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = _COMMENT.sub("", raw).replace("\t", " ")
        first = first or number
        if line.endswith("\\") and not _COMMENT.search(raw):
            parts += line[:-1] + " "
            continue
        joined = (parts + line).strip()
        if joined:
            yield first, joined
        first, parts = 0, ""
    if parts.strip():
        yield first, parts.strip()


def _check_count(items: Sequence[str], limit: int, what: str) -> None:
    if len(items) > limit:
        raise RequestRefused(f"These are more than {limit} {what}. Ask for {limit} at most.")


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
