"""DS01 Spawner: JupyterHub servers on shared GPU machines, in containers that AIME's tools can open.

The spawner is imported on first use only, so that the rules need no JupyterHub.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DS01", "DS01Spawner", "template_paths"]


def __getattr__(name: str) -> Any:
    if name == "DS01Spawner":
        from .spawner import DS01Spawner

        return DS01Spawner
    if name == "DS01":
        from .site import DS01

        return DS01
    if name == "template_paths":
        from .templating import template_paths

        return template_paths
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
