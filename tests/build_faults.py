"""What can go wrong in the middle of a build, and an Engine that it happens to.

A pytest plugin, named in `pytest_plugins` of the modules that use it. The Engine has a small disk and a
bridge of its own. So both can go away, and its Docker can be killed, while the Engine that other tests
share feels nothing. What a killed run left is cleared away by the next one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ds01_spawner.errors import BuildFailed, DS01Error, EngineUnavailable

from .conftest import ROOT, PrivateEngine, run_tool
from .hub.waiting import wait_for
from .package_index import INSTALLED_BYTES, Hold, PackageIndex

DIRECTORY = ROOT / ".cache" / "engine-build-faults"
# The Engine's folder is this disk, so that it is full for its logs and databases as well.
DISK = DIRECTORY.with_suffix(".img")
DISK_BYTES = 1500 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class FragileEngine(PrivateEngine):
    """An Engine that faults may strike; `link` is its bridge, `gateway` the host's address on it."""

    link: str
    gateway: str

    def find_commands(self) -> dict[int, str]:
        """Return the ids of the processes that wait here for a build on this Engine, and their programs."""
        found = {pid: _read(pid, "cmdline").split("\0") for pid in _list_processes()}
        return {
            pid: Path(words[0]).name
            for pid, words in found.items()
            if "build" in words and f"DOCKER_HOST={self.docker_host}\0" in _read(pid, "environ")
        }

    def wait_until_idle(self) -> None:
        """Wait until nothing is left of any build, neither of what waits for it nor of its steps."""
        wait_for(lambda: not self.find_commands(), "nobody waits for a build")
        wait_for(lambda: not find_steps(), "no step of a build runs")


class Fault(ABC):
    """Something that goes wrong while a download waits half-way, and what is told of it.

    `ends_step`: whether the step has ended as well when the build has.
    """

    sentence: str
    error: type[DS01Error] = BuildFailed
    ends_step = True

    @abstractmethod
    def strike(self, engine: FragileEngine, hold: Hold) -> AbstractContextManager[None]:
        """Let it happen; at the end it is over."""


class NetworkGone(Fault):
    """The bridge is down: who waits for an answer hears nothing any more."""

    sentence = "Installing your packages: The network failed while packages were fetched."

    @contextmanager
    def strike(self, engine: FragileEngine, hold: Hold) -> Iterator[None]:
        set_link = ["/usr/sbin/ip", "link", "set", engine.link]
        subprocess.run([*set_link, "down"], check=True)
        try:
            yield
        finally:
            subprocess.run([*set_link, "up"], check=True)


class DiskFull(Fault):
    """What is left of the disk has room for the download, and not for what comes out of it."""

    sentence = "Installing your packages: The disk of the server is full."

    @contextmanager
    def strike(self, engine: FragileEngine, hold: Hold) -> Iterator[None]:
        disk, filler = os.statvfs(DIRECTORY), DIRECTORY / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - INSTALLED_BYTES // 2)
        hold.release()
        try:
            yield
        finally:
            filler.unlink()


class DockerKilled(Fault):
    """dockerd is killed, and started again, as by systemd. It leaves what it had started to itself."""

    sentence = "Docker was restarted while your image was built."
    error = EngineUnavailable
    ends_step = False
    _how: tuple[str, ...] = ("--kill",)

    @contextmanager
    def strike(self, engine: FragileEngine, hold: Hold) -> Iterator[None]:
        call_engine("restart", *self._how)
        yield


class DockerRestarted(DockerKilled):
    """dockerd is asked to end, and started again."""

    _how = ()


class CommandKilled(Fault):
    """The command that waits for the build is killed."""

    sentence = "The build was ended from outside."

    @contextmanager
    def strike(self, engine: FragileEngine, hold: Hold) -> Iterator[None]:
        (command,) = (pid for pid, program in engine.find_commands().items() if program == "docker")
        os.kill(command, signal.SIGKILL)
        yield


class StepKilled(Fault):
    """pip is killed, as the system does with who wants the last memory."""

    sentence = "Installing your packages: This step was killed, as happens when memory runs out."

    @contextmanager
    def strike(self, engine: FragileEngine, hold: Hold) -> Iterator[None]:
        (pip,) = (step for step in find_steps() if "\0-m\0pip\0" in _read(step, "cmdline"))
        os.kill(pip, signal.SIGKILL)
        yield


FAULTS = (NetworkGone, DiskFull, DockerKilled, DockerRestarted, CommandKilled, StepKilled)


@pytest.fixture(scope="session")
def fragile_engine() -> Iterator[FragileEngine]:
    """The Engine; it and its disk go at the end of the run."""
    _take_down()
    try:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        with DISK.open("wb") as disk:
            disk.truncate(DISK_BYTES)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-m", "0", str(DISK)], check=True)
        subprocess.run(["/usr/bin/mount", "-o", "loop", str(DISK), str(DIRECTORY)], check=True)
        call_engine("up")
        state = json.loads((DIRECTORY / "engine.json").read_text())
        yield FragileEngine(
            docker_host=json.loads((DIRECTORY / "daemon.json").read_text())["hosts"][0],
            cdi_directory=DIRECTORY / "cdi",
            link=state["bridge"],
            gateway=state["address"].partition("/")[0],
        )
    finally:
        _take_down()


@pytest.fixture(scope="session")
def package_index(fragile_engine: FragileEngine) -> Iterator[PackageIndex]:
    """An index that builds on the Engine can reach."""
    index = PackageIndex(fragile_engine.gateway)
    yield index
    index.close()


def call_engine(command: str, *arguments: str) -> None:
    """Run a command of tools/engine.py on the Engine."""
    done = run_tool("engine", command, "--directory", str(DIRECTORY), *arguments)
    assert done.returncode == 0, done.stderr


def find_steps() -> list[int]:
    """Return the ids of the processes in steps of builds, and in containers, on the Engine's disk."""
    return [
        pid
        for pid in _list_processes()
        if f"upperdir={DIRECTORY}/" in _read(pid, "mountinfo").partition("\n")[0]
    ]


def _take_down() -> None:
    call_engine("down")
    for step in find_steps():
        # Docker leaves it to itself when it ends in the middle of a build.
        with suppress(ProcessLookupError):
            os.kill(step, signal.SIGKILL)
    if os.path.ismount(DIRECTORY):
        # Lazily: what was killed may still be on it.
        subprocess.run(["/usr/bin/umount", "--lazy", str(DIRECTORY)], check=True)
    DISK.unlink(missing_ok=True)


def _list_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, file: str) -> str:
    """Return a file of a process in /proc, "" when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    except OSError:
        return ""
