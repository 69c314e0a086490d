"""Limits as Docker understands them: the options of `docker run`, and arguments for a create call.

They differ on purpose. `docker_args` prints, letter by letter, what DS01's `get_resource_limits.py`
prints, for scripts that read it. `create_limits` is what our own containers get: the same limits,
but a `/tmp` that compilers can use and that cannot eat up the memory it counts as.
"""

from __future__ import annotations

import re

from ds01_spawner.errors import LimitsBroken
from ds01_spawner.limits.file import GROUP_NAME
from ds01_spawner.limits.keys import read_cpus, read_pids, read_size
from ds01_spawner.model import Limits
from ds01_spawner.sizes import format_bytes

DEFAULT_SLICE_PATTERN = "ds01-{group}.slice"

_TMP = "/tmp"  # noqa: S108  the one inside the container


def docker_args(limits: Limits, *, slice_pattern: str = DEFAULT_SLICE_PATTERN, user: str = "") -> list[str]:
    """Return the options of `docker run` that DS01's scripts of November 2025 print.

    Sizes keep the spelling of the limits file. What is unlimited is left out, where DS01 prints a
    `None` that Docker refuses. `user` is needed only for a pattern with `{user}`.
    """
    args = []
    if limits.cpus is not None:
        args.append(f"--cpus={_spell(limits, 'cpus', limits.cpus)}")
    if limits.memory is not None:
        args.append(f"--memory={_spell(limits, 'memory', limits.memory)}")
        swap = -1 if limits.memory_swap is None else _spell(limits, "memory_swap", limits.memory_swap)
        args.append(f"--memory-swap={swap}")
    if limits.shm_size is not None:
        args.append(f"--shm-size={_spell(limits, 'shm_size', limits.shm_size)}")
    if limits.pids_limit is not None:
        args.append(f"--pids-limit={_spell(limits, 'pids_limit', limits.pids_limit)}")
    if limits.storage_tmp is not None:
        args.append(f"--tmpfs=/tmp:size={_spell(limits, 'storage_tmp', limits.storage_tmp)}")
    if slice_pattern:
        args.append(f"--cgroup-parent={_name_slice(limits.group, slice_pattern, user)}")
    return args


def create_limits(
    limits: Limits,
    slice_pattern: str = DEFAULT_SLICE_PATTERN,
    user: str = "",
    *,
    host_cpus: int | None = None,
) -> dict[str, object]:
    """Return the arguments of docker-py's `create_host_config` that apply the limits at creation.

    Sizes are in bytes. `host_cpus` is the number of CPUs of the machine: Docker refuses a container
    that asks for more. An unlimited `/dev/shm` is as large as the memory (it counts as memory, and
    Docker's own default of 64 MiB is too small for data loaders). An empty `slice_pattern` leaves
    the cgroup parent to Docker.
    """
    arguments: dict[str, object] = {"tmpfs": {_TMP: _tmpfs_options(limits)}}
    if limits.cpus is not None:
        cpus = limits.cpus if host_cpus is None else min(limits.cpus, host_cpus)
        arguments["nano_cpus"] = round(cpus * 1e9)
    if limits.memory is not None:
        arguments["mem_limit"] = limits.memory
        # Docker refuses a sum of memory and swap that is less than the memory alone.
        swap = -1 if limits.memory_swap is None else max(limits.memory, limits.memory_swap)
        arguments["memswap_limit"] = swap
    shm_size = limits.memory if limits.shm_size is None else limits.shm_size
    if shm_size is not None:
        arguments["shm_size"] = shm_size
    if limits.pids_limit is not None:
        arguments["pids_limit"] = limits.pids_limit
    if slice_pattern:
        arguments["cgroup_parent"] = _name_slice(limits.group, slice_pattern, user)
    return arguments


def _tmpfs_options(limits: Limits) -> str:
    sizes = [limits.storage_tmp, None if limits.memory is None else limits.memory // 2]
    known = [size for size in sizes if size is not None]
    return f"exec,mode=1777,size={min(known)}" if known else "exec,mode=1777"


def _name_slice(group: str, pattern: str, user: str) -> str:
    if not GROUP_NAME.fullmatch(group):
        raise LimitsBroken(
            f"The group name {group[:40]!r} cannot name a cgroup. Ask your admin to use letters, digits, "
            "`_`, `.` and `-`."
        )
    # systemd reads every `-` as one level deeper, so a user name must not bring one (as in DS01).
    escaped = re.sub(r"[^A-Za-z0-9:]+", "_", user.partition("@")[0]).strip("_") or "_"
    return pattern.replace("{group}", group).replace("{user}", escaped)


def _spell(limits: Limits, name: str, value: float) -> str:
    """Return a value as the limits file spells it, if that still means the same."""
    written = limits.written.get(name)
    read = {"cpus": read_cpus, "pids_limit": read_pids}.get(name, read_size)
    if written is not None and read(written) == value:
        return written
    if name in ("cpus", "pids_limit"):
        return f"{value:.10g}"
    return format_bytes(int(value))
