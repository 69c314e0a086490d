"""Build the simulated NVML: a real shared library, so that the unmodified nvidia-ml-py loads it.

Guarantees: every function of NVIDIA's `nvml.h` exists in it; the same sources are compiled once.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from importlib.metadata import files
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
LIBRARY = "libnvidia-ml.so.1"
COMPILE = (
    "gcc",
    "-std=c11",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    f"-Wl,-soname,{LIBRARY}",
)
NOT_SUPPORTED = 3


def build_library(directory: Path) -> Path:
    """Return the library's path below `directory`, in a folder of its own that LD_LIBRARY_PATH can name.

    Needs gcc and the package nvidia-nvml-dev; a compiler's error is raised with what it printed.
    """
    header = find_header()
    stubs = write_stubs(header.read_text(), SOURCE.read_text())
    content = "\0".join([header.read_text(), SOURCE.read_text(), stubs, *COMPILE])
    folder = directory / hashlib.sha256(content.encode()).hexdigest()[:16]
    library = folder / LIBRARY
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    stubs_file = folder / "stubs.c"
    stubs_file.write_text(stubs)
    unfinished = folder / "unfinished.so"
    command = [*COMPILE, f"-I{header.parent}", "-o", str(unfinished), str(SOURCE), str(stubs_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"gcc could not build the simulated NVML:\n{done.stderr}")
    return unfinished.rename(library)


def find_header() -> Path:
    """Return the path of NVIDIA's nvml.h, as the package nvidia-nvml-dev installed it."""
    for file in files("nvidia-nvml-dev") or []:
        if file.name == "nvml.h":
            return Path(str(file.locate()))
    raise RuntimeError("nvml.h is missing: install the package nvidia-nvml-dev")


def write_stubs(header: str, source: str) -> str:
    """Return C text with a NOT_SUPPORTED answer for every function that `source` does not define."""
    declared = set(re.findall(r"nvmlReturn_t DECLDIR (nvml\w+)\s*\(", header))
    defined = set(re.findall(r"^nvmlReturn_t (nvml\w+)\(", source, flags=re.MULTILINE))
    return "".join(f"int {name}(void) {{ return {NOT_SUPPORTED}; }}\n" for name in sorted(declared - defined))
