"""The admin's files as text, read anew each time: they are edited while the Hub runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import CatalogBroken, LimitsBroken
from ..model import LimitsTexts

LIMITS_PATHS = (
    "/etc/ds01/resource-limits.yaml",
    "/opt/ds01-infra/config/runtime/resource-limits.yaml",
    "/opt/ds01-infra/config/resource-limits.yaml",
)


def read_catalog(path: str, search: Sequence[str]) -> str | None:
    """Return the catalog's text; None if no path is set and none of `search` exists.

    Raises:
        CatalogBroken: `path` is set, or a file exists, and cannot be read.
    """
    found = path
    try:
        found = found or _first_existing(search)
        return Path(found).read_text(encoding="utf-8") if found else None
    except (OSError, UnicodeDecodeError) as exc:
        raise CatalogBroken(
            "The catalog of frameworks cannot be read at the moment. Please tell your admin.",
            detail=f"c.DS01.catalog_file = {found!r}: {exc}",
        ) from exc


def read_limits(path: str) -> LimitsTexts | None:
    """Return the limits' texts; None if no path is set and none is where DS01 installs it.

    Raises:
        LimitsBroken: a file cannot be read.
    """
    found = path
    try:
        found = found or _first_existing(LIMITS_PATHS)
        if not found:
            return None
        folder = Path(found).parent
        overrides = folder / "user-overrides.yaml"
        return LimitsTexts(
            path=found,
            text=Path(found).read_text(encoding="utf-8"),
            overrides=overrides.read_text(encoding="utf-8") if overrides.exists() else "",
            members={
                file.stem: file.read_text(encoding="utf-8")
                for file in sorted((folder / "groups").glob("*.members"))
            },
        )
    except (OSError, UnicodeDecodeError) as exc:
        raise LimitsBroken(
            "The limits of this server cannot be read at the moment. Please tell your admin.",
            detail=f"c.DS01.limits_file = {found!r}: {exc}",
        ) from exc


def _first_existing(paths: Sequence[str]) -> str:
    return next((path for path in paths if Path(path).exists()), "")
