"""DS01Spawner: what JupyterHub calls, made of its settings, its refusals, its progress and its steps."""

from .server import DS01Spawner

__all__ = ["DS01Spawner"]
