"""Where the service finds the Hub, and is found: as the Hub that started it said, else by its settings."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from ..adapters.hub import HubClient
from ..errors import ConfigBroken
from ..site import SERVICE_NAME

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the service answers HTTP, and what it needs of the Hub for that.

    It listens at `host` and `port`; the Hub's proxy sends it what is below `prefix`. The Hub's own pages are
    below `hub_prefix`, its API at `api_url`. There the service is known by `token`, as the OAuth client
    `client_id`, and lets in who has one of `scopes`.
    """

    host: str
    port: int
    prefix: str
    hub_prefix: str
    api_url: str
    token: str
    client_id: str
    scopes: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def find_own_address(environ: Mapping[str, str], config: Config, service_url: str) -> Address | None:
    """Return where to answer: as the Hub that started this says, else at `service_url`; None for not at all.

    Raises:
        ConfigBroken: nobody can listen there, or nobody could be told from anybody else.
    """
    url = environ.get("JUPYTERHUB_SERVICE_URL") or service_url
    if not url:
        return None
    host, port = _split(url)
    hub = find_hub(environ, config)
    if hub is None:
        raise ConfigBroken(
            f"The service cannot answer at {url}: the Hub's settings have no service {SERVICE_NAME} with a "
            "token, so it could not ask the Hub who somebody is."
        )
    base = environ.get("JUPYTERHUB_BASE_URL") or f"/{config.JupyterHub.get('base_url', '/').strip('/')}/"
    base = "/" if not base.strip("/") else base
    scopes = json.loads(environ.get("JUPYTERHUB_OAUTH_ACCESS_SCOPES") or "[]")
    return Address(
        host=host,
        port=port,
        prefix=environ.get("JUPYTERHUB_SERVICE_PREFIX") or f"{base}services/{SERVICE_NAME}/",
        hub_prefix=f"{base}hub/",
        api_url=hub[0],
        token=hub[1],
        client_id=environ.get("JUPYTERHUB_CLIENT_ID") or f"service-{SERVICE_NAME}",
        scopes=tuple(scopes) or ("access:services", f"access:services!service={SERVICE_NAME}"),
    )


def _split(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/"):
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ConfigBroken(f"The service can listen at an address like http://127.0.0.1:10101, not at {url!r}.")


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
