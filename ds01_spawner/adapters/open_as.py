"""Opens directories with a person's credentials; run as a program, by root, with an order on stdin.

A path is opened after the credentials were dropped, so it yields nothing that she could not open
herself, whatever symlinks it holds. Runs under `python -I -S` and imports no more than it has then, since
each start of a server waits for it twice.

In, each ended by a NUL: UID, GID, the numbers of all her groups with blanks between, and for each path a
word and the path. The word has `c` where it may be created and `w` where she must be able to write.
Out, each ended by a NUL, for each path: `DEVICE INODE PATH`, the path as it really is, or `- WHY`, which is
`missing`, `not-made`, `denied`, `readonly` or `not-a-directory`.
"""

import os
import sys


def open_directory(path: bytes, create: bool, write: bool) -> bytes:
    """Return what the directory really is, or the reason why she cannot have it."""
    if create and not os.path.lexists(path):
        try:
            os.makedirs(path, mode=0o700)
        except OSError:
            return b"- not-made"
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return b"- missing"
    except NotADirectoryError:
        return b"- not-a-directory"
    except OSError:
        return b"- denied"
    try:
        held = f"/proc/self/fd/{descriptor}"
        if not os.access(held, os.R_OK | os.X_OK):
            return b"- denied"
        if write and not os.access(held, os.W_OK):
            return b"- readonly"
        status = os.fstat(descriptor)
        return b"%d %d %s" % (status.st_dev, status.st_ino, os.readlink(os.fsencode(held)))
    finally:
        os.close(descriptor)


def main() -> None:
    """Drop to the person's credentials, then answer for each path."""
    *order, _ = sys.stdin.buffer.read().split(b"\0")
    uid, gid, groups = int(order[0]), int(order[1]), [int(number) for number in order[2].split()]
    if os.getuid() != uid:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if set(os.getresuid()) != {uid}:
        # -1 means "leave as it is" to the kernel.
        sys.exit("the credentials were not dropped")
    for word, path in zip(order[3::2], order[4::2], strict=True):
        sys.stdout.buffer.write(open_directory(path, b"c" in word, b"w" in word) + b"\0")


if __name__ == "__main__":
    main()
