"""Containers, and whose account and directories are in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

RUNNING_STATES = ("running", "paused", "restarting")
"""Docker's states of a container that has its devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user's account on this machine; `groups` are supplementary (name, gid) pairs."""

    name: str
    uid: int
    gid: int
    home: PurePosixPath
    shell: str = "/bin/bash"
    group_name: str = ""
    groups: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MountWish:
    """A directory to mount: what the settings or the person named, and where it goes."""

    source: str
    target: str
    create: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A bind mount that was opened with the user's own credentials.

    `device` and `inode` identify the directory, so that it can be compared before her code runs.
    """

    source: str
    target: str
    device: int
    inode: int
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as Docker reports it, with what matters here.

    `image` is the reference it was created with; `nonce` is the lease's
    that its label names ("" for none); `devices` are the GPUs it was given, in its maker's words.
    `looker` is the process that made it to look into an image and never starts it, "" for all others.
    """

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]
    nonce: str = ""
    devices: tuple[str, ...] = ()
    exit_code: int = 0
    looker: str = ""

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING_STATES
