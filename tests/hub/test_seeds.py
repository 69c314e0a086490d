"""The six test cases of the plan that joined DS01 and AIME, in its order, with its commands.

They run under their old names (docs/old-names.md), as a person of the docker group. Otherwise than there: the
scripts `…py` and `…sh` are called without an interpreter; an admin releases a lease by `gpu_allocator.py`; no
`nvidia-smi` is in the images of the tests, so the devices are listed; and packages are others, smaller ones.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from ds01_spawner import mlc
from ds01_spawner.catalog import parse_catalog, resolve
from ds01_spawner.model import LeaseState

from ..interviews import PLACE_OF_ANSWER
from .accounts import AtShell
from .conftest import OpenHub, tagged
from .hub import Hub
from .lab import ARCHITECTURE
from .student import Student
from .waiting import wait_for

PROFILES = [
    {
        "display_name": "A slice",
        "slug": "slice",
        "default": True,
        "spawner_override": {"gpu_profile": "1g.10gb", "gpu_count": 1, "allow_custom_base_image": True},
    }
]
USE_CASES = {"cv": ["iniconfig"]}
SCRIPT = str(Path(sys.executable).with_name("ds01"))
SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class John:
    """The person of the plan: at a shell where the old names are, and Docker may be asked."""

    at: AtShell
    student: Student
    names: Path
    config: Path

    @property
    def hub(self) -> Hub:
        return self.at.hub

    @property
    def uid(self) -> int:
        return self.at.person.uid

    @property
    def environment(self) -> dict[str, str]:
        own = {"DOCKER_HOST": self.hub.engine.docker_host, "DS01_CONFIG": str(self.config), "TERM": "xterm"}
        return {**self.at.environment, **own, "PATH": f"{self.names}:/usr/bin:{os.environ['PATH']}"}

    def run(self, line: str) -> str:
        """Run a line as it stands in the plan, which has to go well; returns its output."""
        done = subprocess.run(
            self.at.command("/bin/bash", "-c", line),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.environment,
            cwd="/",
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        return self.hub.container(self.at.person, name)


@pytest.fixture(scope="module")
def hub(open_hub: OpenHub) -> Hub:
    settings = {
        "DS01": {"accounts": "host", "use_cases": USE_CASES},
        "DS01Spawner": {"profile_list": PROFILES},
    }
    return open_hub(settings=settings)


@pytest.fixture(scope="module")
def names(hub: Hub) -> Path:
    """The folder of the old names."""
    folder = hub.lab.directory / "bin"
    folder.mkdir()
    subprocess.run([SCRIPT, "old-names", "install", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def john(hub: Hub, names: Path) -> Iterator[John]:
    config = hub.lab.directory / "site.py"
    settings = {
        "catalog_file": str(hub.lab.catalog),
        "architecture": ARCHITECTURE,
        "docker_host": hub.engine.docker_host,
        "docker_command": "/usr/bin/docker",
        "use_cases": USE_CASES,
        "base_packages": [],
        "base_system_packages": [],
        "ca_bundle": ssl.get_default_verify_paths().cafile or "",
        "pip_config": os.environ.get("PIP_CONFIG_FILE", ""),
    }
    config.write_text(
        "c = get_config()\n" + "".join(f"c.DS01.{key} = {value!r}\n" for key, value in settings.items())
    )
    catalog = parse_catalog(hub.lab.catalog_text)
    bases = [resolve(catalog, "Pytorch", version, ARCHITECTURE).image for version in ("2.5.1", "")]
    with ExitStack() as stack:
        stack.enter_context(tagged(hub.engine, *bases))
        person = stack.enter_context(hub.lab.enrol_on_host("docker"))
        student = hub.sign_in(person)
        stack.callback(student.close)
        yield John(at=AtShell(hub=hub, person=person), student=student, names=names, config=config)
        for server in student.model()["servers"]:
            if student.server(server):
                student.stop(server)
        hub.clean(person)
        for image in hub.docker.images():
            for tag in image["RepoTags"] or ():
                if tag.endswith(f"{mlc.own_image_name('', person.name)}:latest"):
                    hub.docker.remove_image(tag, noprune=True, force=True)


def test_1_aime_framework_catalog_only(john: John) -> None:
    john.run("mlc-create-patched pytorch-test Pytorch 2.5.1")
    shown = john.run('docker inspect "pytorch-test._.$(id -u)"')
    assert "aime.mlc" in shown
    assert "aimehub/pytorch-2.5.1" in shown
    assert john.inspect("pytorch-test")["Config"]["Labels"]["aime.mlc.FRAMEWORK"] == "Pytorch-2.5.1"


def test_2_custom_image_of_ds01(john: John) -> None:
    john.run("image-create my-cv-project -f pytorch -t cv")
    image = mlc.own_image_name("my-cv-project", john.at.name)
    assert "aimehub" in john.run(f"docker history --no-trunc {image}")
    john.run("container-create my-cv-project")
    shown = john.run('docker inspect "my-cv-project._.$(id -u)" | grep "aime.mlc.CUSTOM_IMAGE"')
    assert image in shown
    assert "iniconfig" in john.run("container-run my-cv-project -- python3 -m pip list")


def test_3_resource_limits(john: John) -> None:
    john.run("container-create test-limits")
    asked = {
        "{{.HostConfig.NanoCpus}}": "1500000000",
        "{{.HostConfig.Memory}}": str(1024**3),
        "{{.HostConfig.ShmSize}}": str(192 * 1024**2),
        "{{.HostConfig.CgroupParent}}": "ds01-student.slice",
    }
    for form, value in asked.items():
        shown = john.run(f"docker inspect \"test-limits._.$(id -u)\" --format '{form}'").strip()
        # Where Docker's cgroups are no systemd's, a slice is a path.
        assert shown.rpartition("/")[2] == value, form


def test_4_gpu_allocation(john: John) -> None:
    hub = john.hub
    hub.lab.set_limits(john.at.person, gpu_hold_after_stop_h=1, container_hold_after_stop_h=1)
    john.run("container-create gpu-test")
    (lease,) = hub.leases(john.at.person)
    admin = {**os.environ, "DS01_CONFIG": str(hub.config)}

    def ask_admin(*command: str) -> str:
        done = subprocess.run(
            [str(john.names / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            timeout=60,
            env=admin,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"gpu-test._.{john.uid}" in ask_admin("gpu_allocator.py", "status", "--json")
    nodes = " ".join(hub.lab.device_nodes(lease.slots))
    john.run(f'docker exec "gpu-test._.$(id -u)" ls {nodes}')
    others = set(hub.lab.slots("1g.10gb")) - set(lease.slots)
    hidden = set(hub.lab.device_nodes(tuple(others))) - set(hub.lab.device_nodes(lease.slots))
    assert (
        john.run(f'docker exec "gpu-test._.$(id -u)" sh -c "ls {" ".join(hidden)} 2>/dev/null; true"') == ""
    )
    john.run('docker stop "gpu-test._.$(id -u)"')
    wait_for(lambda: hub.leases(john.at.person)[0].state is LeaseState.HELD, "the GPU is held")
    ask_admin("gpu_allocator.py", "release", f"gpu-test._.{john.uid}")
    assert hub.leases(john.at.person) == ()


def test_5_mlc_open(john: John) -> None:
    john.run("container-create compat-test")
    tag = f"compat-test._.{john.uid}"
    # What mlc-open asks, in its order; the tool itself is in docs/ssh.md.
    assert john.run(
        f"docker container ls -a --filter name=^{tag}$ --filter label=aime.mlc --format '{{{{.Names}}}}'"
    )
    inside = "whoami; id -u; id -g; pwd; touch /workspace/from-mlc-open"
    said = john.run(f"docker exec --user {john.uid}:{john.uid} {tag} bash -c '{inside}'")
    assert said.split() == [john.at.name, str(john.uid), str(john.uid), "/workspace"]
    assert (john.at.person.workspace / "from-mlc-open").exists()
    assert len(john.run(f"docker top {tag} -o pid").splitlines()) > 2


def test_6_full_workflow(john: John) -> None:
    command, *arguments = john.at.command("/bin/bash", "-c", "user-setup")
    wizard = pexpect.spawn(
        command,
        arguments,
        env=john.environment,
        cwd="/",
        encoding="utf-8",
        timeout=SECONDS,
        dimensions=(50, 120),
    )
    for question, answer in (
        ("project called", "my-thesis"),
        ("Which framework", "PyTorch"),
        ("What is it for", "cv"),
        ("other Python packages", "six"),
        ("Which GPU", ""),
        ("Make it now", "y"),
    ):
        wizard.expect(question)
        wizard.expect(PLACE_OF_ANSWER)
        wizard.sendline(answer)
    wizard.expect(pexpect.EOF)
    said = wizard.before
    wizard.close()
    assert wizard.exitstatus == 0, said
    image = mlc.own_image_name("my-thesis", john.at.name)
    assert image in john.run("docker images")
    assert "aimehub" in john.run(f"docker history --no-trunc {image}")
    made = john.inspect("my-thesis")
    assert made["HostConfig"]["Memory"] == 1024**3
    (lease,) = john.hub.leases(john.at.person)
    assert lease.slots
    admin = {**os.environ, "DS01_CONFIG": str(john.hub.config)}
    person = [str(john.names / "gpu_allocator.py"), "user-status", john.at.name]
    asked = subprocess.run(person, capture_output=True, text=True, timeout=60, env=admin)
    assert "my-thesis" in asked.stdout, asked.stderr
    assert john.run("container-run my-thesis -- whoami").strip() == john.at.name
    installed = john.run("container-run my-thesis -- python3 -m pip list")
    assert {"iniconfig", "six"} <= {line.split()[0] for line in installed.splitlines()}
    for name in ("README.md", "requirements.txt", "Dockerfile"):
        assert (john.at.person.workspace / "my-thesis" / name).exists()
