"""All that we ask of Docker, blocking; its errors come out as ours.

One `DockerEngine` serves all threads of a process. A builder does the builds (`builder.py`).
"""

from .containers import DockerEngine, File
from .events import ContainerEvent, watch
from .images import ImageInfo
from .shells import Shell

__all__ = ["ContainerEvent", "DockerEngine", "File", "ImageInfo", "Shell", "watch"]
