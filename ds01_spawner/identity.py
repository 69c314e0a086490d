"""Who a person is inside her container: the lines of `/etc/passwd` and `/etc/group`.

One image serves everybody: these files are edited for the created container, never for the image.
An entry of the image with her UID, or with her name, gives way (Ubuntu 24.04 has `ubuntu:1000`).
"""

from __future__ import annotations

from .model import Account


def merge_passwd(text: str, account: Account) -> str:
    """Return the image's `/etc/passwd` with the account in it, and nobody else under its UID or name."""
    kept = [
        line for line in text.splitlines() if line.strip() and not _is_entry(line, account.name, account.uid)
    ]
    entry = f"{account.name}:x:{account.uid}:{account.gid}::{account.home}:{account.shell}"
    return "\n".join([*kept, entry]) + "\n"


def merge_shadow(text: str, account: Account) -> str:
    """Return the image's `/etc/shadow` with the account in it, without a password: sudo asks whether it
    is a valid account."""
    kept = [line for line in text.splitlines() if line.strip() and line.split(":")[0] != account.name]
    return "\n".join([*kept, f"{account.name}:*:::::::"]) + "\n"


def merge_group(text: str, account: Account) -> str:
    """Return the image's `/etc/group` with her primary group and her supplementary groups in it."""
    wanted = {gid: name for name, gid in account.groups}
    wanted_names = frozenset(wanted.values())
    primary = account.group_name or account.name
    kept: list[str] = []
    for line in text.splitlines():
        if not line.strip() or _is_entry(line, primary, account.gid):
            continue
        name, password, gid, members = [*line.split(":"), "", "", "", ""][:4]
        names = [member for member in members.split(",") if member and member != account.name]
        if gid.isdigit() and int(gid) in wanted:
            name = wanted.pop(int(gid))
            names.append(account.name)
        elif name in wanted_names:
            continue
        kept.append(":".join([name, password, gid, ",".join(names)]))
    kept.append(f"{primary}:x:{account.gid}:")
    kept += [f"{name}:x:{gid}:{account.name}" for gid, name in wanted.items() if gid != account.gid]
    return "\n".join(kept) + "\n"


def _is_entry(line: str, name: str, number: int) -> bool:
    """Whether a line has that name, or that UID or GID: both files have it in the third field."""
    fields = line.split(":")
    return fields[0] == name or (len(fields) > 2 and fields[2] == str(number))
