"""Where the service finds the Hub: in what the Hub gave it, or in the Hub's own settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from ..adapters.hub import HubClient

log = logging.getLogger(__name__)

SERVICE_NAME = "ds01"
"""Its name in `c.JupyterHub.services`."""


def find_hub(environ: Mapping[str, str], config: Config) -> tuple[str, str] | None:
    """Return the API's address and the token of the Hub: the one that started this, else that of `config`.

    None where neither has a token for this service.
    """
    url, token = environ.get("JUPYTERHUB_API_URL", ""), environ.get("JUPYTERHUB_API_TOKEN", "")
    if url and token:
        return url, token
    hub = config.JupyterHub
    services = hub.get("services", ())
    if isinstance(services, LazyConfigValue):
        # As `c.JupyterHub.services.append(...)` leaves it.
        services = services.get_value([])
    tokens = [one.get("api_token") for one in services if one.get("name") == SERVICE_NAME]
    if not any(tokens):
        return None
    base = hub.get("base_url", "/").strip("/")
    return "/".join(part for part in (_find_address(hub), base, "hub/api") if part), str(tokens[0])


def _find_address(hub: Config) -> str:
    """Return where the Hub's API listens, without its path."""
    for name in ("hub_connect_url", "hub_bind_url"):
        found = urlsplit(hub.get(name, ""))
        if found.netloc:
            return f"{found.scheme}://{found.netloc}"
    ip = hub.get("hub_ip") or "127.0.0.1"
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{hub.get('hub_port', 8081)}"


def open_hub(found: tuple[str, str] | None) -> HubClient | None:
    """Return the client of the Hub that was found; without one, say what is missed."""
    if found is not None:
        return HubClient(api_url=found[0], token=found[1])
    log.warning(
        "the Hub's settings have no service %s with a token: a server that is started over SSH stays unknown "
        "to the Hub until its owner starts it there",
        SERVICE_NAME,
    )
    return None
