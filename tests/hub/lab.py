"""The machine that one Hub of the tests serves: accounts, homes, GPUs, catalog and limits.

All of it lies in one folder that every account may enter (pytest's own are closed to them), and can
be changed while the Hub runs, as an admin would. The GPUs have UUIDs that no other lab has, so that
several Hubs can share one Docker Engine.
"""

from __future__ import annotations

import grp
import itertools
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ds01_spawner.adapters.box import read_box
from ds01_spawner.catalog import parse_catalog, resolve
from ds01_spawner.model import BaseImage

from ..simulator.cdi import make_node, write_cdi_spec

ROOT = Path(__file__).resolve().parents[2]

FRAMEWORK, VERSION, ARCHITECTURE = "Pytorch", "2.8.0", "CUDA_ADA"

# Far from those of other runs on the same Docker Engine, where a UID is part of each name.
_uids = itertools.count(3000 + 500 * (os.getpid() % 100))

_H100 = 'name="NVIDIA H100 80GB HBM3" memory_mib=81559 cc=9.0'
UNKNOWN_TO_DOCKER = "1g.20gb"
# One 2g.20gb and one full GPU: what is the last one of its kind from the beginning.
_BOX = """\
driver 570.86.10
cuda 12080
gpu 0 uuid=GPU-{tag}-4000-8000-000000000000 {h100} mig=on
mig 0:0 uuid=MIG-{tag}-5000-8000-000000000000 profile=2g.20gb gi=3 ci=0 slices=2 memory_mib=19968
mig 0:2 uuid=MIG-{tag}-5000-8000-000000000002 profile=1g.10gb gi=9 ci=0 slices=1 memory_mib=9728
mig 0:3 uuid=MIG-{tag}-5000-8000-000000000003 profile=1g.10gb gi=10 ci=0 slices=1 memory_mib=9728
gpu 1 uuid=GPU-{tag}-4000-8000-000000000001 {h100} mig=on
mig 1:1 uuid=MIG-{tag}-5000-8000-000000000101 profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728
mig 1:5 uuid=MIG-{tag}-5000-8000-000000000105 profile=1g.10gb gi=11 ci=0 slices=1 memory_mib=9728
mig 1:6 uuid=MIG-{tag}-5000-8000-000000000106 profile={unknown} gi=14 ci=0 slices=1 memory_mib=19968
gpu 2 uuid=GPU-{tag}-4000-8000-000000000002 {h100} mig=off
"""

LIMITS = """\
defaults:
  max_gpu_slots: 2
  max_gpu_slots_per_container: 2
  allow_full_gpu: false
  max_cpus: 1.5
  memory: 1g
  memory_swap: 1g
  shm_size: 192m
  pids_limit: 300
  storage_tmp: 96m
  max_containers_per_user: 2
  gpu_hold_after_stop_h: 0
  container_hold_after_stop_h: null
default_group: student
groups:
  student:
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An account of the lab."""

    name: str
    uid: int
    home: Path

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def container_home(self) -> Path:
        """What is her home inside containers, as the host sees it."""
        return self.home / ".ds01" / "home"


