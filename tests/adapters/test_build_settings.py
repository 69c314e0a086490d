"""What a site sets for its builds: proxies that nobody sees afterwards, and a cgroup with limits."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import docker
import pytest
from binaries import ensure_test_programs

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.adapters.cgroups import find_cgroup
from ds01_spawner.errors import BuildFailed, ConfigBroken
from ds01_spawner.site import DS01

from .building import BASE, CA_BUNDLE, DOCKER, TEMPLATE

pytest_plugins = ("tests.adapters.building",)
pytestmark = pytest.mark.docker

TAG = f"ds01-test/settings-{secrets.token_hex(4)}:latest"
PASSWORD = f"mark-{secrets.token_hex(8)}"
CGROUPS = Path("/sys/fs/cgroup")
PROCESSES = 64

# Fetches through the proxies; what it prints of its environment is in the log of the build.
FETCH = f"""\
FROM {BASE}
RUN --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle,required=false \\
    env | grep -i _proxy; PIP_CERT=/run/secrets/ca_bundle \\
    python3 -m pip download --retries 0 --no-deps --dest /fetched six # {PASSWORD[-4:]}
"""
FORK = f"""\
FROM {BASE}
RUN python3 -c 'import os, time; [os.fork() or time.sleep(30) \
for _ in range({2 * PROCESSES})]' # {secrets.token_hex(4)}
"""


class Proxy:
    """A proxy on an address of the host, which lets in who knows the password."""

    def __init__(self, host: str) -> None:
        self.asked: list[str] = []
        self.seen: dict[str, set[str]] = {"cmdline": set(), "environ": set()}
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, host, 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://lab:{PASSWORD}@{host}:{port}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        login = base64.b64encode(f"lab:{PASSWORD}".encode()).decode()
        if f"Proxy-Authorization: Basic {login}" not in headers:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        target = request.split()[1]
        self.asked.append(target)
        for kind, names in self.seen.items():
            names |= find_programs_with(PASSWORD, kind)
        host, port = target.split(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def find_programs_with(text: str, kind: str) -> set[str]:
    """Return the names of the programs that have `text` in their `cmdline` or `environ`."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        # It may have ended meanwhile.
        with suppress(OSError):
            if text.encode() in (process / kind).read_bytes():
                found.add((process / "comm").read_text().strip())
    return found


@pytest.fixture
def proxy(engine: docker.DockerClient) -> Iterator[Proxy]:
    (config,) = engine.networks.get("bridge").attrs["IPAM"]["Config"]
    opened = Proxy(config["Gateway"].partition("/")[0])
    yield opened
    opened.close()


@pytest.fixture
def make(docker_host: str) -> Callable[..., Builder]:
    """The builder of a site with some settings, `c.DS01.*`."""

    def make_it(*, docker_command: tuple[str, ...] = DOCKER, **settings: str) -> Builder:
        of_the_machine = {"docker_host": docker_host, "ca_bundle": CA_BUNDLE or ""}
        return DS01(docker_command=list(docker_command), **of_the_machine, **settings).builder

    return make_it


@pytest.fixture
def buildx(tmp_path: Path) -> tuple[str, ...]:
    """Debian's docker with buildx in place of what it builds with itself."""
    plugins = tmp_path / "cli-plugins"
    plugins.mkdir()
    (plugins / "docker-buildx").symlink_to(ensure_test_programs() / "docker-buildx")
    (tmp_path / "config.json").write_text(json.dumps({"aliases": {"builder": "buildx"}}))
    return (*DOCKER, "--config", str(tmp_path))


def through(proxy: Proxy) -> dict[str, str]:
    return {"http_proxy": proxy.url, "https_proxy": proxy.url, "no_proxy": "nowhere.invalid"}


@pytest.mark.parametrize("has_buildx", [False, True])
def test_a_build_goes_through_the_proxies_and_shows_their_password_to_nobody(
    engine: docker.DockerClient,
    make: Callable[..., Builder],
    buildx: tuple[str, ...],
    proxy: Proxy,
    has_buildx: bool,
) -> None:
    lines: list[str] = []
    dockerfile = FETCH.replace("six #", f"six # {has_buildx}")
    builder = make(**through(proxy), docker_command=buildx if has_buildx else DOCKER)
    builder.build(TAG, dockerfile, {}, lines.append, Event())
    try:
        assert any(target.startswith("pypi.org:") for target in proxy.asked)
        # So the search finds it where it is.
        assert "docker" in " ".join(proxy.seen["environ"])
        assert proxy.seen["cmdline"] == set()
        log = "\n".join(lines)
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            assert f" {name}=http://***@" in log
        assert "NO_PROXY=nowhere.invalid" in log
        assert PASSWORD not in log
        image = engine.images.get(TAG)
        assert PASSWORD not in str(image.attrs) + str(image.history())
        assert not is_in_layers(engine, TAG, PASSWORD)
        assert is_in_layers(engine, TAG, "fetched/six-")
    finally:
        engine.images.remove(TAG)


