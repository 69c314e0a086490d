"""A machine for one test: a box file, and Python programs that run on it with the simulated library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "hub_config" / "simulated-gpus.box"
A100 = 'name="NVIDIA A100-SXM4-80GB" memory_mib=81920 cc=8.0'


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def run_python(code: str, library: Path, box: Path | None) -> bytes:
    """Return what `code` prints, in a process of its own whose NVML is `library` on the machine of `box`."""
    env = os.environ | {"LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": str(ROOT)}
    env.pop("DS01_BOX", None)
    if box is not None:
        env["DS01_BOX"] = str(box)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
