"""Who the Hub's users are on this machine: the host's accounts, or a passwd-format file."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import AccountRefused, ConfigBroken
from ..model import Account

HOST = "host"

# The one after it is -1 to the kernel, which means "no change".
_LAST_ID = 2**32 - 2


def find_account(source: str, login: str, *, min_uid: int, groups: Sequence[str] = ()) -> Account:
    """Return the account of `login`.

    Args:
        source: `host`, or the path of a passwd-format file.
        min_uid: a lower UID is refused: root and system accounts start no servers. So is GID 0,
            unless min_uid is 0.
        groups: the supplementary groups that go along, if she is a member (`host` only).

    Raises:
        AccountRefused: no such account, or its UID is too low.
        ConfigBroken: the file cannot be read.
    """
    account = _host_account(login, groups) if source == HOST else _file_account(Path(source), login)
    if account is None:
        raise AccountRefused(
            f"There is no account {login!r} on this server yet. Ask your admin to create one.",
            detail=f"no account {login!r} in {source}",
        )
    is_root = min_uid > 0 and account.gid == 0
    if account.uid < min_uid or is_root or max(account.uid, account.gid) > _LAST_ID:
        raise AccountRefused(
            f"The account {login!r} is a system account and cannot run servers. Sign in as a person.",
            detail=f"{login!r} has UID {account.uid} and GID {account.gid}; min_uid is {min_uid}",
        )
    return account


def find_login(source: str, uid: int) -> str:
    """Return the login name of a UID, "" for one that no account has.

    Raises:
        ConfigBroken: the file cannot be read.
    """
    if source == HOST:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return ""
    rows = (line.split(":") for line in _read_lines(Path(source)))
    return next((row[0] for row in rows if len(row) == 7 and row[2] == str(uid)), "")


def groups_of(source: str, login: str) -> frozenset[str]:
    """Return the host's groups that an account is in; none for one of a file, which knows no groups."""
    if source != HOST:
        return frozenset()
    try:
        numbers = set(os.getgrouplist(login, pwd.getpwnam(login).pw_gid))
    except KeyError:
        return frozenset()
    return frozenset(group.gr_name for group in grp.getgrall() if group.gr_gid in numbers)


def _host_account(login: str, groups: Sequence[str]) -> Account | None:
    try:
        entry = pwd.getpwnam(login)
    except KeyError:
        return None
    member_of = set(os.getgrouplist(login, entry.pw_gid))
    known = [group for group in grp.getgrall() if group.gr_name in groups and group.gr_gid in member_of]
    return _account(
        entry.pw_name,
        entry.pw_uid,
        entry.pw_gid,
        entry.pw_dir,
        group_name=_group_name(entry.pw_gid),
        groups=tuple((group.gr_name, group.gr_gid) for group in known),
    )


def _file_account(path: Path, login: str) -> Account | None:
    for number, line in enumerate(_read_lines(path), start=1):
        fields = line.split(":")
        if fields[0] != login:
            continue
        if len(fields) != 7 or not fields[2].isdecimal() or not fields[3].isdecimal():
            raise ConfigBroken(
                "The server's list of accounts is broken. Please tell your admin.",
                detail=f"{path}, line {number}: not name:x:uid:gid:gecos:home:shell",
            )
        return _account(login, int(fields[2]), int(fields[3]), fields[5])
    return None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigBroken(
            "The server's list of accounts cannot be read. Please tell your admin.",
            detail=f"c.DS01.accounts = {str(path)!r}: {exc}",
        ) from exc


def _account(
    name: str,
    uid: int,
    gid: int,
    home: str,
    *,
    group_name: str = "",
    groups: tuple[tuple[str, int], ...] = (),
) -> Account:
    return Account(
        name=name,
        uid=uid,
        gid=gid,
        home=PurePosixPath(home),
        group_name=group_name or name,
        groups=groups,
    )


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