def test_the_log_of_a_build_that_failed_shows_no_password(make: Callable[..., Builder], proxy: Proxy) -> None:
    with pytest.raises(BuildFailed) as caught:
        make(**through(proxy)).build(TAG, FETCH.replace("download", "no-such-command"), {}, len, Event())
    assert "***@" in caught.value.detail
    assert PASSWORD not in caught.value.detail


def test_the_dockerfile_of_images_declares_no_argument() -> None:
    """The history of an image shows the value of each one that is declared, that of a proxy as well."""
    assert "ARG" not in TEMPLATE.split()


def is_in_layers(engine: docker.DockerClient, tag: str, text: str) -> bool:
    """Whether `text` is anywhere in an image: in its layers, which `docker save` does not compress."""
    end = b""
    for chunk in engine.images.get(tag).save(chunk_size=2**20):
        if text.encode() in end + chunk:
            return True
        end = chunk[-len(text) :]
    return False


@pytest.fixture
def cgroup() -> Iterator[str]:
    """The path of a cgroup that has room for few processes."""
    name = f"ds01-test-{secrets.token_hex(4)}"
    is_v2 = (CGROUPS / "cgroup.controllers").exists()
    if is_v2:
        (CGROUPS / "cgroup.subtree_control").write_text("+pids")
    for root in [CGROUPS] if is_v2 else [CGROUPS / "pids", CGROUPS / "memory"]:
        (root / name).mkdir()
    (CGROUPS / ("" if is_v2 else "pids") / name / "pids.max").write_text(str(PROCESSES))
    yield f"/{name}"
    # runc made it in the other controllers as well.
    for root in [CGROUPS, *CGROUPS.iterdir()]:
        for made in sorted((root / name).glob("**/"), reverse=True):
            made.rmdir()


def test_what_a_build_runs_is_in_the_cgroup_of_builds_and_bound_by_its_limits(
    make: Callable[..., Builder], buildx: tuple[str, ...], cgroup: str
) -> None:
    with pytest.raises(BuildFailed) as caught:
        make(docker_command=buildx, build_cgroup_parent=cgroup).build(TAG, FORK, {}, len, Event())
    assert "Resource temporarily unavailable" in caught.value.detail


class OldDocker:
    """A docker with buildx whose server is Debian 12's."""

    command = (
        "/bin/sh",
        "-c",
        'case "$1" in version) echo 1.41 ;; build) echo "Usage:  docker buildx build" ;; esac',
        "docker",
    )


@pytest.mark.parametrize("command", [DOCKER, OldDocker.command])
def test_a_docker_that_would_ignore_the_cgroup_of_builds_builds_nothing(
    make: Callable[..., Builder], cgroup: str, command: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigBroken, match=r"build_cgroup_parent: no cgroup for builds can be asked of"):
        make(build_cgroup_parent=cgroup, docker_command=command).build(TAG, FORK, {}, len, Event())


def test_builds_do_not_run_in_a_slice_that_nobody_started(make: Callable[..., Builder]) -> None:
    with pytest.raises(ConfigBroken, match=r"systemctl enable --now ds01-none\.slice"):
        make(build_cgroup_parent="ds01-none.slice").build(TAG, FORK, {}, len, Event())


def test_a_slice_lies_where_systemd_puts_it() -> None:
    with pytest.raises(ValueError, match=r"no cgroup /ds01\.slice/ds01-none\.slice/ds01-none-a\.slice;"):
        find_cgroup("ds01-none-a.slice")


@pytest.mark.parametrize("name", ["/", "ds01", "/../etc", "/a/../b", "a b.slice", "/a\n", "-a.slice", "/a b"])
def test_what_is_no_cgroup_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither a slice nor the path"):
        find_cgroup(name)
