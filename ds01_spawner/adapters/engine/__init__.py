"""All that we ask of Docker, blocking; its errors come out as ours.

One `DockerEngine` serves all threads of a process. A builder does the builds (`builder.py`).
"""

from .containers import DockerEngine, File
from .images import ImageInfo

__all__ = ["DockerEngine", "File", "ImageInfo"]
