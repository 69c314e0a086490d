"""Base images from a registry: where from, as whom, how far, and why not.

A download is told in steps. One that nobody waits for any more, or that takes too long, ends within a
second, or, if Docker has not answered yet, as soon as it does. Only a complete image gets a name.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import docker
import docker.auth
import docker.errors
import docker.types
import requests
from docker.utils import parse_repository_tag

from ...errors import BuildFailed, ConfigBroken, EngineUnavailable, ImageFailed
from .connection import ASK_ADMIN
from .images import ImageCalls, ImageInfo
from .pull_words import Event, PullProgress, explain_pull

log = logging.getLogger(__name__)

_DEFAULT_REGISTRIES = ("docker.io", "index.docker.io")
_WATCH_SECONDS = 0.5
# For an answer, and between two signs of progress; unpacking a large layer is silent for a while.
_SILENT_SECONDS = 300
_SILENCE = f"no word from Docker for {_SILENT_SECONDS} seconds: timed out"
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[a-z0-9._-]+)*", re.ASCII)


class PullCalls(ImageCalls):
    """What is asked of registries, through Docker.

    `registry` (`host[:port][/path]`) stands for Docker's default one; "" for none. `registry_login` is a
    file like Docker's `config.json`; "" for what `docker login` left for this process's user.
    """

    def __init__(self, *, registry: str = "", registry_login: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._registry = registry
        self._login = registry_login

    def local_name(self, reference: str) -> str:
        """Return the name under which Docker has an image once it was pulled.

        It is what was asked for, but for a digest from the site's registry: that gets no second name.
        """
        return self.remote_name(reference) if "@" in reference else reference

    def remote_name(self, reference: str) -> str:
        """Return the name under which an image is asked for, in the site's registry if it names none.

        Raises:
            ConfigBroken: what the site's registry is set to is none.
        """
        host, _, rest = reference.partition("/")
        names_registry = bool(rest) and (host == "localhost" or "." in host or ":" in host)
        if not self._registry or (names_registry and host not in _DEFAULT_REGISTRIES):
            return reference
        if _REGISTRY.fullmatch(self._registry) is None:
            raise ConfigBroken(
                "Base images cannot be downloaded now (a setting of the server is wrong). Tell your admin.",
                detail=f"c.DS01.registry: {self._registry[:80]!r} is not host[:port][/path], without https://",
            )
        return f"{self._registry}/{rest if names_registry else reference}"

    def image(self, reference: str) -> ImageInfo | None:
        """Return the local image under that name, tag, digest or id; None if there is none."""
        return super().image(self.local_name(reference))

    def pull(
        self, reference: str, tell: Callable[[str], None], given_up: threading.Event, timeout: timedelta
    ) -> ImageInfo:
        """Download an image, give it the name that was asked for, and return it. Blocks.

        `tell` gets a sentence for each step. An image that is here already is compared, and downloaded only
        if the registry has a newer one.

        Raises:
            ImageFailed: the registry does not have it, or not for us; or there is no room for it.
            RegistryUnavailable: the registry does not answer.
            BuildFailed: it was given up, or took too long.
            ConfigBroken: the registry or the login is set to what is none.
            EngineUnavailable: Docker does not answer.
        """
        remote = self.remote_name(reference)
        headers = self._log_in(remote)
        progress = PullProgress()
        for event in self._follow(remote, headers, given_up, timeout):
            if "error" in event:
                raise explain_pull(reference, remote, str(event["error"]))
            sentence = progress.read(event)
            if sentence is not None:
                tell(sentence)
        found = super().image(remote)
        if found is None:
            raise ImageFailed(
                f"The base image {reference} vanished after its download. {ASK_ADMIN}", detail=remote
            )
        if self.local_name(reference) != remote:
            repository, tag = parse_repository_tag(reference)
            self.tag(found.id, f"{repository}:{tag or 'latest'}")
        return found

    def _follow(
        self, remote: str, headers: dict[str, str], given_up: threading.Event, timeout: timedelta
    ) -> Iterator[Event]:
        """Pull, and yield what Docker says about it, until the end or until nobody waits."""
        pulling = _Pulling(self.client, remote, headers)
        deadline = time.monotonic() + timeout.total_seconds()
        pulling.start()
        try:
            while not given_up.is_set():
                if time.monotonic() > deadline:
                    raise BuildFailed(
                        f"The download of {remote} took longer than {timeout.total_seconds() / 60:.0f} "
                        "minutes and was ended. Start again later, or ask your admin to pull it."
                    )
                try:
                    event = pulling.said.get(timeout=_WATCH_SECONDS)
                except Empty:
                    continue
                if event is None:
                    return
                if isinstance(event, Exception):
                    raise EngineUnavailable(
                        f"Docker on the server did not download {remote}. {ASK_ADMIN}", detail=str(event)
                    ) from event
                yield event
            raise BuildFailed("The build was given up. Start again.")
        finally:
            pulling.leave()

    def _log_in(self, remote: str) -> dict[str, str]:
        """Return the header that logs in to an image's registry, none where there is no login for it."""
        if self._login:
            _check_login(Path(self._login))
        try:
            registry, _ = docker.auth.resolve_repository_name(remote)
            config = docker.auth.load_config(self._login or None)
            login = docker.auth.resolve_authconfig(config, registry)
        except docker.errors.InvalidRepository as exc:
            raise ImageFailed(f"{remote} is not the name of an image. Choose another base image.") from exc
        except (docker.errors.DockerException, ValueError) as exc:
            raise _login_error(f"{self._login or 'what docker login left'}: {exc}") from exc
        return {"X-Registry-Auth": docker.auth.encode_header(login).decode()} if login else {}


