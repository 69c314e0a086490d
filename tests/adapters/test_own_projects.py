"""`ds01 project init` on a real engine: the folder, and the image that is built from it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from ..conftest import PrivateEngine, run_tool
from ..unit.service_stand_in import stand_in

pytestmark = pytest.mark.docker

SCRIPT = str(Path(sys.executable).with_name("ds01"))
BASE = "aimehub/pytorch-2.8.0-cuda12.6.3"
CA_BUNDLE = ssl.get_default_verify_paths().cafile or ""
NAME = f"p{os.urandom(4).hex()}"
SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where a person sits who may use Docker."""

    home: Path
    environment: Mapping[str, str]
    engine: docker.DockerClient

    def begin(self, *options: str, socket: str = "") -> subprocess.CompletedProcess[str]:
        rest = ("--socket", socket) if socket else ("--no-container",)
        return subprocess.run(
            [SCRIPT, "project", "init", NAME, "--arch", "CUDA_ADA", *rest, *options],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    @property
    def images(self) -> list[str]:
        found = self.engine.images.list(filters={"reference": f"{NAME}-*"})
        return [tag for image in found for tag in image.tags]


@pytest.fixture
def desk(private_engine: PrivateEngine, tmp_path: Path) -> Iterator[Desk]:
    host = private_engine.docker_host
    ensured = run_tool("base_image", "ensure", "--docker-host", host, "--tag", f"{BASE}:latest")
    assert ensured.returncode == 0, ensured.stderr
    home = tmp_path / "home"
    home.mkdir()
    catalog = tmp_path / "ml_images.repo"
    catalog.write_text(f"Pytorch, 2.8.0, [CUDA_ADA], {BASE}\n")
    config = tmp_path / "jupyterhub_config.py"
    config.write_text(
        f"c = get_config()\nc.DS01.catalog_file = {str(catalog)!r}\nc.DS01.ca_bundle = {CA_BUNDLE!r}\n"
        f"c.DS01.ledger_url = 'sqlite:///{tmp_path}/ledger.sqlite'\n"
        "c.DS01.base_packages = []\nc.DS01.base_system_packages = []\n"
    )
    environment = {
        **os.environ,
        "HOME": str(home),
        "DOCKER_HOST": host,
        "DS01_CONFIG": str(config),
        # A Docker put there by hand, before Debian's, often cannot build.
        "PATH": f"/usr/bin:{os.environ['PATH']}",
    }
    engine = docker.DockerClient(base_url=host)
    sitting = Desk(home=home, environment=environment, engine=engine)
    yield sitting
    for name in sitting.images:
        engine.images.remove(name, noprune=True)
    engine.close()


def test_a_build_that_fails_is_gone_on_with_and_what_is_there_is_kept(desk: Desk) -> None:
    failed = desk.begin("-f", "pytorch", "-p", f"no-such-package-{NAME}")
    assert failed.returncode == 1, failed.stderr
    assert desk.images == []
    assert f"So far there is ~/workspace/{NAME} and ~/dockerfiles/{NAME}." in failed.stderr
    assert f"This goes on from there: ds01 project init {NAME} -f Pytorch -p" in failed.stderr
    folder = desk.home / "workspace" / NAME
    recipe = desk.home / "dockerfiles" / NAME
    assert (folder / "Dockerfile").readlink() == recipe / "Dockerfile"

    (recipe / "requirements.txt").write_text("six\n")
    built = desk.begin("--json")
    assert built.returncode == 0, built.stderr
    (image,) = desk.images
    answer = json.loads(built.stdout)
    assert (answer["image"], answer["container"]) == (image.removesuffix(":latest"), None)
    assert answer["made"] == ["image"]
    command = ["python3", "-c", "import six; print('six')"]
    printed = desk.engine.containers.run(image, command, remove=True)
    assert printed.decode().strip().endswith("six")

    again = desk.begin()
    assert again.returncode == 0, again.stderr
    assert f"the image {image.removesuffix(':latest')}." in again.stderr
    assert "Image " in again.stdout
    assert (folder / "requirements.txt").read_text().endswith(f"no-such-package-{NAME}\n")

    with stand_in(desk.home.parent) as service:
        service.answers = {
            "GET selection": (200, {"images": {NAME: image.removesuffix(":latest")}}),
            "POST check": (200, {"problem": ""}),
            f"POST containers/{NAME}/start": (200, {}),
            f"GET containers/{NAME}/progress": (200, [{"message": "Ready", "ready": True}]),
        }
        running = {f"GET containers/{NAME}": (200, {"name": NAME, "state": "running"})}
        service.after = {f"containers/{NAME}/start": running}
        made = desk.begin("--cpu-only", socket=service.path)
        assert made.returncode == 0, made.stderr
        wanted = {"options": {"base_image": image.removesuffix(":latest"), "gpu_profile": "none"}}
        assert service.posted == [("check", wanted), (f"containers/{NAME}/start", wanted)]
