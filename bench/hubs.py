"""Two real Hubs side by side for the benchmarks: one with stock DockerSpawner, one with DS01Spawner.

Each has a process, a database and a node proxy of its own; ours also has its service, a ledger, limits and
simulated GPUs. Both start the same image on the same Docker network of the same private Engine, behind an
init, and remove the container when they stop a server. DS01Spawner built the image; then the notebook
server in it was replaced by `standin.py`. All else is as shipped.

Guarantees: what is made here is taken away at the end, also on Ctrl-C. A Hub that is not measured is frozen
with all its processes, so that it does nothing on account of the other one's containers.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import jupyterhub

from ds01_spawner import mlc
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import base_image  # noqa: E402
import engine as private_engine  # noqa: E402
import proxy  # noqa: E402
from machine import ToolError, find_program, run  # noqa: E402

STOCK, OURS = "DockerSpawner", "DS01Spawner"
# How the names of networks and images begin that are made here, and those of people.
PREFIX, PERSON = "ds01-bench-", "bench"
# Beyond what people usually have, so that no file of the host belongs to them.
FIRST_UID = 64301
# Longer than anything here takes: the Hub then answers a start or a stop when it is through with it.
PATIENCE_SECONDS = 600
MOST_SECONDS = 1800
READY_SECONDS = 60
END_SECONDS = 25
# For what a Hub has to look at after it was frozen.
THAW_SECONDS = 2.0
SLICES = 7
SERVER_COMMAND = "/opt/ds01/hub/bin/jupyterhub-singleuser"
STANDIN = """\
FROM {image}
ENV STANDIN_VERSION={version}
COPY standin.py /tmp/standin.py
RUN cd /opt/ds01/hub/lib/python3*/site-packages/jupyterhub && rm -r singleuser && mkdir singleuser && \\
    mv /tmp/standin.py singleuser/__init__.py
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """What both Hubs share: a folder, an Engine, and a network of the name `name` with its `gateway`."""

    name: str
    folder: Path
    docker_host: str
    gateway: str
    people: tuple[str, ...]

    @property
    def base(self) -> str:
        """The image on which DS01Spawner builds, by a name of this run's own."""
        return f"{self.name}:base"


