"""Who the Hub's users are: from a passwd-format file, and from this machine's own accounts."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path, PurePosixPath

import pytest

from ds01_spawner.adapters.accounts import HOST, find_account
from ds01_spawner.errors import AccountRefused, ConfigBroken
from ds01_spawner.model import Account

PASSWD = """\
# name:password:uid:gid:gecos:home:shell
root:x:0:0:root:/root:/bin/bash
daemon:x:999:999::/:/usr/sbin/nologin
alice:x:1000:100:Alice, room 7:/home/alice:/bin/zsh

bob:x:3002:3002::/data/bob:/bin/bash
short:x:1003
worded:x:one:1004::/home/worded:/bin/bash
"""


@pytest.fixture
def passwd(tmp_path: Path) -> str:
    path = tmp_path / "passwd"
    path.write_text(PASSWD)
    return str(path)


def test_account_is_read_from_a_file(passwd: str) -> None:
    assert find_account(passwd, "alice", min_uid=1000) == Account(
        name="alice", uid=1000, gid=100, home=PurePosixPath("/home/alice"), group_name="alice"
    )


def test_file_is_read_anew_each_time(passwd: str) -> None:
    with open(passwd, "a") as file:
        file.write("carol:x:3003:3003::/home/carol:/bin/bash\n")
    assert find_account(passwd, "carol", min_uid=1000).uid == 3003


@pytest.mark.parametrize("login", ["eve", "Alice", "ali", "alice:x", "alice\n"])
def test_user_without_a_line_of_her_own_is_refused(passwd: str, login: str) -> None:
    with pytest.raises(AccountRefused, match=r"There is no account .* Ask your admin"):
        find_account(passwd, login, min_uid=1000)


@pytest.mark.parametrize("login", ["root", "daemon"])
def test_nobody_below_the_lowest_uid_gets_a_server(passwd: str, login: str) -> None:
    with pytest.raises(AccountRefused, match="system account") as refused:
        find_account(passwd, login, min_uid=1000)
    assert "min_uid is 1000" in refused.value.detail


def test_lowest_uid_is_a_setting(passwd: str) -> None:
    assert find_account(passwd, "daemon", min_uid=999).uid == 999
    with pytest.raises(AccountRefused):
        find_account(passwd, "bob", min_uid=5000)


@pytest.mark.parametrize(("login", "line"), [("short", 7), ("worded", 8)])
def test_broken_line_is_named_to_the_admin(passwd: str, login: str, line: int) -> None:
    with pytest.raises(ConfigBroken, match="Please tell your admin") as broken:
        find_account(passwd, login, min_uid=1000)
    assert broken.value.detail == f"{passwd}, line {line}: not name:x:uid:gid:gecos:home:shell"


def test_file_that_is_not_there_is_named_to_the_admin(tmp_path: Path) -> None:
    with pytest.raises(ConfigBroken) as broken:
        find_account(str(tmp_path / "none"), "alice", min_uid=1000)
    assert "c.DS01.accounts" in broken.value.detail
    assert str(tmp_path / "none") in broken.value.detail


def test_file_that_is_no_text_is_named_to_the_admin(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(b"alice:x:1000:1000:\xe9:/home/alice:/bin/bash\n")
    with pytest.raises(ConfigBroken):
        find_account(str(path), "alice", min_uid=1000)


def test_root_of_this_machine_is_refused() -> None:
    with pytest.raises(AccountRefused, match="system account"):
        find_account(HOST, "root", min_uid=1000)


def test_unknown_user_of_this_machine_is_refused() -> None:
    with pytest.raises(AccountRefused, match="There is no account 'no-such-user-here'"):
        find_account(HOST, "no-such-user-here", min_uid=1000)


def test_account_of_this_machine_is_what_the_machine_says() -> None:
    entry = pwd.getpwnam("nobody")
    found = find_account(HOST, "nobody", min_uid=0)
    assert (found.uid, found.gid, str(found.home)) == (entry.pw_uid, entry.pw_gid, entry.pw_dir)
    assert found.group_name == grp.getgrgid(entry.pw_gid).gr_name


def test_groups_go_along_only_where_the_admin_lists_them_and_she_is_a_member() -> None:
    root_group = grp.getgrgid(0).gr_name
    strangers = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    found = find_account(HOST, "root", min_uid=0, groups=(root_group, strangers))
    assert found.groups == ((root_group, 0),)
    assert find_account(HOST, "root", min_uid=0).groups == ()


@pytest.mark.parametrize("ids", ["4294967295:3001", "3001:0", "3001:4294967295"])
def test_ids_that_stay_root_are_refused(tmp_path: Path, ids: str) -> None:
    path = tmp_path / "passwd"
    path.write_text(f"mallory:x:{ids}::/home/mallory:/bin/bash\n")
    with pytest.raises(AccountRefused, match="system account"):
        find_account(str(path), "mallory", min_uid=1000)
