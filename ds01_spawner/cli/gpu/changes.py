"""`ds01 gpu allocate`, `release`, `drain` and `undrain`: what an admin changes, in her name."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import LimitExceeded, NotAllowed
from ...model import Slot, name_gpu
from ..sources import Sources, open_core
from ..tables import align, print_json, show
from ..times import show_time, write_time

if TYPE_CHECKING:
    from ...core.admin import Allocation, MarkChange, Release


def allocate(options: argparse.Namespace, sources: Sources) -> None:
    """Give a user slots for a time, and print how to use them."""
    profile, count = options.wish
    try:
        made = open_core(sources).admin.allocate(
            options.user,
            profile,
            count,
            until=options.until,
            who=find_who(),
            reason=options.reason,
            hub_groups=options.group or sources.groups_of(options.user),
            force=options.force,
            dry_run=options.dry_run,
        )
    except (LimitExceeded, NotAllowed) as exc:
        raise type(exc)(
            f"{options.user} would be told: {exc}", detail="--force gives it all the same"
        ) from exc
    if options.json:
        print_json(_allocation_as_json(made, dry_run=options.dry_run))
    else:
        _print_allocation(made)


def find_who() -> str:
    """Return the login of the person who runs this: behind sudo hers, not root's."""
    behind = os.environ.get("SUDO_USER", "")
    if behind and os.geteuid() == 0:
        return behind
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
