"""Opens directories with a person's credentials; run as a program, by root, with JSON on stdin.

A path is opened after the credentials were dropped, so it yields nothing that she could not open
herself, whatever symlinks it holds. Runs under `python -I -S`: the standard library only.

In: `{"uid": …, "gid": …, "groups": […], "paths": [{"path": …, "create": bool, "write": bool}]}`.
Out: a list with `{"real", "device", "inode"}`, or `{"error": WHY}` where WHY is `missing`, `not-made`,
`denied`, `readonly` or `not-a-directory`.
"""

import json
import os
import sys


def open_directory(path: str, create: bool, write: bool) -> dict[str, object]:
    """Return what the directory really is, or the reason why she cannot have it."""
    if create and not os.path.lexists(path):
        try:
            os.makedirs(path, mode=0o700)
        except OSError:
            return {"error": "not-made"}
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return {"error": "missing"}
    except NotADirectoryError:
        return {"error": "not-a-directory"}
    except OSError:
        return {"error": "denied"}
    try:
        held = f"/proc/self/fd/{descriptor}"
        if not os.access(held, os.R_OK | os.X_OK):
            return {"error": "denied"}
        if write and not os.access(held, os.W_OK):
            return {"error": "readonly"}
        status = os.fstat(descriptor)
        return {"real": os.readlink(held), "device": status.st_dev, "inode": status.st_ino}
    finally:
        os.close(descriptor)


def main() -> None:
    """Drop to the person's credentials, then answer for each path."""
    order = json.load(sys.stdin)
    if os.getuid() != order["uid"]:
        os.setgroups(order["groups"])
        os.setresgid(order["gid"], order["gid"], order["gid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    if set(os.getresuid()) != {order["uid"]}:
        # -1 means "leave as it is" to the kernel.
        sys.exit("the credentials were not dropped")
    answers = [open_directory(wish["path"], wish["create"], wish["write"]) for wish in order["paths"]]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
