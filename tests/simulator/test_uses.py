"""How slots are used, read by the real nvidia-ml-py on the simulated library, and from the box file."""

from __future__ import annotations

import pickle
from pathlib import Path

from ds01_spawner.adapters.box import read_uses
from ds01_spawner.model import FULL_GPU, SlotUse

from .machine import A100, run_python, write

READ = """
import pickle, sys
from ds01_spawner.adapters.nvml import read_uses
sys.stdout.buffer.write(pickle.dumps(read_uses()))
"""
BOX = (
    "driver 570.86.10",
    f"gpu 0 uuid=GPU-a {A100} mig=on",
    "mig 0:1 uuid=MIG-works profile=1g.10gb gi=9 ci=0 slices=1 memory_mib=9728",
    "mig 0:3 uuid=MIG-idle profile=2g.20gb gi=3 ci=0 slices=2 memory_mib=19968",
    f"gpu 1 uuid=GPU-b {A100} mig=off",
    'gpu 2 uuid=GPU-c name="NVIDIA L40S" memory_mib=46068 cc=8.9 mig=none',
    "process MIG-works pid=10 memory_mib=500",
    "process MIG-works pid=11 memory_mib=500",
    "process GPU-b pid=12 memory_mib=500",
    "util 1 gpu=35 memory=10",
)
USES = {
    "MIG-works": SlotUse(slot="MIG-works", profile="1g.10gb", processes=2, memory_used_mib=1000),
    "MIG-idle": SlotUse(slot="MIG-idle", profile="2g.20gb", processes=0, memory_used_mib=0),
    "GPU-b": SlotUse(
        slot="GPU-b", profile=FULL_GPU, processes=1, utilisation_percent=35, memory_used_mib=500
    ),
    "GPU-c": SlotUse(slot="GPU-c", profile=FULL_GPU, processes=0, utilisation_percent=0, memory_used_mib=0),
}


def test_slices_are_told_by_their_processes_and_full_gpus_by_their_utilisation(
    library: Path, tmp_path: Path
) -> None:
    box = write(tmp_path / "box", *BOX)
    through_nvml = pickle.loads(run_python(READ, library, box))
    assert {use.slot: use for use in through_nvml} == USES
    assert {use.slot: use for use in read_uses(box)} == USES


def test_a_gpu_that_is_lost_is_not_seen_and_does_not_hide_the_others(library: Path, tmp_path: Path) -> None:
    box = write(tmp_path / "box", *BOX[:4], f"gpu 1 uuid=GPU-b {A100} mig=off lost=1", *BOX[5:6])
    expected = ["GPU-c", "MIG-idle", "MIG-works"]
    assert sorted(use.slot for use in pickle.loads(run_python(READ, library, box))) == expected
    assert sorted(use.slot for use in read_uses(box)) == expected
