"""Sizes of memory as Docker writes them: `512m`, `8g`, `8GiB`, or a number of bytes."""

from __future__ import annotations

import re

_UNITS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgtp])?(?:i?b)?", re.IGNORECASE)


def parse_bytes(value: str | int) -> int:
    """Return the bytes that `value` names; units are powers of 1024, as in Docker.

    Raises:
        ValueError: not a size, or a negative one.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{value!r} is not a size such as 8g")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"{value} is negative")
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value[:40]!r} is not a size such as 512m or 8g")
    return int(float(match[1]) * 1024 ** _UNITS[(match[2] or "b").lower()])


def format_bytes(count: int) -> str:
    """Return the shortest exact form that `parse_bytes` reads back, e.g. `8g`, `1536m`."""
    for unit in "tgmk":
        size = 1024 ** _UNITS[unit]
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}b"
