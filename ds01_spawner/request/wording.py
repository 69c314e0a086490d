"""How a value that somebody typed is named in a sentence: short, and safe to print."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 60
_LARGE = 10**15


def describe(value: object) -> str:
    """Return `value` as a few words; text is quoted, cut, and free of control characters."""
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value) if -_LARGE < value < _LARGE else "a number out of all bounds"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, (list, tuple)) else "something else"


def suggest(name: object, known: Iterable[str]) -> str:
    """Return "did you mean …?" when something in `known` is near `name`, else what there is."""
    names = sorted(known)
    near = get_close_matches(str(name)[:_SHOWN], names, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"there is {', '.join(f'`{known_name}`' for known_name in names)}." if names else "there is none."
