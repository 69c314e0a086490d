"""Opens directories with people's credentials; run as a program, by root, and ends with who started it.

Stdin is a socket of whole messages, each an order with a descriptor to answer to. A process of its own
carries it out, forked from this one, since to start Python takes longer than all the rest. A path is opened
after the credentials were dropped, so it yields nothing that the person could not open herself, whatever
symlinks it holds. Runs under `python -I -S`: the standard library only.

In an order a NUL ends each part: UID, GID, the numbers of all her groups with blanks between, and for each
path a word and the path. The word has `c` where it may be created, `w` where she must be able to write.
In the answer a NUL ends each path's part: `DEVICE INODE PATH`, the path as it really is, or `- WHY`, which
is `missing`, `not-made`, `denied`, `readonly` or `not-a-directory`. Without a NUL it says why there is none.
"""

import os
import signal
import socket

MOST_BYTES = 1 << 17
# Of one that hangs, as on a network file system, nobody waits for the answer any more by then.
MOST_SECONDS = 60


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


def carry_out(order: bytes) -> bytes:
    """Drop to the person's credentials, then answer for each path."""
    *parts, _ = order.split(b"\0")
    uid, gid, groups = int(parts[0]), int(parts[1]), [int(number) for number in parts[2].split()]
    if os.getuid() != uid:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as exc:
            return str(exc).encode()
    if set(os.getresuid()) != {uid}:
        # -1 means "leave as it is" to the kernel.
        return b"the credentials were not dropped"
    answers = (
        open_directory(path, b"c" in word, b"w" in word)
        for word, path in zip(parts[3::2], parts[4::2], strict=True)
    )
    return b"".join(answer + b"\0" for answer in answers)


def main() -> None:
    """Take orders until who gives them is gone."""
    # Nobody waits for the processes that carry them out.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=0) as orders:
        while True:
            order, descriptors, _, _ = socket.recv_fds(orders, MOST_BYTES, 1)
            if not order:
                return
            with socket.socket(fileno=descriptors[0]) as answer:
                if os.fork() == 0:
                    orders.close()
                    signal.alarm(MOST_SECONDS)
                    answer.sendall(carry_out(order))
                    os._exit(0)


if __name__ == "__main__":
    main()
