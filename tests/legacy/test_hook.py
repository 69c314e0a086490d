"""The stand-in for NVIDIA's hook, on a real mount namespace; and the runtime that adds it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .runtime import add_hook, find_bundle
from .toolkit import Toolkit, install

H100 = 'name="NVIDIA H100 80GB HBM3" memory_mib=81559 cc=9.0'
BOX = f"""\
gpu 0 uuid=GPU-cut {H100} mig=on
mig 0:1 uuid=MIG-one profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728
mig 0:4 uuid=MIG-four profile=2g.20gb gi=3 ci=0 slices=2 memory_mib=19968
gpu 1 uuid=GPU-whole {H100} mig=off
"""
NODES = {
    "MIG-one": ["/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67", "/dev/nvidia0"],
    "MIG-four": ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31", "/dev/nvidia0"],
    "GPU-whole": ["/dev/nvidia1"],
}
HIDE_DEV = 'mount -t tmpfs none "$1" && echo ready && exec sleep infinity'


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A container as a hook finds it: files in place, its program not yet started. `pid` has its mounts."""

    bundle: Path
    pid: int

    @property
    def root(self) -> Path:
        return self.bundle / "rootfs"

    @property
    def root_inside(self) -> Path:
        """The same folder as the container's own processes see it."""
        return Path(f"/proc/{self.pid}/root{self.root}")

    def device_nodes(self) -> list[str]:
        """Return the paths of the device nodes inside, sorted."""
        dev = self.root_inside / "dev"
        found = [path for path in dev.rglob("*") if stat.S_ISCHR(path.stat().st_mode)]
        return sorted(f"/{path.relative_to(self.root_inside)}" for path in found)

    def listing(self) -> str:
        """Return what its `nvidia-smi -L` prints; nothing where there is none."""
        program = self.root_inside / "usr" / "bin" / "nvidia-smi"
        if not program.exists():
            return ""
        return subprocess.run(["sh", str(program), "-L"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def toolkit(tmp_path: Path) -> Toolkit:
    toolkit = install(tmp_path)
    toolkit.box.write_text(BOX)
    return toolkit


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Prepared]:
    """A container whose `/dev` only its own mount namespace has."""
    bundle = tmp_path / "bundle"
    dev = bundle / "rootfs" / "dev"
    dev.mkdir(parents=True)
    command = ["unshare", "--mount", "sh", "-c", HIDE_DEV, "sh", str(dev)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Prepared(bundle=bundle, pid=process.pid)
        process.kill()


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_hook(toolkit: Toolkit, container: Prepared) -> Run:
    """A function that runs the hook as Docker does, for a container with these environment entries."""

    def run(*environment: str, verb: str = "prestart") -> subprocess.CompletedProcess[str]:
        config = {"process": {"env": ["PATH=/bin", *environment]}, "root": {"path": "rootfs"}}
        (container.bundle / "config.json").write_text(json.dumps(config))
        state = json.dumps({"ociVersion": "1.0.2", "pid": container.pid, "bundle": str(container.bundle)})
        command = [str(toolkit.hook), verb]
        return subprocess.run(command, input=state, capture_output=True, text=True, env={}, timeout=60)

    return run


@pytest.mark.parametrize("name", sorted(NODES))
def test_a_device_is_given_to_the_container_alone(run_hook: Run, container: Prepared, name: str) -> None:
    assert run_hook(f"NVIDIA_VISIBLE_DEVICES={name}").returncode == 0
    assert container.device_nodes() == NODES[name]
    assert [other for other in NODES if other in container.listing()] == [name]
    assert list((container.root / "dev").iterdir()) == []


def test_nodes_are_those_of_the_driver_and_open_to_everybody(run_hook: Run, container: Prepared) -> None:
    run_hook("NVIDIA_VISIBLE_DEVICES=GPU-whole")
    node = (container.root_inside / "dev" / "nvidia1").stat()
    assert (os.major(node.st_rdev), os.minor(node.st_rdev), stat.S_IMODE(node.st_mode)) == (195, 1, 0o666)


@pytest.mark.parametrize("wish", [(), ("void",), ("none",), ("",), ("MIG-one", "void")])
def test_who_names_nothing_gets_nothing(run_hook: Run, container: Prepared, wish: tuple[str, ...]) -> None:
    assert run_hook(*(f"NVIDIA_VISIBLE_DEVICES={value}" for value in wish)).returncode == 0
    assert container.device_nodes() == []
    assert container.listing() == ""


def test_of_several_entries_the_last_one_counts(run_hook: Run, container: Prepared) -> None:
    run_hook("NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=MIG-four")
    assert container.device_nodes() == NODES["MIG-four"]


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ("all", ["MIG-one", "MIG-four", "GPU-whole"]),
        ("0", ["MIG-one", "MIG-four"]),
        ("GPU-cut", ["MIG-one", "MIG-four"]),
        ("0:4", ["MIG-four"]),
        ("1,MIG-one", ["MIG-one", "GPU-whole"]),
    ],
)
def test_devices_go_by_uuid_by_index_and_by_all(
    run_hook: Run, container: Prepared, wish: str, names: list[str]
) -> None:
    run_hook(f"NVIDIA_VISIBLE_DEVICES={wish}")
    assert container.device_nodes() == sorted({node for name in names for node in NODES[name]})
    assert [name for name in NODES if name in container.listing()] == names


