"""One Hub on an Engine of its own, both to be killed as often as wanted."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import httpx

from ...conftest import ROOT, PrivateEngine, run_tool
from ..conftest import signed_in, tagged
from ..docker_link import DockerLink
from ..hub import Hub
from ..lab import Lab
from ..waiting import wait_for
from .steps import SMALL

# Beside the one that all other tests share: these kill it.
DIRECTORY = ROOT / ".cache" / "engine-kill-matrix"

# As a lab has it: nothing is noticed sooner than there.
SETTINGS = {
    "JupyterHub": {"tornado_settings": {"slow_spawn_timeout": 1, "slow_stop_timeout": 1}},
    "Spawner": {"poll_interval": 30},
    "DS01": {"queue_limit": 20, "service_interval_seconds": 60},
}


class SturdyLink(DockerLink):
    """A way to a Docker that may be away: who calls it then is turned away."""

    def _serve(self, client: object) -> None:
        try:
            super()._serve(client)  # type: ignore[arg-type]
        except OSError:
            return


class Bench:
    """A Hub, the way from it to Docker, and what of it is warm.

    The first start of a Hub looks into the image; `is_warm` is whether that is done.
    """

    def __init__(self, engine: PrivateEngine, *, proxy: Path, nvml: Path, scratch: Path) -> None:
        self._stack = ExitStack()
        self.socket = Path(engine.docker_host.removeprefix("unix://"))
        self.link = SturdyLink(scratch / "docker.sock", engine.docker_host)
        self._stack.callback(self.link.cut)
        lab = Lab(engine.cdi_directory)
        self._stack.callback(lab.remove)
        self._stack.enter_context(tagged(engine, lab.base.image))
        self.hub = Hub(
            lab, engine, proxy=proxy, nvml=nvml, docker_host=self.link.docker_host, settings=SETTINGS
        )
        self._stack.callback(self.hub.remove)
        self.is_warm = False
        self.hub.start()

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
        """End the Hub, and take away all that it left."""
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
