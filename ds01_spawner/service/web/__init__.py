"""What the service answers over HTTP: JSON for each server, more run time, and `metrics`.

It guarantees that a request has what its token has at the Hub and no more: her own servers for who may
enter the service, those of others for who may see them there. No call that blocks runs on its event loop.
"""

from .server import serving

__all__ = ["serving"]
