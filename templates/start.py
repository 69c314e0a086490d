"""The first program of a server: compares what is mounted with what was checked, then starts Jupyter.

Docker resolves a mount's source as root, after the Hub opened it as the student. A path that was
swapped in between shows another device or inode here, and the server does not start.
"""

import os
import sys

# Where the extension lies that tells her time. Behind everything else: what a package of the image is called
# alike is that package.
LIBRARY = "/opt/ds01/lib"


def keep_company() -> None:
    """Leave a process beside the server that does nothing, and ends with it.

    `mlc-open` of AIME's version 1 stops a container in which it counts only two processes when one leaves its
    shell, and an init and an idle server are two.
    """
    end, kept_open = os.pipe()
    if os.fork() == 0:
        os.close(kept_open)
        os.read(end, 1)
        os._exit(0)
    os.close(end)


def main() -> None:
    """Check each mount of /opt/ds01/mounts (`DEVICE INODE TARGET` a line), then become the server."""
    keep_company()
    with open("/opt/ds01/mounts", encoding="utf-8") as file:
        mounts = [line.rstrip("\n").split(" ", 2) for line in file]
    for device, inode, target in mounts:
        found = os.stat(target)
        if (found.st_dev, found.st_ino) != (int(device), int(inode)):
            sys.exit(f"{target} is not the directory that was checked: the server does not start.")
    sys.path.append(LIBRARY)
    # What jupyterhub-singleuser does, without a second start of Python.
    from jupyterhub.singleuser import main as serve

    sys.exit(serve())


# Not in a process that Jupyter's own ones make of this program.
if __name__ == "__main__":
    main()
