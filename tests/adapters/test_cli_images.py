"""The verbs of `ds01 image` for an admin, on an Engine and a ledger of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ds01_spawner import image
from ds01_spawner.allocator import LeaseDraft
from ds01_spawner.cli.sources import find_sources
from ds01_spawner.mlc import BASE_IMAGE_LABEL, MAINTAINER_LABEL
from ds01_spawner.model import BuildOutcome, BuildRecord, ImageUse
from ds01_spawner.service.images import tend_images
from ds01_spawner.spawner.starts import find_start
from ds01_spawner.templating import read_dockerfile
from tests.unit.shell import Shell, open_shell, write_config

from ..hub.waiting import wait_for
from .shelf import DAY, MEGABYTE, NOW, Shelf

pytest_plugins = ["tests.adapters.shelf"]
pytestmark = pytest.mark.docker

BASE = "lab/pytorch:1"
OLD, NEW = f"ds01/image:{'0f3a99c1' * 2}-27bd00112233", f"ds01/image:{'1e2b88d0' * 2}-27bd00112233"
PROFILES = [
    {"display_name": "CPU", "slug": "cpu"},
    {"display_name": "Vision", "slug": "vision", "spawner_override": {"use_case": "cv"}},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A site on the shelf, and the shell of its admin."""

    shelf: Shelf
    shell: Shell
    folder: Path
    config: str

    def run(self, *arguments: str) -> tuple[object, str, str]:
        return self.shell.run("image", *arguments, "--config", self.config)

    def ask(self, *arguments: str) -> str:
        return self.shell.ask("image", *arguments, "--config", self.config)

    def read(self, *arguments: str) -> Any:
        return json.loads(self.ask(*arguments, "--json"))

    def set(self, *lines: str) -> None:
        """Add lines to the settings of the site."""
        with Path(self.config).open("a") as file:
            file.write("\n".join([*lines, ""]))

    def load(self, name: str, *, size: int = MEGABYTE, used: timedelta | None = None) -> str:
        layers = {"base": 3 * MEGABYTE, name: size}
        made = self.shelf.load(name, layers=layers, labels={BASE_IMAGE_LABEL: BASE})
        if used is not None:
            self.shelf.ledger.note_use(ImageUse(tag=name, user="ada", last_used_at=NOW - used))
        return made

    def note_build(self, name: str, outcome: BuildOutcome, why: str = "", text: str = "") -> None:
        """Record a build of an hour ago, and keep a log of it."""
        log = f"{len(self.shelf.ledger.builds())}-{name.rpartition(':')[2]}.log" if text else ""
        if log:
            logs = self.folder / "builds"
            logs.mkdir(exist_ok=True)
            (logs / log).write_text(text)
        record = BuildRecord(
            tag=name,
            base=BASE,
            user="ada",
            summary="Pytorch 2.8.0, with six",
            started_at=NOW - timedelta(hours=1),
            ended_at=NOW - timedelta(minutes=59),
            outcome=outcome,
            steps=5,
            reused=3,
            why=why,
            log=log,
        )
        self.shelf.ledger.write_build(record)