class Hub:
    """One Hub with its people; the times it returns are in seconds."""

    def __init__(self, label: str, lab: Lab, settings: Mapping[str, Mapping[str, object]]) -> None:
        self.label = label
        self._lab = lab
        self._folder = lab.folder / label
        self._folder.mkdir(mode=0o700)
        self._log = self._folder / "hub.log"
        self._ledger_file = self._folder / "ledger.sqlite"
        self._config = self._folder / "jupyterhub_config.json"
        self._token = secrets.token_hex(16)
        port, hub_port, proxy_port, self._service_port = _find_free_ports(4)
        self.url = f"http://127.0.0.1:{port}"
        config = self._read_settings(settings)
        config["JupyterHub"] |= {"bind_url": self.url, "hub_ip": lab.gateway, "hub_port": hub_port}
        config["ConfigurableHTTPProxy"] = {
            "command": str(proxy.ensure(ROOT / ".venv")),
            "api_url": f"http://127.0.0.1:{proxy_port}",
            "pid_file": str(self._folder / "proxy.pid"),
        }
        self._config.write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}

    def _read_settings(self, settings: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, Any]]:
        """Return the whole configuration: `settings`, and what every Hub here has."""
        services: list[dict[str, object]] = [{"name": "bench", "api_token": self._token}]
        roles = [{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "tokens"]}]
        config: dict[str, dict[str, Any]] = {section: dict(values) for section, values in settings.items()}
        if self.label == OURS:
            command = [sys.executable, "-m", "ds01_spawner.service", "--config", str(self._config)]
            url = f"http://127.0.0.1:{self._service_port}"
            services.append({"name": "ds01", "command": command, "url": url})
            scopes = ["list:users", "read:users:groups", "servers"]
            roles.append({"name": "ds01", "services": ["ds01"], "scopes": scopes})
            config["DS01"] |= {
                "ledger_url": f"sqlite:///{self._ledger_file}",
                "socket_path": f"{self._folder}/ds01.sock",
            }
        config["JupyterHub"] = {
            "db_url": f"sqlite:///{self._folder / 'jupyterhub.sqlite'}",
            "cookie_secret_file": str(self._folder / "cookie_secret"),
            "authenticator_class": "dummy",
            "spawner_class": "ds01" if self.label == OURS else "docker",
            "services": services,
            "load_roles": roles,
            "tornado_settings": {
                "slow_spawn_timeout": PATIENCE_SECONDS,
                "slow_stop_timeout": PATIENCE_SECONDS,
            },
        }
        config["Authenticator"] = {"allow_all": True}
        return config

    # the process -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and return when it answers and knows everybody."""
        left_out = ("DOCKER_", "JUPYTER", "CONFIGPROXY", "DS01_", "MLC_")
        environment = {name: text for name, text in os.environ.items() if not name.startswith(left_out)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "--config", str(self._config)],
                cwd=self._folder,
                # DockerSpawner reads there which Engine it is to use.
                env=environment | {"DOCKER_HOST": self._lab.docker_host},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the benchmark alone, which then ends all in order.
                start_new_session=True,
            )
        self._wait_until(self._answers, "answered")
        if self.label == OURS:
            self._wait_until(self._has_read_gpus, "read its GPUs")
        self._tokens = self._sign_in_all()

    def _sign_in_all(self) -> dict[str, str]:
        """Return a token of each person, with which she asks for her own server."""
        headers = {"Authorization": f"token {self._token}"}
        with httpx.Client(base_url=f"{self.url}/hub/api", headers=headers, trust_env=False) as client:
            client.post("/users", json={"usernames": list(self._lab.people)})
            answers = {name: client.post(f"/users/{name}/tokens") for name in self._lab.people}
        return {name: answer.raise_for_status().json()["token"] for name, answer in answers.items()}

    def _wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_so():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise ToolError(f"the Hub with {self.label} never {what}. Its log ends:\n{self._log_tail()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/api/", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _has_read_gpus(self) -> bool:
        ledger = Ledger(f"sqlite:///{self._ledger_file}")
        try:
            return ledger.inventory() is not None
        finally:
            ledger.close()

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-25:])

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run within the block, having looked at what it missed before; it is frozen after that."""
        self._signal(signal.SIGCONT)
        time.sleep(THAW_SECONDS)
        yield
        self.freeze()

    def freeze(self) -> None:
        """Let it do nothing until it is awake again."""
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in (self._process.pid, *_list_descendants(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        """End it with its proxy and its service, and whatever it started."""
        if self._process is None or self._process.poll() is not None:
            return
        self._signal(signal.SIGCONT)
        children = _list_descendants(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            children |= _list_descendants(self._process.pid)
            self._process.kill()
            self._process.wait()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # servers ---------------------------------------------------------------------------------------

    def start_servers(self, people: Sequence[str], options: Mapping[str, object] | None = None) -> float:
        """Start a server for each person at once; return the time until the last one answers."""
        begin = time.perf_counter()
        body = {"user_options": dict(options)} if options else None
        self._ask(people, "POST", "/hub/api/users/{}/server", body, expect=(201,))
        took = time.perf_counter() - begin
        self._ask(people, "GET", "/user/{}/api", expect=(200,))
        return took

    def stop_servers(self, people: Sequence[str]) -> float:
        """Stop the server of each person at once; return the time until the last one is gone."""
        begin = time.perf_counter()
        self._ask(people, "DELETE", "/hub/api/users/{}/server", expect=(204,))
        return time.perf_counter() - begin

    def ask_for_server(self, person: str, options: Mapping[str, object]) -> None:
        """Ask for a start, and wait for no answer."""

        def ask() -> None:
            with suppress(ToolError, httpx.HTTPError):
                self.start_servers([person], options)

        threading.Thread(target=ask, daemon=True).start()

    def give_up(self, person: str) -> None:
        """Take back the start that somebody waits for."""
        self._ask([person], "DELETE", "/hub/api/users/{}/server", expect=(202, 204))

    def _ask(
        self, people: Sequence[str], method: str, path: str, body: object = None, *, expect: tuple[int, ...]
    ) -> None:
        """Let each person ask for `path` with her name in it at once, and return when all were answered."""

        async def ask_all() -> list[httpx.Response]:
            client = httpx.AsyncClient(
                base_url=self.url,
                limits=httpx.Limits(max_connections=None),
                timeout=PATIENCE_SECONDS,
                trust_env=False,
                # Nothing here is encrypted, and to read the machine's certificates takes 20 ms.
                verify=False,  # noqa: S501
            )
            async with client:
                asked = (
                    client.request(
                        method,
                        path.format(name),
                        json=body,
                        headers={"Authorization": f"token {self._tokens[name]}"},
                    )
                    for name in people
                )
                return await asyncio.gather(*asked)

        for answer in asyncio.run(ask_all()):
            if answer.status_code not in expect:
                raise ToolError(
                    f"{method} {answer.url} with {self.label}: {answer.status_code} {answer.text}\n"
                    f"{self._log_tail()}"
                )


@contextmanager
def two_hubs(servers: int, *, stock: Mapping[str, object] | None = None) -> Iterator[tuple[Hub, Hub, Lab]]:
    """Yield stock's Hub and ours, both frozen, with as many people as asked for and an image that is ready.

    `stock` are more settings of DockerSpawner.
    """
    if os.geteuid() != 0:
        raise ToolError("DS01Spawner starts servers as other people: run this as root.")
    with ExitStack() as stack:
        stack.enter_context(_bounded())
        client = stack.enter_context(_engine())
        lab = stack.enter_context(_set_up(private_engine.locate().docker_host, servers))
        ours = Hub(OURS, lab, _our_settings(lab))
        stack.callback(ours.end)
        ours.start()
        image = _make_image(ours, client, lab)
        plain = Hub(STOCK, lab, _stock_settings(lab, image, stock or {}))
        stack.callback(plain.end)
        plain.start()
        plain.freeze()
        # Anew, so that nothing which it found out about the image before the change stands.
        ours.end()
        ours.start()
        ours.freeze()
        yield plain, ours, lab


def _stock_settings(lab: Lab, image: str, more: Mapping[str, object]) -> dict[str, dict[str, object]]:
    settings: dict[str, object] = {
        "image": image,
        "cmd": [SERVER_COMMAND],
        "network_name": lab.name,
        "remove": True,
        "extra_host_config": {"init": True},
    }
    return {"DockerSpawner": settings | dict(more)}


def _our_settings(lab: Lab) -> dict[str, dict[str, object]]:
    catalog, box = lab.folder / "ml_images.repo", lab.folder / "gpus.box"
    catalog.write_text(f"Bench, 1.0, [CUDA_AMPERE], {lab.base}\n")
    box.write_text(_describe_gpus(len(lab.people)))
    site: dict[str, object] = {
        "inventory": str(box),
        "device_mode": "none",
        "catalog_file": str(catalog),
        "limits_file": str(ROOT / "hub_config" / "resource-limits.yaml"),
        "accounts": str(lab.folder / "passwd"),
        "network_name": lab.name,
        "docker_host": lab.docker_host,
        "docker_command": find_program("docker"),
        # What a build needs on a machine behind a proxy of its own.
        "ca_bundle": ssl.get_default_verify_paths().cafile or "",
        "base_packages": [],
        "base_system_packages": [],
    }
    server = {"framework": "Bench", "gpu_profile": "1g.10gb", "gpu_count": 1, "allow_custom_base_image": True}
    return {"DS01": site, "DS01Spawner": server}


def _describe_gpus(slots: int) -> str:
    """Return a box file with at least so many small slices."""
    lines = ["driver 570.86.10", "cuda 12080"]
    name = 'name="NVIDIA A100-SXM4-80GB" memory_mib=81920 cc=8.0 mig=on'
    for gpu in range(-(-slots // SLICES)):
        lines.append(f"gpu {gpu} uuid=GPU-{gpu:08d}-0000-4000-8000-000000000000 {name}")
        lines += [
            f"mig {gpu}:{place} uuid=MIG-{gpu:08d}-0000-5000-8000-{place:012d} profile=1g.10gb "
            f"gi={7 + place} ci=0 slices=1 memory_mib=9728"
            for place in range(SLICES)
        ]
    return "\n".join((*lines, ""))


@contextmanager
def _engine() -> Iterator[docker.APIClient]:
    """Yield a client of the private Engine, on which nothing of a benchmark is, before and afterwards."""
    was_up = private_engine.ask(private_engine.locate(), "/version") is not None
    with ExitStack() as stack:
        client = docker.APIClient(base_url=private_engine.up().docker_host, version="auto")
        if not was_up:
            stack.callback(private_engine.down)
        stack.callback(client.close)
        # Also what is left of a run that was killed.
        _remove_all(client)
        stack.callback(_remove_all, client)
        yield client


@contextmanager
def _set_up(docker_host: str, servers: int) -> Iterator[Lab]:
    """Yield accounts with homes in a folder that is gone afterwards, a base image and a network."""
    name = f"{PREFIX}{secrets.token_hex(3)}"
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/var/tmp"))
    folder.chmod(0o711)
    people = {f"{PERSON}{number:02d}": FIRST_UID + number for number in range(1, servers + 1)}
    try:
        entries = []
        for person, number in people.items():
            home = folder / "home" / person
            home.mkdir(parents=True, mode=0o700)
            os.chown(home, number, number)
            entries.append(f"{person}:x:{number}:{number}::{home}:/bin/bash\n")
        (folder / "home").chmod(0o711)
        (folder / "passwd").write_text("".join(entries))
        gateway = DockerEngine(docker_host=docker_host).ensure_network(name)
        lab = Lab(name=name, folder=folder, docker_host=docker_host, gateway=gateway, people=tuple(people))
        base_image.ensure(docker_host, [lab.base])
        yield lab
    finally:
        shutil.rmtree(folder)


def _make_image(ours: Hub, client: docker.APIClient, lab: Lab) -> str:
    """Let our Hub build its image, replace the notebook server in it, and return its name."""
    person = lab.people[:1]
    ours.start_servers(person)
    (row,) = client.containers(filters={"network": lab.name})
    ours.stop_servers(person)
    tags = client.inspect_image(row["ImageID"])["RepoTags"]
    name = next(str(tag) for tag in tags if tag.startswith("ds01/image:"))
    program = Path(__file__).with_name("standin.py").read_text()
    dockerfile = STANDIN.format(image=name, version=jupyterhub.__version__)
    _build(lab, name, dockerfile, {"standin.py": program})
    return name


@contextmanager
def built(lab: Lab, name: str, dockerfile: str, files: Mapping[str, str]) -> Iterator[str]:
    """Yield the full name of an image that is built from a Dockerfile and some files, and gone afterwards."""
    image = f"{lab.name}:{name}"
    _build(lab, image, dockerfile, files)
    try:
        yield image
    finally:
        run([find_program("docker"), "--host", lab.docker_host, "rmi", "--force", image])


def _build(lab: Lab, name: str, dockerfile: str, files: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=lab.folder) as context:
        for file, text in {"Dockerfile": dockerfile, **files}.items():
            Path(context, file).write_text(text)
        command = [find_program("docker"), "--host", lab.docker_host, "build", "--tag", name, context]
        run(command, env=os.environ | {"DOCKER_BUILDKIT": "1"})


def _remove_all(client: docker.APIClient) -> None:
    """Remove what runs on the networks of benchmarks, what was built for them, and the networks."""
    for network in client.networks(names=[PREFIX]):
        for row in client.containers(all=True, filters={"network": network["Id"]}):
            with suppress(docker.errors.NotFound):
                client.remove_container(row["Id"], force=True, v=True)
        client.remove_network(network["Id"])
    for row in client.images():
        names = [name for name in row["RepoTags"] or () if name.startswith((PREFIX, f"jupyter-{PERSON}"))]
        is_ours = (row["Labels"] or {}).get(mlc.BASE_IMAGE_LABEL, "").startswith(PREFIX)
        for image in (*names, *([row["Id"]] if is_ours else ())):
            with suppress(docker.errors.NotFound):
                client.remove_image(image, noprune=True, force=True)


@contextmanager
def _bounded() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, and so much time as well."""

    def give_up(number: int, _frame: object) -> None:
        if number == signal.SIGALRM:
            raise ToolError(f"this has taken more than {MOST_SECONDS} seconds: is the machine busy?")
        raise KeyboardInterrupt

    before = {number: signal.signal(number, give_up) for number in (signal.SIGTERM, signal.SIGALRM)}
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _list_descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | _list_descendants(child)
    return found


def _find_free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
