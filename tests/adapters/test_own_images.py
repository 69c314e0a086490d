"""Images of one's own on a real engine: made, listed, edited, built again and deleted by `ds01 image`."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pexpect
import pytest

from ..conftest import PrivateEngine, heed_interrupt, run_tool

pytestmark = pytest.mark.docker

SCRIPT = str(Path(sys.executable).with_name("ds01"))
BASE = "aimehub/pytorch-2.8.0-cuda12.6.3"
CA_BUNDLE = ssl.get_default_verify_paths().cafile or ""
SECONDS = 300
PLACE_OF_ANSWER = r"(?:\n|\] )> $|\]: $"
# Of this run alone, whatever the engine has in its cache and whoever else uses it.
MARK = os.urandom(4).hex()
NEW_SIX = f'six; python_version < "3.{100 + int(MARK, 16)}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where a person sits who may use Docker; her images have names of this run."""

    home: Path
    environment: Mapping[str, str]
    engine: docker.DockerClient

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, "image", *arguments],
            env=dict(self.environment),
            input=typed,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def ask(self, *arguments: str) -> Any:
        """Return what a command says with --json."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def create(self, name: str, *options: str) -> Any:
        tiny = ("--base", BASE, "--no-base-packages", "--ca-bundle", CA_BUNDLE)
        return self.ask("create", name, *tiny, *options)

    def update(self, name: str, *options: str) -> Any:
        return self.ask("update", name, "--ca-bundle", CA_BUNDLE, *options)

    def sit_down(self, *arguments: str) -> pexpect.spawn[str]:
        """Begin a command at a terminal."""
        return pexpect.spawn(
            SCRIPT,
            ["image", *arguments],
            env=self.environment,
            encoding="utf-8",
            timeout=SECONDS,
            preexec_fn=heed_interrupt,
        )

    def folder(self, name: str) -> Path:
        return self.home / "dockerfiles" / name

    def say_in(self, image: str, *command: str) -> str:
        return self.engine.containers.run(image, list(command), remove=True).decode().strip()


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    host = private_engine.docker_host
    ensured = run_tool("base_image", "ensure", "--docker-host", host, "--tag", f"{BASE}:latest")
    assert ensured.returncode == 0, ensured.stderr
    return host


@pytest.fixture
def desk(docker_host: str, tmp_path: Path) -> Iterator[Desk]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DS01_CONFIG"},
        "HOME": str(tmp_path),
        "DOCKER_HOST": docker_host,
        # A Docker put there by hand, before Debian's, often cannot build.
        "PATH": f"/usr/bin:{os.environ['PATH']}",
    }
    engine = docker.DockerClient(base_url=docker_host)
    yield Desk(home=tmp_path, environment=environment, engine=engine)
    # By name: what is called so may be somebody else's image, which keeps its own names.
    names = [tag for image in engine.images.list(filters={"reference": f"*{MARK}*"}) for tag in image.tags]
    for name in names:
        if MARK in name:
            engine.images.remove(name, noprune=True)
    engine.close()


def test_an_image_is_made_listed_edited_updated_and_deleted(desk: Desk) -> None:
    name = f"life-{MARK}"
    written = desk.create(name, "-p", "iniconfig", "-s", "tree", "--no-build")
    image = written["image"]
    assert (image, written["built"]) == (f"{name}-root-image", False)
    made = desk.update(name)
    assert (made["built"], made["changes"]) == (True, {})
    assert desk.say_in(image, "python3", "-c", "import iniconfig; print('yes')") == "yes"
    assert desk.engine.images.get(image).labels["aime.mlc.MAINTAINER_ID"] == "0"

    (row,) = [row for row in desk.ask("list") if row["name"] == name]
    assert (row["id"], row["base"], row["folder"]) == (made["id"], BASE, str(desk.folder(name)))
    assert row["size_bytes"] > 10**6
    table = desk.run("list").stdout
    assert f"~/dockerfiles/{name}" in table

    desk.folder(name).joinpath("packages.txt").write_text(f"# for the tests\n{NEW_SIX}\n")
    updated = desk.update(name)
    assert updated["changes"] == {"packages.txt": {"added": [NEW_SIX], "removed": ["iniconfig"]}}
    assert updated["id"] != made["id"]
    assert 0 < updated["reused"] < updated["steps"]
    assert desk.say_in(image, "python3", "-c", "import six; print('yes')") == "yes"
    assert "# for the tests" in desk.folder(name).joinpath("packages.txt").read_text()
    with pytest.raises(docker.errors.ImageNotFound):
        desk.engine.images.get(made["id"])

    assert desk.ask("delete", name, "--yes") == {"name": name, "image_removed": True, "folder_removed": True}
    with pytest.raises(docker.errors.ImageNotFound):
        desk.engine.images.get(image)
    assert list((desk.home / "dockerfiles").iterdir()) == []


def test_a_dockerfile_that_she_edited_is_built_as_it_is_and_is_hers_still(desk: Desk) -> None:
    name = f"hers-{MARK}"
    image = desk.create(name)["image"]
    path = desk.folder(name)
    kept = [line for line in (path / "Dockerfile").read_text().splitlines() if not line.startswith("LABEL")]
    (path / "hello.txt").write_text(MARK)
    (path / "Dockerfile").write_text("\n".join([*kept, "COPY hello.txt /hello.txt", ""]))
    (path / "system.txt").write_text("tree\n")
    done = desk.run("update", name, "--ca-bundle", CA_BUNDLE)
    assert done.returncode == 0, done.stderr
    assert "so the folder is built as it is." in done.stderr
    assert "system.txt has packages, and the Dockerfile does not read it" in done.stderr
    assert "  Dockerfile: 1 line added\n" in done.stderr
    assert desk.say_in(image, "cat", "/hello.txt") == MARK
    assert name in [row["name"] for row in desk.ask("list") if row["built"]]
    again = desk.run("update", name, "--ca-bundle", CA_BUNDLE)
    assert "Nothing in the folder has changed since the last build." in again.stderr


def test_an_image_that_a_container_uses_is_not_deleted_and_survives_an_update(desk: Desk) -> None:
    name = f"used-{MARK}"
    made = desk.create(name)
    container = desk.engine.containers.create(made["image"], name=f"ds01-{MARK}")
    try:
        done = desk.run("delete", name, "--yes")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"ds01: ds01-{MARK} was made from {made['image']}. Remove that first")
        assert desk.update(name, "--add", "six")["id"] != made["id"]
        assert desk.engine.images.get(made["id"]).tags == []
    finally:
        container.remove()
        desk.engine.images.remove(made["id"])


def test_a_failed_build_says_why_in_a_few_lines_and_leaves_image_and_files(desk: Desk) -> None:
    name = f"failing-{MARK}"
    made = desk.create(name)
    done = desk.run("update", name, "--add", f"no-such-{MARK}", "--ca-bundle", CA_BUNDLE)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"There is no package no-such-{MARK}" in done.stderr
    assert f"ERROR: No matching distribution found for no-such-{MARK}" in done.stderr
    assert done.stderr.endswith(f"  The whole log is in ~/dockerfiles/{name}/build.log.\n")
    assert f"no-such-{MARK}" in desk.folder(name).joinpath("build.log").read_text()
    assert f"no-such-{MARK}" in desk.folder(name).joinpath("packages.txt").read_text()
    assert desk.engine.images.get(made["image"]).id == made["id"]


def test_somebody_elses_image_of_that_name_is_left_alone(desk: Desk) -> None:
    name = f"theirs-{MARK}"
    desk.engine.images.get(BASE).tag(f"{name}-root-image", "latest")
    for arguments in (("create", name, "--base", BASE), ("delete", name, "--yes")):
        done = desk.run(*arguments)
        assert done.returncode == 1
        assert f"There is an image {name}-root-image that you did not make" in done.stderr
    assert desk.engine.images.get(f"{name}-root-image")
    assert name not in [row["name"] for row in desk.ask("list")]


def test_the_wizard_builds_at_the_last_answer_and_ctrl_c_there_leaves_nothing(desk: Desk) -> None:
    name = f"asked-{MARK}"
    options = ("create", name, "--base", BASE, "--no-base-packages", "--guided", "--ca-bundle", CA_BUNDLE)
    answers = ("none", "", "", "")
    left = desk.sit_down(*options)
    for answer in answers:
        left.expect(PLACE_OF_ANSWER)
        left.sendline(answer)
    left.expect(r"Build the image now\? \[Y/n\]: $")
    left.sendintr()
    left.expect(pexpect.EOF)
    left.close()
    assert left.exitstatus == 130
    assert not (desk.home / "dockerfiles").exists()

    stayed = desk.sit_down(*options)
    for answer in (*answers, "y"):
        stayed.expect(PLACE_OF_ANSWER)
        stayed.sendline(answer)
    stayed.expect("Your image is built")
    stayed.expect(pexpect.EOF)
    stayed.close()
    assert stayed.exitstatus == 0
    assert desk.engine.images.get(f"{name}-root-image")


def test_ctrl_c_ends_a_build_and_the_image_stays_what_it_was(desk: Desk) -> None:
    name = f"ended-{MARK}"
    made = desk.create(name)
    path = desk.folder(name) / "Dockerfile"
    path.write_text(f"{path.read_text()}RUN : layer=packages && echo {MARK} && sleep 600\n")
    building = desk.sit_down("update", name, "--ca-bundle", CA_BUNDLE)
    building.expect("Installing your packages")
    building.sendintr()
    building.expect("The build was ended")
    building.expect(pexpect.EOF)
    building.close()
    assert building.exitstatus == 130
    assert desk.engine.images.get(made["image"]).id == made["id"]
    assert path.exists()