@pytest.fixture
def lab(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Lab:
    (tmp_path / "catalog").write_text(f"Pytorch, 2.8.0, CUDA_ADA, {BASE}\n")
    config = write_config(
        tmp_path,
        f"c.DS01.docker_host = {shelf.docker_host!r}",
        f"c.DS01.ledger_url = 'sqlite:///{tmp_path}/ledger.sqlite'",
        f"c.DS01.catalog_file = '{tmp_path}/catalog'",
        f"c.DS01.build_log_dir = '{tmp_path}/builds'",
        "c.DS01.architecture = 'CUDA_ADA'",
        f"c.DS01Spawner.profile_list = {PROFILES!r}",
    )
    shelf.load(BASE, layers={"base": 3 * MEGABYTE})
    return Lab(shelf=shelf, shell=open_shell(capsys, monkeypatch), folder=tmp_path, config=config)


def wanted_name(lab: Lab, profile: str) -> str:
    """Return how the image of a profile is called, on the base as it is now."""
    site = find_sources(config_file=lab.config).site
    assert site is not None
    asked = find_start(site, profile, {}).request
    base_id = lab.shelf.client.inspect_image(BASE)["Id"]
    spec = site.core.images.spec(site.core.offers.base_of(asked), base_id, asked)
    return image.tag(spec, read_dockerfile("Dockerfile.j2"))


# list


def test_all_images_stand_under_their_base_with_what_they_take_and_who_needs_them(lab: Lab) -> None:
    lab.load(OLD, size=2 * MEGABYTE, used=2 * DAY)
    lab.note_build(OLD, BuildOutcome.BUILT)
    lab.shelf.contain(OLD, "vision._.1001")
    cpu = wanted_name(lab, "cpu")
    lab.load(cpu)
    labels = {BASE_IMAGE_LABEL: "ubuntu:24.04", MAINTAINER_LABEL: "bob"}
    lab.shelf.load("thesis-bob-image:latest", layers={"own": MEGABYTE}, labels=labels)
    used = f"{(NOW - 2 * DAY).astimezone():%Y-%m-%d %H:%M}"
    lines = [" ".join(line.split()) for line in lab.ask("list", "--all").splitlines()]
    short = f"{cpu.partition(':')[2][:8]}-{cpu.partition('-')[2][:4]}"
    assert lines == [
        "IMAGE SIZE SHARED USERS LAST USE NOTE NEEDED BY CONTENTS",
        f"On {BASE}",
        f"0f3a99c1-27bd 5 MB 3 MB ada {used} older base vision._.1001 Pytorch 2.8.0, with six",
        f"{short} 4 MB 3 MB never profile cpu",
        "Made by people with ds01 image create",
        "thesis-bob-image 1 MB 0 MB bob ubuntu:24.04",
        "",
        "2 images with 3 MB for themselves; the build cache has 0 MB",
        "No image yet: vision. Build now with: ds01 image prebuild",
    ]


def test_all_images_are_json_for_scripts(lab: Lab) -> None:
    image_id = lab.load(OLD, used=2 * DAY)
    lab.note_build(OLD, BuildOutcome.BUILT)
    cpu = wanted_name(lab, "cpu")
    lab.load(cpu)
    found = lab.read("list", "--all")
    assert [one["name"] for one in found["images"]] == [OLD, cpu]
    assert found["images"][0] == {
        "name": OLD,
        "id": image_id,
        "base": BASE,
        "older_base": True,
        "contents": "Pytorch 2.8.0, with six",
        "size_bytes": 4 * MEGABYTE,
        "shared_bytes": 3 * MEGABYTE,
        "built_at": (NOW - timedelta(minutes=59)).isoformat(),
        "last_used_at": (NOW - 2 * DAY).isoformat(),
        "users": [{"user": "ada", "last_used_at": (NOW - 2 * DAY).isoformat()}],
        "containers": [],
        "profiles": [],
    }
    assert (found["own"], found["build_cache_bytes"], found["problems"]) == ([], 0, [])
    assert found["profiles"] == [
        {"profiles": ["cpu"], "base": BASE, "image": cpu, "state": "ready"},
        {"profiles": ["vision"], "base": BASE, "image": None, "state": "absent"},
    ]


def test_profiles_on_an_older_base_are_offered_a_new_image_and_none_is_built(lab: Lab) -> None:
    for profile in ("cpu", "vision"):
        lab.load(wanted_name(lab, profile))
    lab.shelf.load(BASE, layers={"newer": MEGABYTE})
    out = lab.ask("list", "--all")
    assert out.endswith("\nOn an older base image: cpu, vision. Build now with: ds01 image prebuild\n")
    assert {one["state"] for one in lab.read("list", "--all")["profiles"]} == {"older base"}


def test_profiles_that_only_the_hub_knows_are_told(lab: Lab) -> None:
    lab.set("c.DS01Spawner.profile_list = lambda spawner: []")
    status, out, err = lab.run("list", "--all")
    assert (status, out) == (0, "0 images with 0 MB for themselves; the build cache has 0 MB\n")
    assert err.startswith("ds01: Not all that profiles need is known. `profile_list` is a function")


# remove and prune


def test_image_is_removed_and_what_that_frees_is_told(lab: Lab) -> None:
    lab.load(OLD)
    cpu = wanted_name(lab, "cpu")
    lab.load(cpu)
    said = f"{OLD} would be removed, which frees 1 MB.\n"
    assert lab.ask("remove", "0f3a", "--dry-run") == said
    assert OLD in lab.shelf.names
    assert lab.ask("remove", "0f3a99c1-27bd") == said.replace("would be", "is")
    assert OLD not in lab.shelf.names
    again = f"{cpu} is removed, which frees 1 MB; the next start of cpu builds it again.\n"
    assert lab.ask("remove", cpu) == again


def test_removal_is_json_for_scripts(lab: Lab) -> None:
    image_id = lab.load(OLD)
    assert lab.read("remove", OLD) == {
        "images": [{"name": OLD, "id": image_id, "freed_bytes": MEGABYTE, "profiles": []}],
        "dry_run": False,
    }


def test_image_in_use_is_not_removed_and_its_user_is_named(lab: Lab) -> None:
    lab.load(OLD)
    lab.shelf.contain(OLD, "vision._.1001")
    status, out, err = lab.run("remove", OLD)
    assert (status, out) == (1, "")
    assert (
        err == f"ds01: The image {OLD} is needed by container vision._.1001, so it stays. End that first.\n"
    )


def test_prune_says_of_each_image_why_it_goes_or_stays(lab: Lab) -> None:
    lab.load(OLD, used=45 * DAY)
    lab.load(NEW, used=3 * DAY)
    cpu = wanted_name(lab, "cpu")
    lab.load(cpu)
    command = ("prune", "--older-than", "30d")
    foretold = lab.ask(*command, "--dry-run")
    assert OLD in lab.shelf.names
    done = lab.ask(*command)
    assert lab.shelf.names == {BASE, NEW, cpu}
    lines = [" ".join(line.split()) for line in done.splitlines()]
    assert lines[0] == "IMAGE SIZE WHY"
    assert lines[1] == "0f3a99c1-27bd 1 MB removed used 45 days ago"
    assert "1e2b88d0-27bd 1 MB stays used 3 days ago" in lines
    assert lines[-1] == "1 of 3 images removed, which frees 1 MB or more."
    as_done = foretold.replace("would be removed", "removed").replace("would go", "removed")
    assert as_done.split() == done.split()


def test_pruning_is_json_for_scripts(lab: Lab) -> None:
    image_id = lab.load(OLD, used=45 * DAY)
    lab.load(NEW, used=3 * DAY)
    found = lab.read("prune", "--budget", "1500k", "--build-cache", "1g", "--dry-run")
    assert found["images"][0] == {
        "name": OLD,
        "id": image_id,
        "kept": False,
        "why": "used 45 days ago, and all together are over the budget",
        "own_bytes": MEGABYTE,
    }
    assert [one["kept"] for one in found["images"]] == [False, True]
    assert (found["build_cache_freed_bytes"], found["problems"], found["dry_run"]) == (0, [], True)


def test_prune_takes_from_the_settings_what_is_not_said(lab: Lab) -> None:
    lab.load(OLD, used=45 * DAY)
    status, out, err = lab.run("prune")
    assert (status, out) == (1, "")
    assert err.startswith("ds01: Nothing says what is too much. Give --older-than, --budget or --build-cache")
    lab.set("c.DS01.image_max_age_days = 60", "c.DS01.image_disk_budget = '200g'")
    assert lab.ask("prune").endswith("\n0 of 1 images removed, which frees 0 MB or more.\n")
    assert lab.ask("prune", "--older-than", "6w").endswith(
        "\n1 of 1 images removed, which frees 1 MB or more.\n"
    )


def test_only_the_build_cache_can_be_pruned(lab: Lab) -> None:
    lab.load(OLD, used=45 * DAY)
    out = lab.ask("prune", "--build-cache", "0")
    assert out.endswith(
        "0 of 1 images removed, which frees 0 MB or more.\nOf the build cache 0 MB removed.\n"
    )


def test_budget_without_known_profiles_removes_nothing_and_says_so(lab: Lab) -> None:
    lab.set("c.DS01Spawner.profile_list = lambda spawner: []")
    lab.load(OLD, used=45 * DAY)
    status, out, err = lab.run("prune", "--budget", "0")
    assert (status, OLD in lab.shelf.names) == (0, True)
    assert "stays  used 45 days ago" in out
    assert "`profile_list` is a function" in err


# the service


def test_service_without_bounds_notes_what_servers_run_from_and_removes_nothing(lab: Lab) -> None:
    lab.load(OLD, used=45 * DAY)
    lab.load(NEW, used=45 * DAY)
    draft = LeaseDraft(
        user="bob",
        server="",
        container_name="jupyter._.1002",
        group="student",
        nonce="0",
        created_at=NOW,
        deadline=NOW + DAY,
    )
    lease = lab.shelf.ledger.reserve(draft, lambda _view: ())
    lab.shelf.ledger.activate(lease.id, lab.shelf.contain(OLD, "jupyter._.1002"), NOW)
    site = find_sources(config_file=lab.config).site
    assert site is not None
    tend_images(site)
    used = {(use.tag, use.user): use.last_used_at >= NOW for use in lab.shelf.ledger.image_uses()}
    assert used == {(OLD, "bob"): True, (OLD, "ada"): False, (NEW, "ada"): False}
    assert lab.shelf.names == {BASE, OLD, NEW}


def test_service_removes_what_the_settings_say_and_leaves_the_rest(lab: Lab) -> None:
    lab.load(OLD, used=45 * DAY)
    lab.load(NEW, used=3 * DAY)
    lab.set("c.DS01.image_max_age_days = 30")
    command = [sys.executable, "-m", "ds01_spawner.service", "--config", lab.config]
    lab.set(f"c.DS01.socket_path = '{lab.folder}/ds01.sock'")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            wait_for(lambda: OLD not in lab.shelf.names, "the old image has gone")
        finally:
            service.terminate()
            said = service.communicate()[1]
    assert f"the image {OLD} ({MEGABYTE} bytes) is removed: used 45 days ago" in said
    assert lab.shelf.names == {BASE, NEW}


# log


def test_log_of_the_newest_build_of_an_image_is_printed(lab: Lab) -> None:
    lab.note_build(OLD, BuildOutcome.FAILED, why="The disk is full.", text="#1 old\n")
    lab.note_build(OLD, BuildOutcome.BUILT, text="#1 \x1b[2Jone\n\t#2 two\n")
    ended = f"{(NOW - timedelta(minutes=59)).astimezone():%Y-%m-%d %H:%M}"
    status, out, err = lab.run("log", "0f3a")
    assert (status, out) == (0, "#1 �[2Jone\n        #2 two\n")
    assert err == f"{OLD} for ada, {ended}, built\n"
    status, out, err = lab.run("log", "0f3a", "--failed")
    assert (status, out) == (0, "#1 old\n")
    assert err == f"{OLD} for ada, {ended}, failed: The disk is full.\n"


def test_log_that_is_not_kept_is_said(lab: Lab) -> None:
    lab.note_build(OLD, BuildOutcome.BUILT)
    status, out, err = lab.run("log", OLD)
    assert (status, out) == (1, "")
    assert err.endswith("ds01: The log of this build is not kept, or not any more.\n")
    status, out, err = lab.run("log", OLD, "--failed")
    assert (status, out) == (1, "")
    assert err == f"ds01: No build of {OLD!r} failed of late. Leave out --failed.\n"


def test_builds_of_late_are_listed_the_newest_last(lab: Lab) -> None:
    lab.note_build(OLD, BuildOutcome.FAILED, why="The disk is full.")
    lab.note_build(NEW, BuildOutcome.BUILT)
    began = f"{(NOW - timedelta(hours=1)).astimezone():%Y-%m-%d %H:%M}"
    lines = [" ".join(line.split()) for line in lab.ask("log").splitlines()]
    failed = f"{began} 0f3a99c1-27bd ada 60 s failed Pytorch 2.8.0, with six The disk is full."
    assert lines == [
        "TIME IMAGE WHO TOOK OUTCOME CONTENTS WHY",
        failed,
        f"{began} 1e2b88d0-27bd ada 60 s built Pytorch 2.8.0, with six",
    ]
    lines = [" ".join(line.split()) for line in lab.ask("log", "--failed").splitlines()]
    assert lines[1:] == [failed]
    assert len(lab.ask("log", "--limit", "1").splitlines()) == 2


def test_nothing_built_is_said(lab: Lab) -> None:
    assert lab.run("log") == (0, "", "ds01: No build was tried of late.\n")
    assert lab.run("log", "--failed") == (0, "", "ds01: No build failed of late.\n")
    assert lab.read("log") == []


def test_log_is_json_for_scripts(lab: Lab) -> None:
    lab.note_build(OLD, BuildOutcome.FAILED, why="The disk is full.", text="#1 one\n")
    found = lab.read("log")[0]
    assert found == {
        "image": OLD,
        "user": "ada",
        "base": BASE,
        "contents": "Pytorch 2.8.0, with six",
        "started_at": (NOW - timedelta(hours=1)).isoformat(),
        "seconds": 60.0,
        "outcome": "failed",
        "steps": 5,
        "reused": 3,
        "why": "The disk is full.",
        "log": f"0-{OLD.rpartition(':')[2]}.log",
    }
    assert lab.read("log", OLD) == found | {"text": "#1 one\n"}


# arguments and help


@pytest.mark.parametrize(
    "arguments",
    [
        ("build",),
        ("build", "cpu", "--option", "framework"),
        ("build", "cpu", "--option", "=torch"),
        ("remove",),
        ("prune", "--older-than", "soon"),
        ("prune", "--budget", "much"),
        ("prune", "--build-cache", "-1"),
        ("log", "--limit", "0"),
        ("log", "--dry-run"),
        ("list", "--all", "--dry-run"),
    ],
)
def test_wrong_arguments_are_status_2_with_the_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    status, out, err = open_shell(capsys, monkeypatch).run("image", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: ds01")


def keys_of(value: object) -> set[str]:
    """Return every key in an answer, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def test_help_names_every_key_of_the_json_in_80_columns(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.load(OLD, used=45 * DAY)
    labels = {BASE_IMAGE_LABEL: "ubuntu:24.04", MAINTAINER_LABEL: "bob"}
    lab.shelf.load("thesis-bob-image:latest", layers={"own": MEGABYTE}, labels=labels)
    lab.note_build(OLD, BuildOutcome.FAILED, why="The disk is full.", text="#1 one\n")
    monkeypatch.setenv("COLUMNS", "80")
    for command in (
        ("list", "--all"),
        ("build", "cpu", "--dry-run"),
        ("prebuild", "--dry-run"),
        ("remove", OLD, "--dry-run"),
        ("prune", "--older-than", "30d", "--dry-run"),
        ("log", OLD),
    ):
        status, answer, _ = lab.run(*command, "--json")
        assert status == 0
        out = lab.shell.ask("image", command[0], "--help")
        said = re.findall(r"\w+", out.rpartition("With --")[2] if command[0] != "log" else out)
        assert keys_of(json.loads(answer)) - set(said) == set(), command
        assert max(map(len, out.splitlines())) <= 80, command
