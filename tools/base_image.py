#!/usr/bin/env python3
"""Give a Docker Engine a small base image for the demo and the tests, and say where it came from.

AIME's images have many gigabytes and need a registry. With a registry in reach a small public Python
image stands in for them; else Debian 12 is bootstrapped from packages, through the machine's own apt
mirror, and imported. Guarantees: the same recipe gives the same image id until the Engine's images are
deleted (so what was built on it stays valid), and nothing is fetched when the image is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import (
    CACHE,
    KEYRING,
    SUITE,
    ToolError,
    find_program,
    main_guard,
    read_apt_sources,
    require_debian_root,
    run,
)

PUBLIC_IMAGE = "python:3.12-slim-bookworm"
REGISTRY_SECONDS = 20
PULL_SECONDS = 300
INSTEAD = "put the Engine in reach of a registry"


@dataclass(frozen=True)
class Recipe:
    """All that decides what a bootstrapped image holds; its hash is the image's tag."""

    packages: tuple[str, ...]
    commands: tuple[str, ...] = ()


WITH_PYTHON = Recipe(
    packages=(
        *("bash", "ca-certificates", "curl", "git", "less", "nano", "procps"),
        *("python3", "python3-pip", "python3-venv", "python-is-python3"),
    ),
    # Debian forbids pip outside an environment. The images this one stands in for do not: there pip
    # installs into the one Python, and that is what builds on them rely on.
    commands=('rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',),
)
WITHOUT_PYTHON = Recipe(packages=("bash", "ca-certificates", "procps"))

# What an image from a registry would carry in its configuration.
CHANGES = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
    'CMD ["/bin/bash"]',
)


class DockerClient:
    """The few calls of Debian's Docker client that are needed, against one Engine."""

    def __init__(self, docker_host: str) -> None:
        self._env = os.environ | {"DOCKER_HOST": docker_host}
        self._program = find_program("docker")

    def call(self, *arguments: str, timeout: float | None = None) -> str:
        return run([self._program, *arguments], env=self._env, timeout=timeout)

    def has_image(self, name: str) -> bool:
        return bool(self.call("image", "ls", "--quiet", name).strip())


def ensure(docker_host: str, tags: list[str], *, python: bool = True, public: bool = True) -> str:
    """Make sure that all `tags` name a base image, and return a sentence that says which it is."""
    docker = DockerClient(docker_host)
    docker.call("version", timeout=20)
    source, sentence = find_public_image(docker) if public and python else ("", "")
    if not source:
        source, sentence = bootstrap(docker, WITH_PYTHON if python else WITHOUT_PYTHON)
    for tag in tags:
        docker.call("tag", source, tag)
    return sentence


def find_public_image(docker: DockerClient) -> tuple[str, str]:
    """Return (image, sentence) of the public image, or empty strings when no registry answers in time."""
    if not docker.has_image(PUBLIC_IMAGE):
        try:
            docker.call("manifest", "inspect", PUBLIC_IMAGE, timeout=REGISTRY_SECONDS)
            docker.call("pull", "--quiet", PUBLIC_IMAGE, timeout=PULL_SECONDS)
        except ToolError:
            return "", ""
    return PUBLIC_IMAGE, f"base image: {PUBLIC_IMAGE}, from a registry"


def bootstrap(docker: DockerClient, recipe: Recipe) -> tuple[str, str]:
    """Return (image, sentence) of the image that the recipe makes, making it if it is not there."""
    content = json.dumps([asdict(recipe), CHANGES, SUITE], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    image = f"ds01-base:{digest}"
    if not docker.has_image(image):
        tarball = ensure_tarball(recipe, CACHE / "base" / f"{digest}.tar")
        changes = [word for change in CHANGES for word in ("--change", change)]
        docker.call("import", *changes, str(tarball), image)
    return (
        image,
        f"base image: {image}, bootstrapped from Debian packages",
    )


def ensure_tarball(recipe: Recipe, tarball: Path) -> Path:
    """Return the recipe's root file system as a tar file, made once (about 40 seconds)."""
    if tarball.exists():
        return tarball
    require_debian_root("A base image is bootstrapped", INSTEAD)
    tarball.parent.mkdir(parents=True, exist_ok=True)
    sources = [
        f"deb [signed-by={KEYRING}] {source.uri} {source.release} {' '.join(source.components)}"
        for source in read_apt_sources()
    ]
    with tempfile.TemporaryDirectory(dir=tarball.parent) as scratch:
        # Without documentation, and with mmdebstrap's own cleaning: no package lists, no machine id.
        unfinished = Path(scratch) / "root.tar"
        options = [
            *("--quiet", "--mode=root", "--variant=apt", f"--include={','.join(recipe.packages)}"),
            *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
            *("--dpkgopt=path-exclude=/usr/share/locale/*", '--aptopt=APT::Install-Recommends "false"'),
            *(f"--customize-hook={command}" for command in recipe.commands),
        ]
        run(["mmdebstrap", *options, SUITE, unfinished, *sources], cwd=Path("/"))
        unfinished.rename(tarball)
    return tarball


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("ensure", help="make sure that the tags name a base image")
    command.add_argument("--docker-host", required=True, help="the Engine, unix:///…/docker.sock")
    command.add_argument(
        "--tag", action="append", required=True, help="a name for the image; may be repeated"
    )
    command.add_argument("--no-python", action="store_true", help="an image without any Python, for tests")
    command.add_argument("--bootstrap", action="store_true", help="ask no registry")
    arguments = parser.parse_args()
    python = not arguments.no_python
    print(ensure(arguments.docker_host, arguments.tag, python=python, public=not arguments.bootstrap))
    return 0


if __name__ == "__main__":
    main_guard(main)
