"""Directories opened with a person's own credentials, on a real file system and real UIDs.

Two people who need no accounts, ada and bob, have private homes beside a directory of root's.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import pytest

from ds01_spawner.adapters.mounts import expand, open_mounts
from ds01_spawner.errors import MountRefused, SiteBroken
from ds01_spawner.model import Account, Mount, MountWish

from ..hub.waiting import wait_for

ADA_UID, BOB_UID, PROJECT_GID = 3001, 3002, 3100


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A folder that everybody may pass, with the homes of two people in it."""

    folder: Path
    ada: Account

    @property
    def home(self) -> Path:
        return Path(self.ada.home)

    def add(self, name: str, *, uid: int = 0, gid: int = 0, mode: int = 0o755) -> Path:
        """Make a directory of somebody's."""
        path = self.folder / name
        path.mkdir()
        os.chown(path, uid, gid)
        path.chmod(mode)
        return path

    def open(self, source: str | Path, *roots: str, **wish: bool) -> Mount:
        """Open one directory as ada, for /workspace, below her home and `roots`."""
        wishes = [MountWish(source=str(source), target="/workspace", **wish)]
        return open_mounts(self.ada, wishes, roots=("{home}", *roots))[0]

    def refusal(self, source: str | Path, *roots: str, **wish: bool) -> str:
        """Return the sentence with which a directory is refused."""
        with pytest.raises(MountRefused) as refused:
            self.open(source, *roots, **wish)
        return str(refused.value)


