"""A Docker Engine with nothing on it, and images for it that need no build: a pytest plugin.

Whoever prunes needs an Engine of her own: on the shared one lie the images of all other tests.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import docker
import pytest

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger

from ..conftest import run_tool

NOW = datetime.now(timezone.utc).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MEGABYTE = 10**6


@pytest.fixture(scope="session")
def empty_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where an Engine listens that has no images; a test leaves it as it was."""
    directory = str(tmp_path_factory.mktemp("engine"))
    brought_up = run_tool("engine", "up", "--directory", directory)
    try:
        found = re.search(r"on (unix://\S+),", brought_up.stdout)
        assert found is not None, brought_up.stderr
        yield found[1]
    finally:
        run_tool("engine", "down", "--directory", directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The images and containers of one test, and its ledger."""

    docker_host: str
    client: docker.APIClient
    ledger: Ledger
    containers: list[str] = field(default_factory=list)

    def load(
        self,
        *names: str,
        layers: Mapping[str, int],
        made_at: datetime = NOW - 100 * DAY,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Load an image with a file in each layer, of that name and size; return its id.

        Docker notes no time for names that come so. Equal layers are shared.
        """
        tars = [_pack({name: b"\0" * size}) for name, size in layers.items()]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": made_at.isoformat().replace("+00:00", "Z"),
            "config": {"Labels": dict(labels or {})},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
            },
        }
        text = json.dumps(config).encode()
        digest = hashlib.sha256(text).hexdigest()
        paths = [f"{place}/layer.tar" for place in range(len(tars))]
        manifest = [{"Config": f"{digest}.json", "RepoTags": list(names), "Layers": paths}]
        files = {"manifest.json": json.dumps(manifest).encode(), f"{digest}.json": text}
        list(self.client.load_image(_pack(files | dict(zip(paths, tars, strict=True)))))
        return f"sha256:{digest}"

    def contain(self, image: str, name: str) -> str:
        """Create a container of an image, which never starts; return its id."""
        made = self.client.create_container(image, ["/none"], name=name)
        self.containers.append(made["Id"])
        return str(made["Id"])

    @property
    def names(self) -> set[str]:
        """The names of all images there are."""
        return {name for row in self.client.images() for name in row["RepoTags"] or ()}


@pytest.fixture
def shelf(empty_engine: str, tmp_path: Path) -> Iterator[Shelf]:
    client = docker.APIClient(base_url=empty_engine, version="auto")
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    made = Shelf(docker_host=empty_engine, client=client, ledger=ledger)
    yield made
    for container in made.containers:
        client.remove_container(container, force=True)
    for row in client.images():
        client.remove_image(row["Id"], force=True)
    client.prune_builds(all=True)
    client.close()
    ledger.close()


@pytest.fixture
def shelf_engine(shelf: Shelf) -> DockerEngine:
    return DockerEngine(docker_host=shelf.docker_host)


def _pack(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