class _Pulling(threading.Thread):
    """A pull under way: each line of Docker's answer comes into `said`, None at the end.

    Its own thread, since who waits must be able to leave. docker-py's own pull waits for ever; Docker ends a
    pull whose connection ends.
    """

    def __init__(self, client: docker.APIClient, remote: str, headers: dict[str, str]) -> None:
        super().__init__(name="ds01-pull", daemon=True)
        self.said: SimpleQueue[Event | Exception | None] = SimpleQueue()
        self._client, self._remote, self._headers = client, remote, headers
        self._answer: requests.Response | None = None
        self._is_left = False
        self._lock = threading.Lock()

    def run(self) -> None:
        repository, tag = parse_repository_tag(self._remote)
        try:
            with self._client.post(
                self._client._url("/images/create"),
                params={"fromImage": repository, "tag": tag or "latest"},
                headers=self._headers,
                stream=True,
                timeout=_SILENT_SECONDS,
            ) as answer:
                with self._lock:
                    self._answer = answer
                if not answer.ok:
                    self.said.put({"error": answer.json()["message"]})
                for line in answer.iter_lines() if answer.ok and not self._is_left else ():
                    self.said.put(json.loads(line))
                with self._lock:
                    self._answer = None
            self.said.put(None)
        except (requests.RequestException, ValueError, KeyError) as exc:
            self.said.put({"error": _SILENCE} if "timed out" in str(exc) else exc)

    def leave(self) -> None:
        """End the connection, and with it the pull; before Docker has answered, as soon as it does."""
        with self._lock:
            self._is_left = True
            if self._answer is not None:
                docker.types.CancellableStream(iter(()), self._answer).close()


def _check_login(path: Path) -> None:
    try:
        found = path.stat()
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise _login_error(f"{path} cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise _login_error(f"{path} is not what docker login writes")
    if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid()):
        log.warning("registry_login: others can read %s; let it belong to root alone, with mode 600", path)


def _login_error(cause: str) -> ConfigBroken:
    return ConfigBroken(
        "Base images cannot be downloaded now (a setting of the server is wrong). Tell your admin.",
        detail=f"c.DS01.registry_login: {cause}",
    )
