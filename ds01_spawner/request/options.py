"""`user_options`, read strictly: the same for the form, REST, and what the Hub stored last time.

Nothing that passes is longer than the bounds below or holds a control character, so that it can be
printed, stored and compared. What it means is checked later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from ..errors import RequestRefused
from ..model import MOST_GPUS
from ..sizes import parse_bytes
from .wording import describe, suggest

LONGEST_TEXT = 200
LONGEST_LIST = 200
LONGEST_REQUIREMENTS = 64 * 1024

# Docker refuses to give a container less memory, or less of a CPU, than this.
_LEAST_MEMORY = 6 * 1024**2
_LEAST_CPUS = 0.01
_MOST_BYTES = 1024**5
_MOST_CPUS = 4096
_MOST_PIDS = 2**22


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has control characters")
    return text


def _bounded(text: str) -> str:
    # A lone surrogate, which JSON can carry, fails in encode() with a ValueError.
    if len(text.encode()) > LONGEST_REQUIREMENTS or "\0" in text:
        raise ValueError("too large, or not text")
    return text


def _read_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("not a size")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ValueError("too long")
    return parse_bytes(value)


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=LONGEST_TEXT), AfterValidator(_one_line)
]
# Lax only about the container: JSON gives lists, and a frozen value holds tuples.
Texts = Annotated[tuple[Text, ...], Field(strict=False, max_length=LONGEST_LIST)]


class Unlisted(BaseModel):
    """The free text besides a profile option's choices: `{"unlisted": "…"}`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    unlisted: Text


class UserOptions(BaseModel):
    """What she asked for; "" , () and None mean that profile and site decide.

    `profile` is a slug, and `profile_options` maps the slug of one of its options to the slug of a
    choice, or to `{"unlisted": text}`. `memory` and `shm_size` are given as `"8g"` or bytes, and
    are bytes here. `requirements` is the text of a requirements file.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    profile: Text = ""
    profile_options: Annotated[dict[Text, Text | Unlisted], Field(max_length=LONGEST_LIST)] = {}
    framework: Text = ""
    framework_version: Text = ""
    base_image: Text = ""
    use_case: Text = ""
    packages: Texts = ()
    system_packages: Texts = ()
    requirements: Annotated[str, AfterValidator(_bounded)] = ""
    gpu_profile: Text = ""
    gpu_count: Annotated[int, Field(ge=0, le=MOST_GPUS)] | None = None
    rebuild: bool = False
    cpus: Annotated[float, Field(ge=_LEAST_CPUS, le=_MOST_CPUS)] | None = None
    memory: Annotated[int, BeforeValidator(_read_size), Field(ge=_LEAST_MEMORY, le=_MOST_BYTES)] | None = None
    shm_size: Annotated[int, BeforeValidator(_read_size), Field(ge=1, le=_MOST_BYTES)] | None = None
    pids_limit: Annotated[int, Field(ge=1, le=_MOST_PIDS)] | None = None
    workspace_dir: Text = ""
    data_dir: Text = ""
    models_dir: Text = ""


_A_TEXT = f"one line of text, at most {LONGEST_TEXT} characters"
_A_LIST = f"a list of at most {LONGEST_LIST} names, each at most {LONGEST_TEXT} characters"
_EXPECTED = {
    "profile_options": 'an object such as {"image": "pytorch"}, or {"image": {"unlisted": "…"}}',
    "packages": f'{_A_LIST}, such as ["pandas", "torch>=2"]; put more into a requirements file',
    "system_packages": f'{_A_LIST}, such as ["ffmpeg"]',
    "requirements": f"the text of a requirements file, at most {LONGEST_REQUIREMENTS // 1024} KiB of UTF-8",
    "gpu_count": f"a whole number from 0 to {MOST_GPUS}",
    "rebuild": "true or false",
    "cpus": f"a number from {_LEAST_CPUS} to {_MOST_CPUS}",
    "memory": 'a size from "6m" to "1024t", such as "8g", or a number of bytes',
    "shm_size": 'a size up to "1024t", such as "2g", or a number of bytes',
    "pids_limit": f"a whole number from 1 to {_MOST_PIDS}",
}


def parse_options(options: object) -> UserOptions:
    """Return `options`, a user's `user_options` as JSON gives them, if they are written rightly.

    `None`, `{}` and `[]` (which the Hub takes for "as always") ask for nothing; so does a key whose
    value is None.

    Raises:
        RequestRefused: an unknown key, a wrong type, or something out of bounds; names the key.
    """
    if options is None or options == []:
        options = {}
    if not isinstance(options, Mapping):
        raise RequestRefused(
            f"The options have to be an object of names and values, not {describe(options)}."
        )
    known = UserOptions.model_fields
    unknown = next((key for key in options if key not in known), None)
    if unknown is not None:
        raise RequestRefused(f"There is no option {describe(unknown)}: {suggest(unknown, known)}")
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        # Each wrong entry costs an error of its own: millions of them would take the Hub's time.
        if isinstance(value, (list, dict)) and len(value) > LONGEST_LIST:
            raise _refusal(key, value)
    try:
        return UserOptions.model_validate(given)
    except ValidationError as exc:
        key = str(exc.errors(include_input=False, include_context=False, include_url=False)[0]["loc"][0])
        raise _refusal(key, given[key]) from exc


def _refusal(key: str, value: object) -> RequestRefused:
    expected = _EXPECTED.get(key, _A_TEXT)
    return RequestRefused(
        f"`{key}` has to be {expected}; it was {describe(value)}. Correct it and start again.", field=key
    )
