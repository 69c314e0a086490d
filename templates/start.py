"""The first program of a server: compares what is mounted with what was checked, then starts Jupyter.

Docker resolves a mount's source as root, after the Hub opened it as the student. A path that was
swapped in between shows another device or inode here, and the server does not start.
"""

import json
import os
import runpy
import sys


def main() -> None:
    """Check each mount of /opt/ds01/mounts.json, then become the single-user server."""
    with open("/opt/ds01/mounts.json", encoding="utf-8") as file:
        mounts = json.load(file)
    for mount in mounts:
        found = os.stat(mount["target"])
        if (found.st_dev, found.st_ino) != (mount["device"], mount["inode"]):
            sys.exit(f"{mount['target']} is not the directory that was checked: the server does not start.")
    # As `python -I -m` does it, without a second start of Python.
    runpy.run_module("jupyterhub.singleuser", run_name="__main__", alter_sys=True)


main()
