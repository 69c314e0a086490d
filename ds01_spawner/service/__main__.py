"""Start the service: settings, lock, and the signals that end it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from traitlets.config import Config

from ..adapters.hub import HubClient
from ..adapters.lock_file import hold_lock
from ..adapters.processes import end_with_parent
from ..site import DS01, read_config
from .loop import Loop

log = logging.getLogger("ds01_spawner.service")

SERVICE_NAME = "ds01"
"""Its name in `c.JupyterHub.services`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, or until the process that started this one ends."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="[%(levelname)1.1s %(asctime)s DS01 service] %(message)s",
        stream=sys.stderr,
    )
    # It tells at each start that there is nothing to migrate.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A Hub that was killed starts a new service; this one would keep it from the lock.
    if not end_with_parent():
        return 0
    config = read_config(options.config)
    site = DS01(config=config)
    with hold_lock(Path(f"{site.socket_path}.lock"), stop) as is_ours:
        if is_ours:
            Loop(site, open_hub(find_hub(os.environ, config)), stop).run()
    return 0


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


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ds01_spawner.service",
        description="Keep leases, containers and GPUs in agreement, until it is ended.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the Hub's jupyterhub_config.py"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
