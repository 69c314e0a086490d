"""The GPU device nodes of a running container, looked at from the host.

Nothing in the container is asked or run: its image decides what programs there answer. The process whose
files are looked at is the container's for certain, and no link inside leads outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..devices import name_capability_node, name_gpu_node

# NVIDIA's, for all time: Documentation/admin-guide/devices.txt of Linux. From 254 on nodes are no GPU's.
_GPU_MAJOR, _MOST_GPU_MINOR = 195, 253
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_device_nodes(pid: int, container_id: str) -> frozenset[str]:
    """Return the nodes of GPUs and MIG capabilities in /dev of a container, named as in `devices`.

    `pid` is its first process, as this process sees it.

    Raises:
        OSError: there is no such process, or its /dev cannot be read.
        ProcessLookupError: that process is none of this container.
    """
    with _opened(f"/proc/{pid}", os.O_PATH) as process:
        # While it is open, no other process can be mistaken for it.
        if container_id not in _read(process, "cgroup"):
            raise ProcessLookupError(f"process {pid} is none of container {container_id}")
        with _opened("root", os.O_PATH, process) as root, _opened("dev", _DIRECTORY, root) as dev:
            return frozenset((*_find_gpus(dev), *_find_capabilities(dev)))


@contextmanager
def _opened(path: str, flags: int, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(directory: int, name: str) -> str:
    with open(name, opener=lambda path, flags: os.open(path, flags, dir_fd=directory)) as file:
        return file.read()


def _find_gpus(dev: int) -> Iterator[str]:
    for number in _list_devices(dev):
        if os.major(number) == _GPU_MAJOR and os.minor(number) <= _MOST_GPU_MINOR:
            yield name_gpu_node(os.minor(number))


def _find_capabilities(dev: int) -> Iterator[str]:
    try:
        with _opened("nvidia-caps", _DIRECTORY, dev) as directory:
            for number in _list_devices(directory):
                yield name_capability_node(os.minor(number))
    except FileNotFoundError:
        return


def _list_devices(directory: int) -> Iterator[int]:
    """Yield the numbers of the character devices in a directory."""
    for name in os.listdir(directory):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode):
            yield status.st_rdev
