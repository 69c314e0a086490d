"""Start the service: settings, lock, and the signals that end it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ..adapters.hub import HubClient
from ..adapters.lock_file import hold_lock
from ..adapters.processes import end_with_parent
from ..site import DS01, read_config
from .loop import Loop

log = logging.getLogger("ds01_spawner.service")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, or until the process that started this one ends."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="[%(levelname)1.1s %(asctime)s DS01 service] %(message)s",
        stream=sys.stderr,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A Hub that was killed starts a new service; this one would keep it from the lock.
    if not end_with_parent():
        return 0
    site = DS01(config=read_config(options.config))
    with hold_lock(Path(f"{site.socket_path}.lock"), stop) as is_ours:
        if is_ours:
            Loop(site, find_hub(), stop).run()
    return 0


def find_hub() -> HubClient | None:
    """Return the Hub that the environment names, as the Hub sets it for its services."""
    url, token = os.environ.get("JUPYTERHUB_API_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
    if url and token:
        return HubClient(api_url=url, token=token)
    log.warning(
        "JUPYTERHUB_API_URL and JUPYTERHUB_API_TOKEN are not set: a server that is started over SSH stays "
        "unknown to the Hub until its owner starts it there"
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
