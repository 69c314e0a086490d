#!/usr/bin/env python3
"""Install the Debian packages that the demo or the tests need, and only those that are missing.

Guarantees: with everything present nothing is downloaded and nothing is changed; a Docker Engine that
came from elsewhere (docker-ce) is never replaced by Debian's; PostgreSQL comes without a cluster, so
no service of it starts, unless the machine's own settings for clusters were there first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

from machine import SYSTEM_PATH, main_guard, require_debian_root, run

# Programs, and the package that brings each. Asked for by program, not by package: docker-ce brings
# `docker` too, and installing docker.io beside it would remove it.
DEMO_PROGRAMS = {
    "docker": "docker.io",
    "runc": "docker.io",
    "docker-init": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
}
DEMO_PACKAGES = ("python3-venv", "ca-certificates", "debian-archive-keyring")
TEST_PROGRAMS = {
    # Debian 12's own Engine, beside the private one: what runs with NVIDIA's older hook is tried on it.
    "dockerd": "docker.io",
    "containerd": "containerd",
    "gcc": "gcc",
    "git": "git",
    "initdb": "postgresql",
    "unshare": "util-linux",
    "chromium": "chromium",
    # For the W3C's validator of HTML.
    "java": "default-jre-headless",
}
TEST_PACKAGES = ("libc6-dev",)
# Where Debian has programs that are on nobody's path.
HIDDEN_PATHS = ("/usr/libexec/docker", *map(str, Path("/usr/lib/postgresql").glob("*/bin")))
CLUSTER_SETTINGS = Path("/etc/postgresql-common/createcluster.conf")


def is_installed(package: str) -> bool:
    """Say whether dpkg has the package installed."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def list_missing(purpose: str) -> list[str]:
    """Name the packages to install, in a stable order and once each."""
    programs, packages = dict(DEMO_PROGRAMS), list(DEMO_PACKAGES)
    if purpose == "test":
        programs |= TEST_PROGRAMS
        packages += TEST_PACKAGES
    search = ":".join((SYSTEM_PATH, *HIDDEN_PATHS))
    missing = [package for program, package in programs.items() if shutil.which(program, path=search) is None]
    missing += [package for package in packages if not is_installed(package)]
    return list(dict.fromkeys(missing))


def install(packages: list[str]) -> None:
    """Install packages with apt-get, without questions and without what they only recommend."""
    if "postgresql" in packages and not CLUSTER_SETTINGS.exists():
        # The tests start a server of their own: the package shall make no cluster, so starts no service.
        CLUSTER_SETTINGS.parent.mkdir(parents=True, exist_ok=True)
        CLUSTER_SETTINGS.write_text("create_main_cluster = false\n")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], env=env)
    run(["apt-get", "install", "-y", "--no-install-recommends", *packages], env=env)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packages = commands.add_parser("packages", help="install the Debian packages that are missing")
    packages.add_argument("purpose", choices=("demo", "test"), help="what to prepare for")
    arguments = parser.parse_args()

    missing = list_missing(arguments.purpose)
    if not missing:
        print("setup: every package is there")
        return 0
    names = " ".join(missing)
    require_debian_root("The set-up installs packages", f"install what these Debian packages hold: {names}")
    print(f"setup: installing {names}")
    install(missing)
    return 0


if __name__ == "__main__":
    main_guard(main)
