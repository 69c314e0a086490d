"""Builds images with BuildKit through the `docker build` command, which docker-py has no call for.

A build gets an argument list, its context from memory and the site's settings as secrets, which never
reach a layer. Proxies, whose addresses may hold a password, are build arguments that BuildKit knows and
keeps out of images; they stand in the environment of the command alone, and no line of the log shows who
they log in as. A tag appears only on an image that is complete. Several builds may run at once, each in
the thread that asked for it. A build that is given up leaves no process behind, and neither does one whose
Hub was killed; no build leaves a file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from ds01_spawner.buildlog import LAYERS, explain_failure
from ds01_spawner.errors import BuildFailed, ConfigBroken, DS01Error, EngineUnavailable

from . import build_process
from .cgroups import find_cgroup

RESOLVE_TIMEOUT = timedelta(seconds=60)
# BuildKit refuses a bigger secret only in the middle of the build.
MAX_SECRET_BYTES = 500 * 1024
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
# Docker 23.0, the first whose BuildKit reads it. https://github.com/moby/buildkit/pull/2430
_API_WITH_CGROUPS = (1, 42)
_ASK_SECONDS = 30.0

_NO_BUILDKIT = re.compile(
    r"buildx component is missing|BuildKit is enabled but|unknown flag: --(?:progress|secret)|"
    r"unknown command: docker build|'build' is not a docker command|client version \S+ is too old"
)
_NO_ENGINE = re.compile(
    r"Cannot connect to the Docker daemon|error during connect|permission denied while trying to connect|"
    r"dial unix \S+: connect:"
)
# What the command says last when the connection broke in the middle: of Docker 20.10, and of buildx.
_ENGINE_LOST = re.compile(r"unexpected EOF$|ERROR: .*(?:rpc error: code =|failed to solve:) Unavailable\b")


class Builder:
    """`docker build` on one engine.

    `docker_command` is the command with its leading arguments, e.g. `("/usr/bin/docker",)`;
    `docker_host` a URL such as `unix:///run/docker.sock`, "" for what the environment says.
    `ca_bundle`, `pip_config` and `apt_config` are files of the host, None or "" for none;
    `build_network` is `default`, `host`, `none` or "" (the engine's choice). `proxies` has some of `PROXIES`.
    `cgroup_parent` is a systemd slice (`ds01-build.slice`) or the path of a cgroup (`/builds`) that exists on
    this machine; steps run below it. A build that takes longer than `timeout` is ended.
    """

    def __init__(
        self,
        *,
        docker_command: Sequence[str],
        docker_host: str,
        ca_bundle: Path | str | None = None,
        pip_config: Path | str | None = None,
        apt_config: Path | str | None = None,
        build_network: str = "",
        proxies: Mapping[str, str] | None = None,
        cgroup_parent: str = "",
        timeout: timedelta = timedelta(hours=1),
    ) -> None:
        self._command = tuple(docker_command)
        self._docker_host = docker_host
        secrets = {"ca_bundle": ca_bundle, "pip_config": pip_config, "apt_config": apt_config}
        self._secrets = {name: Path(path) for name, path in secrets.items() if path}
        self._network = build_network
        set_proxies = {name: value for name, value in (proxies or {}).items() if value}
        # Programs disagree about the spelling.
        self._proxies = set_proxies | {name.upper(): value for name, value in set_proxies.items()}
        self._cgroup_parent = cgroup_parent
        self._timeout = timeout

    def build(
        self,
        tag: str,
        dockerfile: str,
        context_files: Mapping[str, bytes],
        on_line: Callable[[str], None],
        given_up: threading.Event,
    ) -> str:
        """Build, tag and return the image's id; `on_line` gets each line of the log. Blocks.

        Once `given_up` is set, the build ends within a second.

        Raises:
            BuildFailed: a step failed, it took too long, or it was given up; `detail` is the end of the log.
            ConfigBroken: the command cannot build with BuildKit, or a file of the site is missing.
            EngineUnavailable: Docker does not answer, or ended in the middle.
        """
        arguments = [*self._command, "build", "--progress=plain", "--tag", tag, *self._list_settings(), "-"]
        with build_process.pack(dockerfile, context_files) as context:
            failed = self._run(arguments, context, on_line, given_up, self._timeout)
        if failed:
            raise _translate(failed)
        return self._ask_id(tag)

    def resolve(
        self,
        dockerfile: str,
        context_files: Mapping[str, bytes],
        given_up: threading.Event,
        timeout: timedelta = RESOLVE_TIMEOUT,
    ) -> tuple[str, ...]:
        """Run a Dockerfile that only checks; return () if all is well, else the end of its log. Blocks.

        It leaves no image.

        Raises:
            BuildFailed: it took too long, or it was given up; `detail` is the end of the log.
            ConfigBroken, EngineUnavailable: as for `build`.
        """
        arguments = [*self._command, "build", "--progress=plain", "--output=type=tar,dest=/dev/null"]
        arguments += [*self._list_settings(), "-"]
        with build_process.pack(dockerfile, context_files) as context:
            failed = self._run(arguments, context, lambda _line: None, given_up, timeout)
        if failed and not isinstance(error := _translate(failed), BuildFailed):
            raise error
        return failed

    def _list_settings(self) -> list[str]:
        """Return the arguments that are the same for every build of the site."""
        arguments = [f"--network={self._network}"] if self._network else []
        if self._cgroup_parent:
            arguments.append(f"--cgroup-parent={self._require_cgroup()}")
        for name in self._proxies:
            # Without a value: docker takes it from its environment, which only root can read.
            arguments += ["--build-arg", name]
        return arguments + self._list_secrets()

    def _require_cgroup(self) -> str:
        """Return the path of the cgroup for builds; where its limits would not hold, nothing is built."""
        try:
            path = find_cgroup(self._cgroup_parent)
        except ValueError as exc:
            raise _site_error(f"build_cgroup_parent: {exc}") from exc
        if not self._heeds_cgroups:
            raise _site_error(
                "build_cgroup_parent: no cgroup for builds can be asked of this Docker; it must be 23.0 or "
                "newer, and docker_command build with buildx (docker-buildx-plugin), or leave it empty"
            )
        return path

    @cached_property
    def _heeds_cgroups(self) -> bool:
        """Whether builds run below the cgroup that is asked for; an older Docker ignores it in silence."""
        known = re.match(r"(\d+)\.(\d+)", self._ask("version", "--format={{.Server.APIVersion}}"))
        is_new = known is not None and (int(known[1]), int(known[2])) >= _API_WITH_CGROUPS
        return is_new and "buildx build" in self._ask("build", "--help")

    def _list_secrets(self) -> list[str]:
        arguments: list[str] = []
        for name, path in self._secrets.items():
            try:
                size = path.stat().st_size
            except OSError as exc:
                raise _site_error(f"{name}: {path} cannot be read", str(exc)) from exc
            if size > MAX_SECRET_BYTES:
                raise _site_error(f"{name}: {path} is larger than the 500 KiB that BuildKit takes")
            if re.search(r'[,"\n]', str(path)):
                raise _site_error(f"{name}: {str(path)!r} has a comma or a quote in its path")
            arguments += ["--secret", f"id={name},src={path}"]
        return arguments

    def _ask_id(self, tag: str) -> str:
        """Return the id of an image that was just built."""
        try:
            return self._ask("image", "inspect", "--format={{.Id}}", tag)
        except ConfigBroken as exc:
            raise _site_error(
                "docker_command builds on another Docker than c.DS01.docker_host", exc.detail
            ) from exc

    def _ask(self, *arguments: str) -> str:
        """Return what the command says to a short question."""
        asked = [*self._command, *arguments]
        try:
            answer = subprocess.run(
                asked, capture_output=True, text=True, timeout=_ASK_SECONDS, env=self._environment()
            )
        except subprocess.TimeoutExpired as exc:
            raise _engine_error(str(exc)) from exc
        except OSError as exc:
            raise _site_error(f"docker_command: {self._command[0]} cannot be run", str(exc)) from exc
        if answer.returncode == 0:
            return answer.stdout.strip()
        if _NO_ENGINE.search(answer.stderr):
            raise _engine_error(answer.stderr)
        raise _site_error(f"docker_command: docker {arguments[0]} does not work", answer.stderr)

    def _run(
        self,
        arguments: Sequence[str],
        context: BinaryIO,
        on_line: Callable[[str], None],
        given_up: threading.Event,
        timeout: timedelta,
    ) -> tuple[str, ...]:
        """Return the end of the log if a step failed, else ()."""
        if shutil.which(self._command[0]) is None:
            raise _site_error(f"docker_command: {self._command[0]} cannot be run")

        def read(line: str) -> str:
            on_line(shown := self._conceal(line))
            return shown

        return build_process.run(
            arguments, context, self._environment(), read=read, given_up=given_up, timeout=timeout
        )

    def _conceal(self, line: str) -> str:
        """Take out of a line of the log as whom the proxies are logged in to."""
        for value in self._proxies.values():
            login, at, _ = value.rpartition("://")[2].rpartition("@")
            line = line.replace(login + at, "***@") if at else line
        return line

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, **self._proxies, "DOCKER_BUILDKIT": "1"}
        if self._docker_host:
            environment["DOCKER_HOST"] = self._docker_host
        if "DOCKER_HOST" in environment:
            # A context would win over the host that was asked for.
            environment.pop("DOCKER_CONTEXT", None)
        return environment


def _site_error(cause: str, detail: str = "") -> ConfigBroken:
    return ConfigBroken(f"Images cannot be built now ({cause}). Tell your admin.", detail=detail)


def _engine_error(detail: str) -> EngineUnavailable:
    return EngineUnavailable("Docker does not answer. Try again later, or tell your admin.", detail=detail)


def _translate(tail: Sequence[str]) -> DS01Error:
    log = "\n".join(tail)
    if _NO_BUILDKIT.search(log):
        return _site_error(
            "docker_command names a docker that cannot build with BuildKit; install Debian's docker.io or "
            "the docker-buildx-plugin, or let the trait name a docker that has it",
            log,
        )
    if _NO_ENGINE.search(log):
        return _engine_error(log)
    if tail and _ENGINE_LOST.match(tail[-1]):
        return EngineUnavailable(
            "Docker was restarted while your image was built. Start again; the steps before are kept.",
            detail=log,
        )
    failure = explain_failure(tail)
    where = LAYERS.get(failure.layer, LAYERS[""])
    return BuildFailed(f"{where}: {failure.sentence}", detail=log, lines=failure.lines)
