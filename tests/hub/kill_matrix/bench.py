"""One Hub on an Engine of its own, both to be killed as often as wanted."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from ds01_spawner import DS01Spawner
from ds01_spawner.site import DS01

from ...conftest import ROOT, PrivateEngine, run_tool
from ..conftest import signed_in, tagged
from ..docker_link import DockerLink
from ..hub import Hub
from ..lab import Lab
from ..waiting import wait_for
from .steps import SMALL

# Beside the one that all other tests share: these kill it.
DIRECTORY = ROOT / ".cache" / "engine-kill-matrix"

# As shipped: nothing is noticed sooner than in a lab.
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "JupyterHub": {"tornado_settings": {"slow_spawn_timeout": 1, "slow_stop_timeout": 1}},
    "DS01": {
        "queue_limit": 20,
        "service_interval_seconds": DS01.service_interval_seconds.default_value,
    },
    "DS01Spawner": {"poll_interval": DS01Spawner.poll_interval.default_value},
}
TOKEN = secrets.token_hex(16)
# What production has: a service that systemd starts, and that the Hub only knows.
OWN_SERVICE = {"services": [{"name": "ds01", "api_token": TOKEN}]}


class SturdyLink(DockerLink):
    """A way to a Docker that may be away: who calls it then is turned away."""

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            super()._serve(client)


class Bench:
    """A Hub, the way from it to Docker, and what of it is warm.

    With `own_service` the service is started here, as by systemd, else the Hub manages it. The first start
    of a Hub looks into the image; `is_warm` is whether that is done.
    """

    def __init__(
        self, engine: PrivateEngine, *, proxy: Path, nvml: Path, scratch: Path, own_service: bool
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._nvml = nvml
        self.socket = Path(engine.docker_host.removeprefix("unix://"))
        self.link = SturdyLink(scratch / "docker.sock", engine.docker_host)
        self._stack.callback(self.link.cut)
        lab = Lab(engine.cdi_directory)
        self._stack.callback(lab.remove)
        self._stack.enter_context(tagged(engine, lab.base.image))
        settings = {
            **SETTINGS,
            "JupyterHub": {**SETTINGS["JupyterHub"], **(OWN_SERVICE if own_service else {})},
        }
        self.hub = Hub(
            lab, engine, proxy=proxy, nvml=nvml, docker_host=self.link.docker_host, settings=settings
        )
        self._stack.callback(self.hub.remove)
        self._service: subprocess.Popen[bytes] | None = None
        if own_service:
            self.start_service()
        self.start_hub()

    def start_service(self) -> None:
        """Start the service, as systemd does when it has died; it ends with this process."""
        self.end_service()
        config = self.hub.ledger_file.with_name("jupyterhub_config.json")
        environment = {name: text for name, text in os.environ.items() if not name.startswith("DOCKER_")}
        environment |= {"DS01_BOX": str(self.hub.lab.box), "LD_LIBRARY_PATH": str(self._nvml.parent)}
        with self.hub.ledger_file.with_name("hub.log").open("ab") as log:
            self._service = subprocess.Popen(
                [sys.executable, "-m", "ds01_spawner.service", "--config", str(config)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end_service(self) -> None:
        """End the service that was started here, if one was."""
        if self._service is not None:
            self._service.terminate()
            self._service.wait()
            self._service = None

    def start_hub(self) -> None:
        """Start the Hub again, as systemd does when it has died."""
        self.hub.start()
        self.is_warm = False

    def prepare(self, *, warm: bool) -> None:
        """Have all parts up, nothing of a cell that failed, and the Hub warm or as after its start."""
        if not self._answers():
            self.start_hub()
        self._sweep()
        if self.is_warm and not warm:
            self.hub.stop()
            self.start_hub()
        elif warm and not self.is_warm:
            with signed_in(self.hub) as somebody:
                somebody.start(dict(SMALL))
            self.is_warm = True

    def _sweep(self) -> None:
        client = self.hub.docker
        for row in client.containers(all=True):
            client.remove_container(row["Id"], force=True)
        for person in self.hub.people:
            self.hub.clean(person)
        wait_for(lambda: not self.hub.leases(), "no lease is left")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.hub.url}/hub/api/", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """End service and Hub, and take away all that they left."""
        self.end_service()
        self._stack.close()


def bring_up() -> PrivateEngine:
    """Start the Engine that is killed here, unless it runs."""
    done = call_engine("up")
    found = re.search(r"on (unix://\S+), CDI specs in (\S+)", done)
    assert found is not None, done
    return PrivateEngine(docker_host=found[1], cdi_directory=Path(found[2]))


def call_engine(command: str) -> str:
    """Run a command of tools/engine.py on it, and return what that said."""
    done = run_tool("engine", command, "--directory", str(DIRECTORY))
    assert done.returncode == 0, done.stderr
    return done.stdout