class Lab:
    """One simulated machine; `remove` takes all of it away again."""

    def __init__(self, cdi_directory: Path) -> None:
        self.name = f"ds01-test-{secrets.token_hex(3)}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.accounts = self.directory / "passwd"
        self.accounts.touch()
        self.box = self.directory / "gpus.box"
        tag = f"{secrets.token_hex(4)}-0000"
        self.box_text = _BOX.format(tag=tag, h100=_H100, unknown=UNKNOWN_TO_DOCKER)
        self.box.write_text(self.box_text)
        self.limits = self.directory / "resource-limits.yaml"
        self.limits.write_text(LIMITS)
        self.catalog_text = read_catalog()
        self.catalog = self.directory / "ml_images.repo"
        self.catalog.write_text(self.catalog_text)
        self._cdi_spec = cdi_directory / f"{self.name}.json"
        self._write_cdi_spec()

    @property
    def base(self) -> BaseImage:
        """The catalog's image for the framework that servers have here."""
        return resolve(parse_catalog(self.catalog_text), FRAMEWORK, VERSION, ARCHITECTURE)

    def slots(self, profile: str) -> tuple[str, ...]:
        """Return the UUIDs of the slots of one profile."""
        return tuple(slot.uuid for slot in read_box(self.box).slots if slot.profile == profile)

    def _write_cdi_spec(self) -> None:
        """Give Docker the devices, by UUID alone, since another lab's have the same indices.

        All but one profile, as when nobody wrote the spec anew after a change of MIG.
        """
        spec = json.loads(write_cdi_spec(self.box, self.directory).read_text())
        known = {slot.uuid for slot in read_box(self.box).slots if slot.profile != UNKNOWN_TO_DOCKER}
        spec["devices"] = [item for item in spec["devices"] if item["name"] in known]
        self._write(spec)

    @contextmanager
    def handing_out(self, slot: str, *nodes: str) -> Iterator[None]:
        """Let Docker give who asks for a slot these nodes, as if nobody had written its spec anew."""
        spec = json.loads(self._cdi_spec.read_text())
        (device,) = (item for item in spec["devices"] if item["name"] == slot)
        # A device of nothing is no device.
        device["containerEdits"] = {
            "env": ["OUTDATED=yes"],
            "deviceNodes": [make_node(name) for name in nodes],
        }
        self._write(spec)
        try:
            yield
        finally:
            self._write_cdi_spec()

    def _write(self, spec: object) -> None:
        unfinished = self._cdi_spec.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(spec))
        unfinished.rename(self._cdi_spec)

    def device_nodes(self, slots: tuple[str, ...]) -> list[str]:
        """Return the device nodes that the CDI spec names for some slots, sorted."""
        devices = json.loads(self._cdi_spec.read_text())["devices"]
        nodes = [
            node
            for item in devices
            if item["name"] in slots
            for node in item["containerEdits"]["deviceNodes"]
        ]
        return sorted({node["path"] for node in nodes})

    def enrol(self, name: str, *, uid: int | None = None) -> Person:
        """Add an account with a home that only she can enter."""
        number = next(_uids) if uid is None else uid
        home = self.directory / "home" / name
        home.mkdir(parents=True, mode=0o700)
        home.parent.chmod(0o755)
        os.chown(home, number, number)
        with self.accounts.open("a") as accounts:
            accounts.write(f"{name}:x:{number}:{number}::{home}:/bin/bash\n")
        return Person(name=name, uid=number, home=home)

    @contextmanager
    def enrol_on_host(self, *groups: str) -> Iterator[Person]:
        """Add a real account of this machine, a member of some groups; removed at the end."""
        name = f"ds01-{secrets.token_hex(4)}"
        person = self.enrol(name)
        command = ["useradd", "--uid", str(person.uid), "--user-group", "--no-create-home"]
        command += ["--home-dir", str(person.home), "--shell", "/bin/bash"]
        known = {group.gr_name for group in grp.getgrall()}
        added = [group for group in groups if group not in known]
        for group in added:
            subprocess.run(["groupadd", group], check=True)
        subprocess.run([*command, "--groups", ",".join(groups), name], check=True)
        try:
            yield person
        finally:
            subprocess.run(["userdel", name], check=True)
            for group in added:
                subprocess.run(["groupdel", group], check=True)

    def set_limits(self, person: Person, **limits: object) -> None:
        """Give one person limits of her own, on top of the defaults; other people's stay as they are."""
        file = self.directory / "user-overrides.yaml"
        overrides = json.loads(file.read_text()) if file.exists() else {}
        overrides[person.name] = limits
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(overrides))
        unfinished.rename(file)

    def remove(self) -> None:
        """Remove the folder and the CDI spec."""
        self._cdi_spec.unlink(missing_ok=True)
        shutil.rmtree(self.directory)


def read_catalog() -> str:
    """Return AIME's own catalog where a copy of it lies beside the checkout, else the tests' sample."""
    real = ROOT.parent / "shared" / "data" / "ml_images.v2.repo"
    return (real if real.exists() else ROOT / "tests" / "data" / "ml_images.v2.repo").read_text()
