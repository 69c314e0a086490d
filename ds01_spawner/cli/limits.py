"""`ds01 limits`: what a user may have, as the limits file says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from .. import limits
from ..adapters.site_files import LIMITS_PATHS, read_limits
from ..errors import LimitsBroken
from ..model import UNLIMITED, Limits, Resources
from ..sizes import format_bytes
from .parsing import add_parser
from .sources import Sources
from .tables import align, print_json, show

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_EPILOG = """\
With --json, an object; null means unlimited:
  user, group                   strings; `override` is the group of a user with
                                limits of her own
  containers, slots, gpu_share  numbers, over all servers of the user; a whole
                                GPU is a share of 1
  cpus, memory_bytes, memory_swap_bytes, shm_size_bytes, storage_tmp_bytes,
  pids_limit, slots_per_container
                                numbers, for each server
  idle_timeout_seconds, max_runtime_seconds, gpu_hold_after_stop_seconds,
  container_hold_after_stop_seconds, priority
                                numbers
  allow_full_gpu                true or false
  aggregate                     an object: `cpus`, `memory_bytes` and `pids` of
                                all servers together
  not_enforced                  an object of keys and values in the file that
                                only systemd or the filesystem can enforce
With --unused --json, a list of strings.
"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add `limits`; `files` are the options that every command has."""
    parser = add_parser(
        commands,
        files,
        "limits",
        "limits: what a user may have",
        _EPILOG,
        description="Print what a user may have.",
    )
    parser.add_argument("user", metavar="USER", nargs="?", default="", help="the login name")
    parser.add_argument(
        "--group",
        metavar="NAME",
        action="append",
        default=[],
        help="a JupyterHub group of the user, several times for several; left out, those that load_groups "
        "in the --config file names",
    )
    parser.add_argument(
        "--unused",
        action="store_true",
        help="in place of USER: list what stands in the file and has no effect here",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--docker-args", action="store_true", help="as options of `docker run`, on one line")
    form.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=show_limits, parser=parser)


def show_limits(options: argparse.Namespace, sources: Sources) -> None:
    """Print the limits of a user, or what of the file is unused."""
    if options.unused == bool(options.user):
        options.parser.error("name a USER, or ask for --unused")
    if options.unused and (options.group or options.docker_args):
        options.parser.error("--unused is about the file, not about a user")
    file = _read_file(sources)
    if options.unused:
        _print_unused(file, as_json=options.json)
        return
    groups = options.group or [name for name, users in sources.hub_groups.items() if options.user in users]
    written = limits.limits_for(file, options.user, groups)
    if options.docker_args:
        print(" ".join(limits.docker_args(written, slice_pattern=sources.slice_pattern, user=options.user)))
        return
    found, unenforced = limits.bound(written), limits.list_unenforced(file, options.user, groups)
    if options.json:
        print_json(_as_json(options.user, found, unenforced))
        return
    print(f"{options.user} (group {found.group})\n{align(_describe(found), indent='  ')}")
    _print_unenforced(found, unenforced)


def _read_file(sources: Sources) -> limits.LimitsFile:
    texts = read_limits(sources.limits_file)
    if texts is None:
        raise LimitsBroken(
            "No limits file is installed, so everybody may have one slot in one container. "
            "Name a file with --limits, or set c.DS01.limits_file.",
            detail=f"searched {', '.join(LIMITS_PATHS)}",
        )
    return limits.load_texts(texts)


def _print_unused(file: limits.LimitsFile, *, as_json: bool) -> None:
    if as_json:
        print_json(list(file.unused))
    elif file.unused:
        print("\n".join(file.unused))
    else:
        print("ds01: The limits file has no key that means nothing here.", file=sys.stderr)


def _print_unenforced(found: Limits, unenforced: Mapping[str, str]) -> None:
    rows = [(key, show(value)) for key, value in unenforced.items()]
    if found.aggregate != UNLIMITED:
        rows.append(("aggregate in a slice of systemd", "so what runs past the Hub is not counted"))
    if rows:
        print(f"\nNot enforced by DS01 Spawner; docs/limits.md has the commands\n{align(rows, indent='  ')}")


def _as_json(user: str, found: Limits, unenforced: Mapping[str, str]) -> dict[str, object]:
    return {
        "user": user,
        "group": found.group,
        "cpus": found.cpus,
        "memory_bytes": found.memory,
        "memory_swap_bytes": found.memory_swap,
        "shm_size_bytes": found.shm_size,
        "pids_limit": found.pids_limit,
        "storage_tmp_bytes": found.storage_tmp,
        "slots": found.slots,
        "gpu_share": None if found.gpu_share is None else float(found.gpu_share),
        "slots_per_container": found.slots_per_container,
        "allow_full_gpu": found.allow_full_gpu,
        "containers": found.containers,
        "priority": found.priority,
        "idle_timeout_seconds": _seconds(found.idle_timeout),
        "max_runtime_seconds": _seconds(found.max_runtime),
        "gpu_hold_after_stop_seconds": _seconds(found.gpu_hold_after_stop),
        "container_hold_after_stop_seconds": _seconds(found.container_hold_after_stop),
        "aggregate": {
            "cpus": found.aggregate.cpus,
            "memory_bytes": found.aggregate.memory,
            "pids": found.aggregate.pids,
        },
        "not_enforced": dict(unenforced),
    }


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else time.total_seconds()


def _describe(found: Limits) -> list[tuple[str, str]]:
    rows: list[tuple[str, object]] = [
        ("servers", found.containers),
        ("GPU slots, all servers together", found.slots),
        ("GPU share, all servers together", found.gpu_share),
        *_describe_together(found.aggregate),
        ("GPU slots of one server", found.slots_per_container),
        ("full GPU", "allowed" if found.allow_full_gpu else "not allowed"),
        ("CPUs of one server", found.cpus),
        ("memory", _size(found.memory)),
        ("memory and swap", _size(found.memory_swap)),
        ("shared memory (/dev/shm)", _size(found.shm_size)),
        ("processes", found.pids_limit),
        ("/tmp, at most half of the memory", _size(found.storage_tmp)),  # noqa: S108  the one inside
        ("stopped when idle for", found.idle_timeout),
        ("stopped after", found.max_runtime),
        ("GPU kept after a stop", found.gpu_hold_after_stop),
        ("container kept after a stop", found.container_hold_after_stop),
        ("priority in the queue", found.priority),
    ]
    return [(name, _write(value)) for name, value in rows]


def _describe_together(aggregate: Resources) -> list[tuple[str, object]]:
    """Return what is limited of all servers together."""
    rows = (
        ("CPUs, all servers together", aggregate.cpus),
        ("memory, all servers together", _size(aggregate.memory)),
        ("processes, all servers together", aggregate.pids),
    )
    return [(name, value) for name, value in rows if value is not None]


def _size(count: int | None) -> str | None:
    return None if count is None else format_bytes(count)


def _write(value: object) -> str:
    if value is None:
        return "unlimited"
    if isinstance(value, timedelta):
        return _write_time(value)
    if isinstance(value, (float, Fraction)):
        return f"{float(value):.4g}"
    return str(value)


def _write_time(time: timedelta) -> str:
    seconds = round(time.total_seconds())
    parts = ((seconds // 3600, "h"), (seconds % 3600 // 60, "m"), (seconds % 60, "s"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0"
