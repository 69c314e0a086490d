"""Start the service: its parent, its settings, its lock, and the signals that end it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ..adapters.processes import end_with_parent

log = logging.getLogger("ds01_spawner.service")

_ENDING = (signal.SIGTERM, signal.SIGINT)
_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, or until the process that started this one ends; returns the status."""
    # Before anything that takes time: a Hub that was killed starts a new service, and an old one that
    # stayed would keep it from the lock.
    if not end_with_parent():
        return 0
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="[%(levelname)1.1s %(asctime)s DS01 service] %(message)s",
        stream=sys.stderr,
    )
    # It tells at each start that there is nothing to migrate.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # JupyterHub's own module tells of every cookie that it looks at.
    logging.getLogger("tornado.application").setLevel(logging.ERROR)
    # What is malformed is answered so; whoever sends it could fill the log.
    logging.getLogger("tornado.general").setLevel(logging.WARNING)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    stop, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            _run(options.config, stop)
        # Nothing is swallowed: the process ends with it, and whoever started it starts it again.
        except BaseException as exc:
            log.critical("the service fails", exc_info=exc)
            failures.append(exc)

    worker = threading.Thread(target=run, name="loop")
    worker.start()
    while worker.is_alive() and signal.sigtimedwait(_ENDING, 1) is None:
        pass
    stop.set()
    worker.join()
    return _FAILED if failures else 0


def _run(config_file: Path, stop: threading.Event) -> None:
    from ..adapters.lock_file import hold_lock
    from ..site import DS01, read_config
    from .loop import Loop
    from .settings import find_hub, find_own_address, open_hub
    from .web import serving

    config = read_config(config_file)
    site = DS01(config=config)
    address = find_own_address(os.environ, config, site.service_url)
    hub = open_hub(find_hub(os.environ, config))
    lock = Path(f"{site.socket_path}.lock")
    # First of all it answers: a Hub that starts it waits for that, and does not start without it.
    with serving(site, address, stop, hub), hold_lock(lock, stop) as is_ours:
        if is_ours:
            Loop(site, hub, stop).run()


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