def test_the_listing_reads_as_that_of_nvidia_smi(run_hook: Run, container: Prepared) -> None:
    run_hook("NVIDIA_VISIBLE_DEVICES=MIG-four,1")
    assert container.listing().splitlines() == [
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-cut)",
        "  MIG 2g.20gb       Device  0: (UUID: MIG-four)",
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-whole)",
    ]


def test_an_unknown_device_is_refused_in_nvidias_words(run_hook: Run, container: Prepared) -> None:
    answer = run_hook("NVIDIA_VISIBLE_DEVICES=MIG-one,MIG-gone")
    assert answer.returncode == 1
    assert answer.stderr == "nvidia-container-cli: device error: MIG-gone: unknown device\n"
    assert container.device_nodes() == []


@pytest.mark.parametrize("box", ["init 9\n", None])
def test_a_machine_whose_driver_is_away_is_refused(
    run_hook: Run, container: Prepared, toolkit: Toolkit, box: str | None
) -> None:
    if box is None:
        toolkit.box.unlink()
    else:
        toolkit.box.write_text(box)
    answer = run_hook("NVIDIA_VISIBLE_DEVICES=all")
    assert (answer.returncode, answer.stderr) == (
        1,
        "nvidia-container-cli: initialization error: nvml error: driver not loaded\n",
    )
    assert container.device_nodes() == []


def test_after_the_end_of_a_container_it_does_nothing(run_hook: Run, container: Prepared) -> None:
    assert run_hook("NVIDIA_VISIBLE_DEVICES=all", verb="poststop").returncode == 0
    assert container.device_nodes() == []


def read_hooks(config_file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(config_file.read_text())["hooks"]["prestart"]
    return found


def test_the_runtime_adds_the_hook_once(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hooks": {"prestart": [{"path": "/other"}]}}))
    for _ in range(2):
        add_hook(config, "/programs/the-hook")
    assert [hook["path"] for hook in read_hooks(config)] == ["/other", "/programs/the-hook"]
    assert read_hooks(config)[-1]["args"] == ["the-hook", "prestart"]


def test_the_runtime_finds_the_bundle_as_runc_does() -> None:
    assert find_bundle(["--root", "/run/x", "create", "--bundle", "/some/bundle", "name"]) == Path(
        "/some/bundle"
    )
    assert find_bundle(["create", "name"]) == Path(".")
