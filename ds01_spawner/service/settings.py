"""Where the service finds the Hub: in what the Hub gave it, or in the Hub's own settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from traitlets.config import Config

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
    tokens = [one.get("api_token") for one in hub.get("services", ()) if one.get("name") == SERVICE_NAME]
    if not any(tokens):
        return None
    base = hub.get("base_url", "/").strip("/")
    address = f"http://{hub.get('hub_ip') or '127.0.0.1'}:{hub.get('hub_port', 8081)}"
    return "/".join(part for part in (address, base, "hub/api") if part), str(tokens[0])


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