@pytest.fixture
def machine() -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.fail("these tests act as other people: run them as root")
    # Not below pytest's own folder, which nobody but root may pass.
    with tempfile.TemporaryDirectory(prefix="ds01-mounts-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        (folder / "home").mkdir(mode=0o755)
        home = folder / "home" / "ada"
        made = Machine(
            folder=folder, ada=Account(name="ada", uid=ADA_UID, gid=ADA_UID, home=PurePosixPath(home))
        )
        made.add("home/ada", uid=ADA_UID, gid=ADA_UID, mode=0o700)
        made.add("home/bob", uid=BOB_UID, gid=BOB_UID, mode=0o700)
        made.add("home/bob/thesis", uid=BOB_UID, gid=BOB_UID, mode=0o755)
        made.add("root-only", mode=0o700)
        made.add("root-only/open", mode=0o777)
        yield made


def test_directory_of_her_own_is_opened(machine: Machine) -> None:
    work = machine.add("home/ada/work", uid=ADA_UID, gid=ADA_UID)
    status = work.stat()
    assert machine.open("~/work") == Mount(
        source=str(work), target="/workspace", device=status.st_dev, inode=status.st_ino
    )


def test_missing_directory_is_created_as_her(machine: Machine) -> None:
    made = Path(machine.open("~/projects/vision", create=True).source)
    assert made == machine.home / "projects" / "vision"
    for path in (made, made.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (ADA_UID, ADA_UID)
    assert made.stat().st_mode & 0o777 == 0o700


def test_directory_that_is_there_is_not_created_anew(machine: Machine) -> None:
    work = machine.add("home/ada/work", uid=ADA_UID, gid=ADA_UID, mode=0o750)
    machine.open("~/work", create=True)
    assert work.stat().st_mode & 0o777 == 0o750


def test_nothing_is_created_where_she_may_not_write(machine: Machine) -> None:
    assert "could not be made for you" in machine.refusal(machine.folder / "mine", create=True)
    assert "could not be made for you" in machine.refusal(machine.folder / "home/bob/mine", create=True)
    assert sorted(os.listdir(machine.folder)) == ["home", "root-only"]
    assert os.listdir(machine.folder / "home/bob") == ["thesis"]


def test_missing_directory_is_named(machine: Machine) -> None:
    sentence = machine.refusal("~/work")
    assert sentence.startswith(f"The directory {machine.home}/work does not exist.")


def test_link_to_what_only_root_may_read_is_refused(machine: Machine) -> None:
    (machine.home / "workspace").symlink_to(machine.folder / "root-only" / "open")
    sentence = machine.refusal("~/workspace", str(machine.folder))
    assert sentence.startswith(f"The directory {machine.home}/workspace is not readable for you.")


def test_link_below_anothers_private_home_is_refused(machine: Machine) -> None:
    (machine.home / "workspace").symlink_to(machine.folder / "home/bob/thesis")
    assert "is not readable for you" in machine.refusal("~/workspace", str(machine.folder))


def test_home_of_another_is_refused(machine: Machine) -> None:
    assert "is not readable for you" in machine.refusal(machine.folder / "home/bob", str(machine.folder))


def test_link_that_leads_nowhere_is_missing_and_not_followed_to_create(machine: Machine) -> None:
    (machine.home / "workspace").symlink_to(machine.home / "gone")
    assert "does not exist" in machine.refusal("~/workspace", create=True)
    assert not (machine.home / "gone").exists()


def test_link_within_her_home_is_mounted_as_what_it_is(machine: Machine) -> None:
    real = machine.add("home/ada/real", uid=ADA_UID, gid=ADA_UID)
    (machine.home / "workspace").symlink_to(real)
    assert machine.open("~/workspace").source == str(real)


@pytest.mark.parametrize("source", ["~/shared", "{home}/../../shared", "{home}/../../shared/."])
def test_what_she_may_read_is_refused_outside_of_the_roots(machine: Machine, source: str) -> None:
    (machine.home / "shared").symlink_to(machine.add("shared", mode=0o777))
    assert "lies outside of what may be mounted" in machine.refusal(source)


def test_neighbour_whose_name_begins_like_a_root_is_outside(machine: Machine) -> None:
    machine.add("home/ada-two", uid=ADA_UID, gid=ADA_UID)
    assert "lies outside" in machine.refusal(machine.folder / "home/ada-two")


def test_root_that_the_admin_adds_is_allowed_read_only(machine: Machine) -> None:
    shared = machine.add("shared")
    mount = machine.open(shared, f"{machine.folder}/shared", read_only=True)
    assert (mount.source, mount.read_only) == (str(shared), True)


def test_root_may_name_the_user(machine: Machine) -> None:
    scratch = machine.add("ada-3001", uid=ADA_UID, gid=ADA_UID)
    assert machine.open(scratch, f"{machine.folder}/{{username}}-{{uid}}").source == str(scratch)


def test_home_that_is_a_link_itself_is_a_root(machine: Machine) -> None:
    work = machine.add("home/ada/work", uid=ADA_UID, gid=ADA_UID)
    link = machine.folder / "link"
    link.symlink_to(machine.home)
    moved = replace(machine, ada=replace(machine.ada, home=PurePosixPath(link)))
    assert moved.open("~/work").source == str(work)


def test_directory_that_she_cannot_write_is_refused_unless_it_is_read_only(machine: Machine) -> None:
    shared = machine.add("home/ada/shared")
    assert "is not writable for you" in machine.refusal(shared)
    assert machine.open(shared, read_only=True).source == str(shared)


def test_directory_that_she_may_pass_but_not_list_is_refused(machine: Machine) -> None:
    machine.add("home/ada/drop", mode=0o711)
    assert "is not readable for you" in machine.refusal("~/drop", read_only=True)


def test_file_is_no_directory(machine: Machine) -> None:
    (machine.home / "notes.txt").touch()
    for create in (False, True):
        assert "is not a directory" in machine.refusal("~/notes.txt", create=create)


def test_supplementary_group_opens_what_it_may(machine: Machine) -> None:
    project = machine.add("project", gid=PROJECT_GID, mode=0o770)
    member = replace(machine, ada=replace(machine.ada, groups=(("project", PROJECT_GID),)))
    assert member.open(project, str(machine.folder)).source == str(project)
    assert "is not readable for you" in machine.refusal(project, str(machine.folder))


@pytest.mark.parametrize("source", ["", "work", "./work", "../bob", "~bob/thesis", "/a,b", "/a\nb", "/a\0b"])
def test_path_that_is_relative_or_odd_is_refused(machine: Machine, source: str) -> None:
    assert "cannot be used" in machine.refusal(source, create=True)


def test_link_to_a_name_with_a_comma_is_refused(machine: Machine) -> None:
    (machine.home / "work").symlink_to(machine.add("home/ada/a,b", uid=ADA_UID, gid=ADA_UID))
    assert "comma" in machine.refusal("~/work")


def test_one_directory_that_is_refused_refuses_all(machine: Machine) -> None:
    wishes = [
        MountWish(source="~", target="/workspace"),
        MountWish(source="~/none", target="/data", read_only=True),
    ]
    with pytest.raises(MountRefused, match="/none does not exist"):
        open_mounts(machine.ada, wishes, roots=("{home}",))


def test_directory_that_was_swapped_is_another_one(machine: Machine) -> None:
    work = machine.add("home/ada/work", uid=ADA_UID, gid=ADA_UID)
    before = machine.open("~/work")
    work.rename(machine.home / "old")
    machine.add("home/ada/work", uid=ADA_UID, gid=ADA_UID)
    after = machine.open("~/work")
    assert (after.source, after.inode != before.inode) == (before.source, True)


def test_hub_that_cannot_act_as_her_says_so_to_the_admin(machine: Machine) -> None:
    wishes = [MountWish(source="~", target="/workspace")]
    with ProcessPoolExecutor(
        1, mp_context=get_context("fork"), initializer=os.setuid, initargs=(BOB_UID,)
    ) as as_bob:
        error = as_bob.submit(open_mounts, machine.ada, wishes, roots=("{home}",)).exception()
    assert isinstance(error, SiteBroken)
    assert f"UID {ADA_UID}" in error.detail


def test_tilde_and_names_are_filled_in(machine: Machine) -> None:
    home = str(machine.home)
    assert expand("~", machine.ada) == home
    assert expand("~/work", machine.ada) == f"{home}/work"
    assert expand("/scratch/{username}/{uid}", machine.ada) == "/scratch/ada/3001"
    assert expand("{home}/a~b", machine.ada) == f"{home}/a~b"


@pytest.mark.parametrize("name", ["red\x1b[31m", "two\u2028lines", os.fsdecode(b"w\xff")])
def test_link_to_a_name_that_a_terminal_obeys_is_refused(machine: Machine, name: str) -> None:
    odd = machine.add(f"home/ada/{name}", uid=ADA_UID, gid=ADA_UID)
    (machine.home / "work").symlink_to(odd)
    assert "odd character" in machine.refusal("~/work")


def find_helpers(parent: int) -> list[int]:
    """Return the processes by which one opens directories as other people."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"open_as.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_helper_that_was_killed_is_started_anew(machine: Machine) -> None:
    before = machine.open("~")
    (helper,) = find_helpers(os.getpid())
    os.kill(helper, signal.SIGKILL)
    assert machine.open("~") == before
    (another,) = find_helpers(os.getpid())
    assert another != helper


def test_helper_serves_many_at_once(machine: Machine) -> None:
    work = [machine.add(f"home/ada/{number}", uid=ADA_UID, gid=ADA_UID) for number in range(40)]
    with ThreadPoolExecutor(20) as pool:
        opened = list(pool.map(lambda path: machine.open(path).source, work))
    assert opened == [str(path) for path in work]
    assert len(find_helpers(os.getpid())) == 1


def test_helper_ends_when_who_started_it_is_killed(machine: Machine) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        home = [MountWish(source="~", target="/workspace")]
        pool.submit(open_mounts, machine.ada, home, roots=("{home}",)).result()
        starter = pool.submit(os.getpid).result()
        (helper,) = find_helpers(starter)
        os.kill(starter, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{helper}").exists(), "the helper has ended")
