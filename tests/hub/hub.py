"""A real JupyterHub in a process of its own, with its proxy, and what tests see of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx

from ds01_spawner import mlc, template_paths
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.model import Lease

from ..conftest import PrivateEngine
from .lab import FRAMEWORK, VERSION, Lab, Person
from .student import PASSWORD, Student
from .waiting import wait_for

STOP_SECONDS = 60
_LOG_LINES = 150

# Somebody else's profile is `staff`; `large` is the only slot of its kind.
PROFILES = [
    {"display_name": "No GPU", "slug": "cpu", "default": True},
    {
        "display_name": "Small",
        "slug": "small",
        "spawner_override": {"gpu_profile": "1g.10gb", "gpu_count": 1},
    },
    {
        "display_name": "Large",
        "slug": "large",
        "spawner_override": {"gpu_profile": "2g.20gb", "gpu_count": 1},
    },
    {"display_name": "Staff", "slug": "staff", "groups": ["staff"]},
    {"display_name": "Own folders", "slug": "folders", "spawner_override": {"allow_mount_options": True}},
    {"display_name": "Own base", "slug": "base", "spawner_override": {"allow_custom_base_image": True}},
]
# What a lab's Hub lets services do: `prometheus` reads metrics, `stranger` may do nothing, and `ada` has the
# name of a student.
ROLES: list[dict[str, Any]] = [
    {"name": "ds01", "services": ["ds01"], "scopes": ["list:users", "read:users:groups", "servers"]},
    {"name": "user", "scopes": ["self", "access:services!service=ds01"]},
    {
        "name": "prometheus",
        "services": ["prometheus"],
        "scopes": ["read:metrics", "access:services!service=ds01"],
    },
    {"name": "namesake", "services": ["ada"], "scopes": ["access:services!service=ds01"]},
]
TOKENS = {name: secrets.token_hex(16) for name in ("prometheus", "stranger", "ada")}
ADMIN = "teacher"


class Hub:
    """One Hub on a lab's machine; `start` and `stop` as often as wanted, `remove` at the end."""

    def __init__(
        self,
        lab: Lab,
        engine: PrivateEngine,
        *,
        proxy: Path,
        nvml: Path,
        docker_host: str = "",
        settings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.lab = lab
        self.engine = engine
        self.docker = docker.APIClient(base_url=engine.docker_host, version="auto")
        self.gateway = DockerEngine(docker_host=engine.docker_host).ensure_network(lab.name)
        port, self.hub_port, proxy_port, service_port = find_free_ports(4)
        self.url = f"http://127.0.0.1:{port}"
        self.service_url = f"http://127.0.0.1:{service_port}"
        self._directory = lab.directory / "hub"
        self._directory.mkdir(mode=0o700)
        # Not in there: everybody may ask at it.
        self.socket = lab.directory / "ds01.sock"
        self._log = self._directory / "hub.log"
        self._log.touch()
        self._proxy_pid = self._directory / "proxy.pid"
        self.config = self._directory / "jupyterhub_config.json"
        self._nvml = nvml
        self._process: subprocess.Popen[bytes] | None = None
        config = self._base_config(docker_host or engine.docker_host)
        config["JupyterHub"] |= {"bind_url": self.url, "hub_ip": self.gateway, "hub_port": self.hub_port}
        config["ConfigurableHTTPProxy"] = {
            "command": str(proxy),
            "api_url": f"http://127.0.0.1:{proxy_port}",
            "pid_file": str(self._proxy_pid),
        }
        for section, values in (settings or {}).items():
            config.setdefault(section, {}).update(values)
        self.config.write_text(json.dumps(config))
        self.ledger_file = self._directory / "ledger.sqlite"

    def _base_config(self, docker_host: str) -> dict[str, dict[str, Any]]:
        directory = self._directory
        return {
            "JupyterHub": {
                "db_url": f"sqlite:///{directory / 'jupyterhub.sqlite'}",
                "cookie_secret_file": str(directory / "cookie_secret"),
                "authenticator_class": "dummy",
                "spawner_class": "ds01",
                "template_paths": template_paths(),
                "allow_named_servers": True,
                "cleanup_servers": False,
                "load_groups": {"staff": {"users": []}},
                "services": [
                    {
                        "name": "ds01",
                        "url": self.service_url,
                        "oauth_no_confirm": True,
                        "oauth_client_allowed_scopes": ["read:servers", "servers", "admin-ui"],
                        "command": [
                            sys.executable,
                            "-m",
                            "ds01_spawner.service",
                            "--config",
                            str(self.config),
                        ],
                        "environment": self._gpu_environment(),
                    }
                ],
                "load_roles": ROLES,
                "service_tokens": {token: name for name, token in TOKENS.items()},
            },
            "Authenticator": {"allow_all": True, "admin_users": [ADMIN]},
            "DummyAuthenticator": {"password": PASSWORD},
            "Spawner": {"poll_interval": 1, "consecutive_failure_limit": 0},
            "DS01": {
                "inventory": "nvml",
                "device_mode": "auto",
                "catalog_file": str(self.lab.catalog),
                "limits_file": str(self.lab.limits),
                "ledger_url": f"sqlite:///{directory / 'ledger.sqlite'}",
                "build_log_dir": str(directory / "builds"),
                "accounts": str(self.lab.accounts),
                "network_name": self.lab.name,
                "socket_path": str(self.socket),
                "service_interval_seconds": 1,
                # Most tests want to read at once that nothing is free; test_queue waits.
                "queue_limit": 0,
                "docker_host": docker_host,
                "docker_command": "/usr/bin/docker",
                # What builds need on a machine behind a proxy of its own.
                "ca_bundle": ssl.get_default_verify_paths().cafile or "",
                "pip_config": os.environ.get("PIP_CONFIG_FILE", ""),
                # The stock packages take minutes to install; these tests are not about them.
                "base_packages": [],
                "base_system_packages": [],
            },
            "DS01Spawner": {
                "framework": FRAMEWORK,
                "framework_version": VERSION,
                "profile_list": PROFILES,
                "stop_grace_seconds": 5,
            },
        }

    # the process -----------------------------------------------------------------------------------

    def start(self, *, needs_service: bool = True) -> None:
        """Start it and wait until it answers through its proxy, and until its service has read the GPUs."""
        names = ("DS01_BOX", "MLC_ARCH", "LD_LIBRARY_PATH")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in names and not name.startswith(("DOCKER_", "JUPYTER", "CONFIGPROXY"))
        }
        environment |= self._gpu_environment()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "--config", str(self.config), "--debug"],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self._answers, "the Hub answers", seconds=60)
        if needs_service:
            wait_for(self.has_read_gpus, "the service has read the GPUs", seconds=60)

    def _gpu_environment(self) -> dict[str, str]:
        """Return what lets a process see the simulated GPUs."""
        return {"DS01_BOX": str(self.lab.box), "LD_LIBRARY_PATH": str(self._nvml.parent)}

    def has_read_gpus(self) -> bool:
        """Whether the service has looked at the GPUs since the box file was changed last."""
        changed = datetime.fromtimestamp(self.lab.box.stat().st_mtime, timezone.utc)
        now = datetime.now(timezone.utc)
        with self.ledger() as ledger:
            age = ledger.inventory_age(now)
        return age is not None and now - age > changed

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the Hub ended:\n{self.log()}"
        try:
            return httpx.get(f"{self.url}/hub/api/", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it as systemd does, with SIGTERM; its servers run on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_SECONDS)
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, and nothing but it: what it had started is left to itself."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def service_pids(self) -> list[int]:
        """Return the ids of the services that run on this Hub's settings: one, or none while it is away."""
        words = f"ds01_spawner.service\0--config\0{self.config}".encode()
        found = []
        for directory in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if directory.name.isdigit() and words in (directory / "cmdline").read_bytes():
                    found.append(int(directory.name))
        return found

    def log(self, *, lines: int = _LOG_LINES) -> str:
        """Return the end of the Hub's log, "" once it was removed."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def log_mark(self) -> int:
        """Return a place in the log, for `log_since`."""
        return self._log.stat().st_size

    def log_since(self, mark: int) -> str:
        """Return what was logged after `mark`."""
        return self._log.read_bytes()[mark:].decode(errors="replace")

    def remove(self) -> None:
        """End the Hub and its proxy, and remove every container, tag and network that came of it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self.stop()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(self._proxy_pid.read_text()), signal.SIGTERM)
        for person in self.people:
            self.clean(person)
        with contextlib.suppress(docker.errors.NotFound):
            self.docker.remove_network(self.lab.name)
        self.docker.close()

    # people ----------------------------------------------------------------------------------------

    @property
    def people(self) -> list[Person]:
        """Everybody with an account here."""
        rows = (line.split(":") for line in self.lab.accounts.read_text().splitlines())
        return [Person(name=row[0], uid=int(row[2]), home=Path(row[5])) for row in rows]

    def sign_in(self, person: Person) -> Student:
        """Sign in through the login page, in a browser of her own."""
        student = Student(self.url, person)
        student.sign_in()
        return student

    def clean(self, person: Person) -> None:
        """Remove what is left of a person's containers and tags, whoever made them."""
        for inspected in self.containers(person):
            with contextlib.suppress(docker.errors.NotFound):
                self.docker.remove_container(inspected["Id"], force=True, v=True)
        for tag in self.tags(person):
            with contextlib.suppress(docker.errors.NotFound):
                self.docker.remove_image(tag, noprune=True, force=True)

    # what is there ---------------------------------------------------------------------------------

    def containers(self, person: Person) -> list[dict[str, Any]]:
        """Return Docker's inspect of all containers with her UID in their name or her files in /workspace."""
        found = []
        for row in self.docker.containers(all=True):
            names = [name.lstrip("/") for name in row["Names"] or []]
            labels = row["Labels"] or {}
            if any(name.endswith(f"._.{person.uid}") for name in names) or labels.get(
                f"{mlc.LABEL}.WORK_MOUNT", ""
            ).startswith(f"{person.home}/"):
                with contextlib.suppress(docker.errors.NotFound):
                    found.append(self.docker.inspect_container(row["Id"]))
        return found

    def container(self, person: Person, project: str = "jupyter") -> dict[str, Any]:
        """Return Docker's inspect of one of her containers, by its NAME."""
        found: dict[str, Any] = self.docker.inspect_container(f"{project}._.{person.uid}")
        return found

    def takes_token_of(self, inspected: Mapping[str, Any]) -> bool:
        """Whether the token in a container's environment is one that the Hub knows."""
        environment = dict(entry.partition("=")[::2] for entry in inspected["Config"]["Env"])
        headers = {"Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}"}
        answer = httpx.get(f"{self.url}/hub/api/user", headers=headers, timeout=30, trust_env=False)
        assert answer.status_code in (200, 403), answer.text
        return answer.status_code == 200

    def tags(self, person: Person) -> list[str]:
        """Return the image tags of her own containers."""
        images = self.docker.images()
        names = [name for image in images for name in image["RepoTags"] or []]
        return sorted(name for name in names if name.endswith(f"-image:{person.uid}"))

    def built_images(self) -> set[str]:
        """Return the tags of all images that spawners have built on this Engine."""
        return {name for image in self.docker.images("ds01/image") for name in image["RepoTags"] or []}

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the Hub's ledger beside it."""
        ledger = Ledger(f"sqlite:///{self.ledger_file}")
        try:
            yield ledger
        finally:
            ledger.close()

    def leases(self, person: Person | None = None) -> tuple[Lease, ...]:
        """Return the live leases, of one person or of all."""
        with self.ledger() as ledger:
            return ledger.live_leases(None if person is None else person.name)

    def traces(self, person: Person) -> dict[str, list[str]]:
        """Return all that a person's servers have here now, by kind: only what there is."""
        found = {
            "containers": [f"{item['Name']} {item['State']['Status']}" for item in self.containers(person)],
            "leases": [f"{lease.container_name} {lease.state.value}" for lease in self.leases(person)],
            "tags": self.tags(person),
        }
        return {kind: names for kind, names in found.items() if names}


def find_free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, each once."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
