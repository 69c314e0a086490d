"""`ds01 image build` and `prebuild`: images really built for profiles, before anybody waits for them."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.model import BuildOutcome
from tests.unit.shell import Shell, open_shell, write_config

from ..conftest import PrivateEngine, heed_interrupt
from .building import BASE, ensure_bases

pytestmark = pytest.mark.docker

SCRIPT = str(Path(sys.executable).with_name("ds01"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A site whose base image nobody else has, and the shell of its admin."""

    client: docker.DockerClient
    ledger: Ledger
    shell: Shell
    base: str
    config: str

    def run(self, *arguments: str) -> tuple[object, str, str]:
        return self.shell.run("image", *arguments, "--config", self.config)

    def read(self, *arguments: str) -> Any:
        status, out, _ = self.run(*arguments, "--json")
        assert status == 0
        return json.loads(out)

    def offer(self, *profiles: dict[str, Any]) -> None:
        with Path(self.config).open("a") as file:
            file.write(f"c.DS01Spawner.profile_list = {list(profiles)!r}\n")

    def states(self) -> dict[str, str]:
        found = self.read("prebuild", "--dry-run")["images"]
        return {slug: one["state"] for one in found for slug in one["profiles"]}

    def renew_base(self) -> None:
        """Give the base's name to a newer image, as a pull does."""
        container = self.client.containers.create(self.base, ["true"])
        container.commit(*self.base.rsplit(":", 1), changes=['LABEL newer="yes"'])
        container.remove()


@pytest.fixture
def lab(
    private_engine: PrivateEngine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Lab]:
    host = private_engine.docker_host
    ensure_bases(host, "--tag", BASE)
    client = docker.DockerClient(base_url=host)
    base = f"ds01-test/prebuild-{os.urandom(4).hex()}:latest"
    client.images.get(BASE).tag(base)
    (tmp_path / "catalog").write_text(f"Pytorch, 2.8.0, CUDA_ADA, {base}\n")
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    config = write_config(
        tmp_path,
        f"c.DS01.docker_host = {host!r}",
        f"c.DS01.ledger_url = 'sqlite:///{tmp_path}/ledger.sqlite'",
        f"c.DS01.catalog_file = '{tmp_path}/catalog'",
        f"c.DS01.build_log_dir = '{tmp_path}/builds'",
        f"c.DS01.ca_bundle = {ssl.get_default_verify_paths().cafile!r}",
        "c.DS01.docker_command = '/usr/bin/docker'",
        "c.DS01.architecture = 'CUDA_ADA'",
        "c.DS01.base_packages = c.DS01.base_system_packages = []",
        "c.DS01.use_cases = {'broken': ['ds01-no-such-package-anywhere']}",
    )
    shell = open_shell(capsys, monkeypatch)
    yield Lab(client=client, ledger=ledger, shell=shell, base=base, config=config)
    for name in {record.tag for record in ledger.builds()} | {base}:
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(name, noprune=False)
    client.close()
    ledger.close()


def test_an_admin_takes_up_a_newer_base_for_all_profiles_and_one_that_fails_keeps_none(lab: Lab) -> None:
    lab.offer(
        {"display_name": "CPU", "slug": "cpu"},
        {"display_name": "Slice", "slug": "slice", "spawner_override": {"gpu_profile": "1g.10gb"}},
        {"display_name": "Broken", "slug": "broken", "spawner_override": {"use_case": "broken"}},
    )
    assert lab.states() == {"cpu": "absent", "slice": "absent", "broken": "absent"}
    assert lab.ledger.builds() == ()

    status, out, err = lab.run("prebuild")
    records = {record.outcome: record for record in lab.ledger.builds()}
    first = records[BuildOutcome.BUILT].tag
    assert status == 1
    assert out.splitlines() == [
        f"cpu, slice on {lab.base}: built, {first.partition(':')[2][:8]}-{first.rpartition('-')[2][:4]}",
        f"broken on {lab.base}: failed",
    ]
    assert "Installing the notebook server" in err
    assert "1 of 2 images could not be built" in err
    assert "There is no package ds01-no-such-package-anywhere" in err
    assert lab.states() == {"cpu": "ready", "slice": "ready", "broken": "absent"}

    lab.offer({"display_name": "CPU", "slug": "cpu"})
    lab.renew_base()
    assert lab.states() == {"cpu": "older base"}
    found = lab.read("prebuild")["images"][0]
    assert (found["state"], found["built"], found["image"] != first) == ("older base", True, True)
    assert lab.states() == {"cpu": "ready"}
    # What runs from the older one goes on, and whoever starts gets the newer.
    assert lab.client.images.get(first)
    count = len(lab.ledger.builds())
    status, out, _ = lab.run("prebuild")
    assert (status, out.partition(": ")[2].startswith("there already, ")) == (0, True)
    assert len(lab.ledger.builds()) == count


def test_image_of_one_profile_is_built_with_its_choices_and_its_name_printed(lab: Lab) -> None:
    option = {"choices": {"plain": {}, "six": {"spawner_override": {"packages": ["six"]}}}}
    lab.offer({"display_name": "CPU", "slug": "cpu", "profile_options": {"extra": option}})
    command = ("build", "cpu", "--option", "extra=six")
    status, out, err = lab.run(*command, "--dry-run")
    assert (status, out, err) == (0, "", f"ds01: An image on {lab.base} would be built.\n")

    status, out, err = lab.run(*command)
    (record,) = lab.ledger.builds()
    assert (status, out) == (0, f"{record.tag}\n")
    assert (record.summary, record.outcome) == ("Pytorch 2.8.0, with six", BuildOutcome.BUILT)
    assert "Installing your packages" in err
    assert "Your image is built; that took " in err
    assert lab.client.images.get(record.tag)

    again = lab.read(*command)
    assert (again["image"], again["built"], again["seconds"]) == (record.tag, False, None)
    status, out, err = lab.run("build", "gpu")
    assert (status, out) == (1, "")
    assert err == "ds01: There is no profile 'gpu' for you. You may use: `cpu`.\n"


HANGS = """\
#!/bin/sh
echo '#5 [2/3] RUN --mount=type=cache : layer=hub && pip install'
exec sleep 600
"""


def test_ctrl_c_ends_a_build_and_leaves_no_image(lab: Lab) -> None:
    lab.offer({"display_name": "CPU", "slug": "cpu"})
    lab.renew_base()
    # Docker's own command would take ten seconds to end.
    docker_command = Path(lab.config).with_name("docker-that-hangs")
    docker_command.write_text(HANGS)
    docker_command.chmod(0o755)
    with Path(lab.config).open("a") as file:
        file.write(f"c.DS01.docker_command = '{docker_command}'\n")
    command = [SCRIPT, "image", "build", "cpu", "--config", lab.config]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_interrupt) as process:
        assert process.stderr is not None
        assert any("Installing the notebook server" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == "ds01: The build was ended. What it had done is not lost to the next one.\n"
    (record,) = lab.ledger.builds()
    assert record.outcome is BuildOutcome.GIVEN_UP
    assert lab.states() == {"cpu": "absent"}
