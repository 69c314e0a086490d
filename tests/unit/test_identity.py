"""Who she is inside her container: the image's passwd and group files with her in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from ds01_spawner.identity import merge_group, merge_passwd, merge_shadow
from ds01_spawner.model import Account

ADA = Account(name="ada", uid=1000, gid=1000, home=PurePosixPath("/home/ada"))
ROOT = "root:x:0:0:root:/root:/bin/bash\n"
ADAS = "ada:x:1000:1000::/home/ada:/bin/bash\n"


def test_user_of_ubuntu_with_the_same_uid_gives_way() -> None:
    ubuntu = ROOT + "ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash\n"
    assert merge_passwd(ubuntu, ADA) == ROOT + ADAS


def test_user_of_the_same_name_under_another_uid_gives_way() -> None:
    assert merge_passwd(ROOT + "ada:x:500:500::/opt/ada:/bin/sh\n", ADA) == ROOT + ADAS


def test_both_give_way_where_one_has_her_uid_and_another_her_name() -> None:
    text = "ubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n" + ROOT + "ada:x:500:500::/opt/ada:/bin/sh\n"
    assert merge_passwd(text, ADA) == ROOT + ADAS


def test_user_whose_gid_or_name_only_looks_like_hers_stays() -> None:
    others = "sync:x:4:1000:sync:/bin:/bin/sync\nadam:x:10001:10001::/home/adam:/bin/bash\n"
    assert merge_passwd(others, ADA) == others + ADAS


def test_image_without_passwd_or_group_gets_her_alone() -> None:
    assert merge_passwd("", ADA) == ADAS
    assert merge_group("", ADA) == "ada:x:1000:\n"
    assert merge_shadow("", ADA) == "ada:*:::::::\n"


def test_file_without_a_last_line_end_and_with_empty_lines_is_whole_again() -> None:
    assert merge_passwd("\n" + ROOT.rstrip("\n"), ADA) == ROOT + ADAS
    assert merge_group("\nroot:x:0:", ADA) == "root:x:0:\nada:x:1000:\n"


def test_home_shell_and_gid_are_the_accounts() -> None:
    account = replace(ADA, gid=100, home=PurePosixPath("/data/ada"), shell="/bin/zsh")
    assert merge_passwd("", account) == "ada:x:1000:100::/data/ada:/bin/zsh\n"


def test_merging_twice_changes_nothing_more() -> None:
    account = replace(ADA, groups=(("video", 44),))
    for merge in (merge_passwd, merge_group, merge_shadow):
        once = merge("root:x:0:0\nvideo:x:44:\n", account)
        assert merge(once, account) == once


def test_she_has_no_password_whatever_the_image_gave_to_her_name() -> None:
    assert merge_shadow("root:*:1::::::\nada:$y$hash:1::::::\n", ADA) == "root:*:1::::::\nada:*:::::::\n"


def test_group_of_ubuntu_with_the_same_gid_gives_way() -> None:
    assert merge_group("root:x:0:\nubuntu:x:1000:\n", ADA) == "root:x:0:\nada:x:1000:\n"


def test_group_of_her_primary_groups_name_under_another_gid_gives_way() -> None:
    account = replace(ADA, gid=2000, group_name="students")
    assert merge_group("root:x:0:\nstudents:x:500:bob\n", account) == "root:x:0:\nstudents:x:2000:\n"


def test_user_of_the_image_with_her_name_leaves_no_membership_to_her() -> None:
    assert merge_group("sudo:x:27:ada,bob\n", ADA) == "sudo:x:27:bob\nada:x:1000:\n"


def test_supplementary_group_that_the_image_lacks_is_added() -> None:
    account = replace(ADA, groups=(("project", 3100),))
    assert merge_group("root:x:0:\n", account) == "root:x:0:\nada:x:1000:\nproject:x:3100:ada\n"


def test_supplementary_group_that_the_image_has_keeps_its_members() -> None:
    account = replace(ADA, groups=(("video", 44),))
    assert merge_group("video:x:44:bob\n", account) == "video:x:44:bob,ada\nada:x:1000:\n"


def test_group_of_the_image_with_the_gid_of_hers_takes_the_hosts_name() -> None:
    account = replace(ADA, groups=(("render", 105),))
    assert merge_group("ssh:x:105:\n", account) == "render:x:105:ada\nada:x:1000:\n"


def test_one_name_never_stands_for_two_groups_in_whatever_order() -> None:
    account = replace(ADA, groups=(("video", 39),))
    for text in ("irc:x:39:\nvideo:x:44:\n", "video:x:44:\nirc:x:39:\n"):
        assert merge_group(text, account) == "video:x:39:ada\nada:x:1000:\n"


def test_primary_group_that_is_named_as_supplementary_too_stands_once() -> None:
    account = replace(ADA, groups=(("ada", 1000),))
    assert merge_group("root:x:0:\n", account) == "root:x:0:\nada:x:1000:\n"
