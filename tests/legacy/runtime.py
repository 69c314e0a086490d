"""A stand-in for NVIDIA's `nvidia-container-runtime`: runc, with the hook in whatever it creates.

Run as `… HOOK ARGUMENT…`. Guarantees: a container gets the hook once, also where Docker has put it in
already for a request of devices; everything else is runc's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def add_hook(config_file: Path, hook: str) -> None:
    """Add the hook to a bundle's configuration, unless it is there."""
    config = json.loads(config_file.read_text())
    present = config.setdefault("hooks", {}).setdefault("prestart", [])
    if not any(Path(item["path"]).name == Path(hook).name for item in present):
        present.append({"path": hook, "args": [Path(hook).name, "prestart"]})
        config_file.write_text(json.dumps(config))


def find_bundle(arguments: Sequence[str]) -> Path:
    """Return the folder that `runc create` is given; without `--bundle` it is the current one."""
    given = [arguments[place + 1] for place, word in enumerate(arguments) if word == "--bundle"]
    return Path(given[-1] if given else ".")


if __name__ == "__main__":
    hook, *arguments = sys.argv[1:]
    if "create" in arguments:
        add_hook(find_bundle(arguments) / "config.json", hook)
    os.execvp("runc", ["runc", *arguments])
