"""The programs of a Docker Engine: one that knows CDI, taken from the next Debian without installing it.

Debian 12's own Docker is 20.10, which has no CDI; what runs with NVIDIA's older hook is tried on that
one, as it is installed. Debian 13's `docker.io` and `containerd` run on
Debian 12 as they are; only its `runc` wants a newer glibc, so the machine's own is used. The packages
come through apt, signed and checked, under an apt configuration of their own: the machine's package
lists and its dpkg never hear of them. So do programs that tests run: buildx, and a registry whose package
would start it for everybody.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from machine import CACHE, KEYRING, SUITE, ToolError, read_apt_sources, run

ENGINE_SUITE = "trixie"
PACKAGES = ("docker.io", "containerd")
PROGRAMS = (
    "usr/sbin/dockerd",
    "usr/sbin/docker-proxy",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
)
BINARIES = CACHE / "engine" / "bin"
TEST_PACKAGES = ("docker-buildx", "docker-registry")
TEST_PROGRAMS = ("usr/libexec/docker/cli-plugins/docker-buildx", "usr/bin/docker-registry")
TEST_BINARIES = CACHE / "test-programs"
DEBIANS_VERSION = "20.10."


def ensure_binaries(directory: Path = BINARIES) -> Path:
    """Return the folder with the Engine's programs, fetched once (about 55 MB, 10 seconds)."""
    return _ensure(directory, PACKAGES, PROGRAMS)


def ensure_test_programs(directory: Path = TEST_BINARIES) -> Path:
    """Return the folder with `docker-buildx` and `docker-registry`, fetched once (about 20 MB)."""
    return _ensure(directory, TEST_PACKAGES, TEST_PROGRAMS)


def _ensure(directory: Path, packages: Sequence[str], programs: Sequence[str]) -> Path:
    """Return `directory` with the `programs` of Debian 13's `packages` in it."""
    if all((directory / Path(program).name).exists() for program in programs):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        for package in _download(Path(scratch), packages):
            run(["dpkg", "-x", package, unpacked])
        chosen = Path(scratch) / "bin"
        chosen.mkdir()
        for program in programs:
            shutil.move(unpacked / program, chosen / Path(program).name)
        # One rename at the end: a download that was cut off leaves no half-filled folder.
        shutil.rmtree(directory, ignore_errors=True)
        chosen.rename(directory)
    return directory


def check_debian_engine(path: str) -> None:
    """Raise ToolError unless the dockerd on `path` is Debian 12's own."""
    dockerd = shutil.which("dockerd", path=path)
    version = run([dockerd, "--version"]).strip() if dockerd else "no dockerd"
    if DEBIANS_VERSION not in version:
        raise ToolError(
            f"This needs Docker {DEBIANS_VERSION}x of Debian 12's package docker.io, and here is {version}."
        )


def _download(scratch: Path, names: Sequence[str]) -> list[Path]:
    env = os.environ | {"APT_CONFIG": str(_write_apt_config(scratch))}
    run(["apt-get", "update"], env=env)
    run(["apt-get", "download", *names], env=env, cwd=scratch)
    packages = sorted(scratch.glob("*.deb"))
    if len(packages) != len(names):
        raise ToolError(f"The machine's Debian mirror has no {' and '.join(names)} in {ENGINE_SUITE}.")
    return packages


def _write_apt_config(scratch: Path) -> Path:
    """Write an apt configuration that sees one suite, and keeps its state in `scratch`."""
    mirror = next(source.uri for source in read_apt_sources() if source.release == SUITE)
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {mirror} {ENGINE_SUITE} main\n")
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    settings = {
        "Dir::State": scratch / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none",
        # The folder belongs to root alone; apt's own user could not write there and would warn.
        "APT::Sandbox::User": "root",
    }
    config = scratch / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return config
