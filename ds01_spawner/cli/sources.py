"""Where the commands read: the Hub's own settings, or files named on the command line.

What asks the ledger or Docker needs the Hub's settings, and the rights of who runs the Hub.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import inventory
from ..errors import ConfigBroken, InventoryUnavailable, LedgerUnavailable
from ..limits import DEFAULT_SLICE_PATTERN
from ..model import Inventory

if TYPE_CHECKING:
    from ..core import Core
    from ..site import DS01

HUB_CONFIG = "/etc/jupyterhub/jupyterhub_config.py"
_SQLITE_FILE = re.compile(r"sqlite(?:\+\w+)?:///(.+)")


def _read_nvml() -> Inventory:
    from ..adapters import nvml

    return nvml.read_inventory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What of the site's settings the commands need; an empty file name means search for it.

    `hub_groups` are the users of each of the Hub's groups, as far as its settings name them. `site` is
    there where a file of the Hub's settings was read.
    """

    catalog_file: str = ""
    limits_file: str = ""
    architecture: str = ""
    slice_pattern: str = DEFAULT_SLICE_PATTERN
    hub_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read_inventory: Callable[[], Inventory] = _read_nvml
    site: DS01 | None = None

    def groups_of(self, user: str) -> tuple[str, ...]:
        """Return the Hub's groups of a user, as far as its settings name them."""
        return tuple(name for name, users in self.hub_groups.items() if user in users)


def find_config(named: str) -> str:
    """Return the Hub's settings file: the one that is `named`, else `$DS01_CONFIG`, else the usual one.

    Raises:
        ConfigBroken: neither is named, and the usual one does not exist.
    """
    found = named or os.environ.get("DS01_CONFIG", "")
    if not found and not _exists(HUB_CONFIG):
        raise ConfigBroken(
            "This command needs the Hub's jupyterhub_config.py, which says where ledger and Docker are. "
            f"Name it with --config or in $DS01_CONFIG, or put it at {HUB_CONFIG}."
        )
    return found or HUB_CONFIG


def open_core(sources: Sources) -> Core:
    """Return the use cases on the ledger and the Docker that the Hub has.

    Raises:
        LedgerUnavailable: it is not there yet, or not for this user.
    """
    site = sources.site
    assert site is not None
    if sources.limits_file:
        site.limits_file = sources.limits_file
    found = _SQLITE_FILE.fullmatch(site.ledger_url)
    # Opened, it would be made: by whoever asks, and perhaps in the wrong place.
    if found is not None and not _exists(found[1]):
        raise LedgerUnavailable(
            "Nobody has leased anything yet: the ledger is made when the Hub or its service starts. "
            "Start it, or name another file of its settings with --config.",
            detail=f"there is no file {found[1]}",
        )
    if found is not None and not os.access(found[1], os.R_OK | os.W_OK, effective_ids=True):
        raise LedgerUnavailable(
            "Only root, and the user who runs the Hub, may use the ledger. Run this command with sudo.",
            detail=f"{found[1]} cannot be read and written",
        )
    return site.core


def _exists(path: str) -> bool:
    """Whether a file is there, or may be: who may not look into its folder is told so later."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def find_sources(*, config_file: str = "", catalog_file: str = "", limits_file: str = "") -> Sources:
    """Return what the Hub's settings in `config_file` say, a file that is named beside it first.

    Raises:
        ConfigBroken: `config_file` is missing, raises, or has a value that no setting takes.
    """
    found = _read_config(Path(config_file)) if config_file else Sources()
    return replace(
        found,
        catalog_file=catalog_file or found.catalog_file,
        limits_file=limits_file or found.limits_file,
    )


def _read_config(path: Path) -> Sources:
    if _exists(str(path)) and not os.access(path, os.R_OK, effective_ids=True):
        raise ConfigBroken(f"Only root may read the Hub's settings in {path}. Run this command with sudo.")
    if not path.is_file():
        raise ConfigBroken(f"There is no file {path}. Name the Hub's jupyterhub_config.py with --config.")
    try:
        # stdout belongs to the command's answer, whatever the file prints.
        with redirect_stdout(sys.stderr):
            site, hub_groups = _load_site(path)
    # The file is the admin's program and may raise anything, or exit.
    except (Exception, SystemExit) as exc:
        raise ConfigBroken(
            f"The settings in {path} cannot be used. Mend the file, or name another one with --config.",
            detail=f"{_find_line(exc, path)}{type(exc).__name__}: {exc}",
        ) from exc
    return Sources(
        catalog_file=site.catalog_file,
        limits_file=site.limits_file,
        architecture=site.architecture,
        slice_pattern=site.slice_pattern,
        hub_groups=hub_groups,
        read_inventory=site.read_inventory,
        site=site,
    )


def _load_site(path: Path) -> tuple[DS01, dict[str, tuple[str, ...]]]:
    from ..site import DS01, read_config

    config = read_config(path)
    groups = config.JupyterHub.get("load_groups", {})
    # JupyterHub takes a list of users, or a mapping that has one.
    users = {
        name: group.get("users", ()) if isinstance(group, Mapping) else group
        for name, group in groups.items()
    }
    return DS01(config=config), {name: tuple(members) for name, members in users.items()}


def _find_line(exc: BaseException, path: Path) -> str:
    frames = traceback.extract_tb(exc.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path.absolute())]
    return f"line {lines[-1]}: " if lines else ""


def find_architecture(sources: Sources, asked: str) -> str:
    """Return the architecture that is asked for, set, in `$MLC_ARCH`, or that of the GPUs; "" for any."""
    try:
        return inventory.find_architecture(asked or sources.architecture, os.environ, sources.read_inventory)
    except InventoryUnavailable as exc:
        print(
            "ds01: The GPUs cannot be read, so every architecture counts. Name one with --arch.",
            file=sys.stderr,
        )
        print(f"  {exc.detail or exc}", file=sys.stderr)
        return ""
