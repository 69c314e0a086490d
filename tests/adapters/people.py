"""A container as a person has it, with accounts that its image does not know: for tests of its shells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import docker
from docker.models.containers import Container

from ds01_spawner.model import Account

from .building import BASE

HER = Account(name="ada", uid=12345, gid=12346, home=PurePosixPath("/home/ada"))
# Without the marks that bash sets around each line, for pasting: what is expected of it reads as it looks.
_PLAIN = "echo set enable-bracketed-paste off > /tmp/inputrc"
_SLEEP = f"mkdir -p /workspace && chmod 1777 /workspace && {_PLAIN} && exec sleep 900"
_ENVIRONMENT = {"HOME": "/tmp", "INPUTRC": "/tmp/inputrc"}


@contextmanager
def running_container(engine: docker.DockerClient) -> Iterator[Container]:
    """A container that runs for the body, with a workspace that all may write to."""
    made = engine.containers.run(
        BASE, ["bash", "-c", _SLEEP], detach=True, init=True, environment=_ENVIRONMENT
    )
    try:
        yield made
    finally:
        made.remove(force=True)


def list_programs(container: Container) -> list[str]:
    """The commands of all processes in a container."""
    return [" ".join(process[7:]) for process in container.top()["Processes"]]
