"""Containers: listed, created, written into, removed."""

from __future__ import annotations

import io
import json
import logging
import tarfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import docker.errors

from ... import mlc
from ...errors import EngineUnavailable
from ...model import RUNNING_STATES, Container
from ...templating import template_directory
from .activity import ActivityCalls
from .connection import translated
from .devices import DeviceCalls
from .disk import DiskCalls
from .pulls import PullCalls
from .shells import ShellCalls

log = logging.getLogger(__name__)

_WORDS_SECONDS = 3.0
# Each terminal has a writer of its own: one that is held by Ctrl-S blocks who writes.
_SAY = r"""
for terminal in /dev/pts/[0-9]*; do
    [ -c "$terminal" ] && printf '\r\n%s\r\n' "$1" > "$terminal" &
done
wait
"""
_WRITE = 'printf "%s\\n" "$2" > "$1"'


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to put into a container, root's unless said; `mode` as in `stat`."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class DockerEngine(ActivityCalls, DeviceCalls, DiskCalls, PullCalls, ShellCalls):
    """Docker, with all that is asked of it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._known: dict[str, Container] = {}
        self._known_lock = threading.Lock()

    def container(self, id_or_name: str) -> Container | None:
        """Return the container, or None if Docker says there is none; any other answer raises."""
        try:
            with translated(f"looking for the container {id_or_name}"):
                return mlc.from_inspect(self.client.inspect_container(id_or_name))
        except docker.errors.NotFound:
            return None

    def containers(self, *, label: str = "") -> tuple[Container, ...]:
        """Return all containers, stopped ones too; with `label` (`key` or `key=value`) only those."""
        with translated("listing containers"):
            rows = self.client.containers(all=True, filters={"label": label} if label else {})
        found = [self.container(row["Id"]) for row in rows]
        return tuple(container for container in found if container is not None)

    def users_of(self, image_id: str) -> tuple[str, ...]:
        """Return the names of the containers that were made from an image, stopped ones too."""
        with translated("listing containers"):
            rows = self.client.containers(all=True)
        return tuple(sorted(_own_name(row["Names"]) for row in rows if row["ImageID"] == image_id))

    def snapshot(self) -> tuple[Container, ...]:
        """Return all containers, stopped ones too: one call, and one more for each that is new.

        Image, labels and devices of a container never change, so they are asked for once; name and state
        are from the list, which Docker keeps apart: it can be a moment behind what was just done.
        `exit_code` is always 0 here: ask `container` for it. One that goes away meanwhile is left out.

        One that does not run and that Docker cannot look into is as the list has it, without devices.

        Raises:
            EngineUnavailable: any other answer, be it about one container only.
        """
        with translated("listing containers"):
            rows = self.client.containers(all=True)
        with self._known_lock:
            known = {row["Id"]: self._known[row["Id"]] for row in rows if row["Id"] in self._known}
        unclear: dict[str, Container] = {}
        for row in rows:
            if row["Id"] in known:
                continue
            try:
                found = self.container(row["Id"])
            except EngineUnavailable as exc:
                has_answered = getattr(exc.__cause__, "status_code", None) is not None
                if row["State"] in RUNNING_STATES or not has_answered:
                    raise
                log.warning("the container %s is taken as it is listed: %s", row["Id"][:12], exc.detail)
                unclear[row["Id"]] = mlc.from_list(row)
            else:
                known |= {found.id: replace(found, exit_code=0)} if found is not None else {}
        with self._known_lock:
            self._known = known
        seen = known | unclear
        return tuple(
            replace(seen[row["Id"]], name=_own_name(row["Names"]) or seen[row["Id"]].name, state=row["State"])
            for row in rows
            if row["Id"] in seen
        )

    def create(self, kwargs: Mapping[str, object]) -> str:
        """Create a container from `mlc.create_kwargs` and return its id.

        Raises:
            NameTaken: a container of that name is there already.
        """
        arguments = dict(kwargs)
        host_config = arguments.pop("host_config")
        assert isinstance(host_config, dict)
        arguments["host_config"] = self.client.create_host_config(**host_config)
        try:
            with translated(f"creating the container {kwargs['name']}"):
                made = self.client.create_container(**arguments)
        except EngineUnavailable as exc:
            if getattr(exc.__cause__, "status_code", None) != 409:
                raise
            raise mlc.refuse_name(str(kwargs["name"]), detail=exc.detail) from exc
        return str(made["Id"])

    def put_files(self, container_id: str, files: tuple[File, ...]) -> None:
        """Write files into a container, directories made as needed, in one call."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for file in files:
                info = tarfile.TarInfo(file.path.lstrip("/"))
                info.size, info.mode = len(file.content), file.mode
                info.uid, info.gid = file.uid, file.gid
                archive.addfile(info, io.BytesIO(file.content))
        with translated("writing into the container"):
            self.client.put_archive(container_id, "/", buffer.getvalue())

    def log_tail(self, container_id: str, *, lines: int = 20) -> str:
        """Return the last lines that a container printed."""
        with translated("reading the container's log"):
            return bytes(self.client.logs(container_id, tail=lines)).decode(errors="replace").strip()

    def commit(self, container_id: str, name: str, *, labels: Mapping[str, str]) -> None:
        """Make an image `name` of a container's files as they are now; what is mounted is not among them."""
        changes = [f"LABEL {json.dumps(key)}={json.dumps(text)}" for key, text in labels.items()]
        with translated("making an image of the container"):
            self.client.commit(container_id, repository=name, tag="latest", changes=changes)

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name."""
        with translated("renaming the container"):
            self.client.rename(container_id, name)

    def stop_with_words(self, container_id: str, words: str, *, grace_seconds: int = 10) -> None:
        """Tell who works in a container, then stop it. Gone already is fine."""
        self.tell(container_id, words)
        self.stop(container_id, grace_seconds=grace_seconds)

    def stop(self, container_id: str, *, grace_seconds: int = 10) -> None:
        """Stop a container: SIGTERM to its init, SIGKILL to all after the grace. Gone already is fine."""
        try:
            with translated("stopping the container"):
                self.client.stop(container_id, timeout=grace_seconds)
        except docker.errors.NotFound:
            log.debug("the container %s has gone already", container_id[:12])

    def end_programs(self, container_id: str, *, grace_seconds: int) -> None:
        """Ask all programs in a container to end, but for its server, and wait so long for them.

        That they cannot be asked is in the log, and no error: a stop follows.
        """
        script = (template_directory() / "end_programs.sh").read_text(encoding="utf-8")
        try:
            self._run_inside(container_id, ["/bin/sh", "-c", script], seconds=grace_seconds)
        except (docker.errors.NotFound, EngineUnavailable) as exc:
            log.warning("no program in the container %s was asked to end: %s", container_id[:12], exc)

    def tell(self, container_id: str, words: str) -> None:
        """Write `words` to the terminals that are open in a container.

        They reach whoever has a shell there as the container's own user, which is what `mlc-open` opens.
        That they cannot be written is in the log, and no error.
        """
        try:
            self._say(container_id, words)
        except (docker.errors.NotFound, EngineUnavailable) as exc:
            log.warning("nobody in the container %s was told: %s", container_id[:12], exc)

    def _say(self, container_id: str, words: str) -> None:
        self._run_inside(container_id, ["/bin/sh", "-c", _SAY, "say", words], seconds=_WORDS_SECONDS)

    def write_as_user(self, container_id: str, path: str, text: str) -> None:
        """Write a file of the user's in a running container, as she could herself. Gone already is fine.

        Never as root: in a container where she is root too, she could lead the way to any file of the host's
        by a link in `path` and another in place of what is mounted. That she forbade it is no error.

        Raises:
            EngineUnavailable: it cannot be written now.
        """
        try:
            command = ["/bin/sh", "-c", _WRITE, "write", path, text]
            self._run_inside(container_id, command, seconds=_WORDS_SECONDS)
        except docker.errors.NotFound:
            log.debug("the container %s has gone already", container_id[:12])

    def _run_inside(self, container_id: str, command: Sequence[str], *, seconds: float) -> None:
        """Run a command in a container as its own user, and wait for its end, at most so long."""
        # Not as root: the shell is the image's, so perhaps hers, and could leave a setuid program in a mount.
        with translated("running a command in the container"):
            made = self.client.exec_create(container_id, list(command), workdir="/")
            self.client.exec_start(made["Id"], detach=True)
            deadline = time.monotonic() + seconds
            while self.client.exec_inspect(made["Id"])["Running"] and time.monotonic() < deadline:
                time.sleep(0.05)

    def remove(self, container_id: str, *, grace_seconds: int = 10) -> None:
        """Stop a container (SIGTERM, then SIGKILL after the grace) and remove it. Gone already is fine."""
        try:
            with translated("stopping the container"):
                self.client.stop(container_id, timeout=grace_seconds)
            with translated("removing the container"):
                self.client.remove_container(container_id, v=True, force=True)
        except docker.errors.NotFound:
            log.debug("the container %s has gone already", container_id[:12])
        except EngineUnavailable as exc:
            if "already in progress" not in exc.detail:
                raise
            log.debug("somebody else removes the container %s", container_id[:12])


def _own_name(names: Iterable[str] | None) -> str:
    """Return the name among those of a listed container: a link adds `/other/alias`, removal takes all."""
    return next((name[1:] for name in names or () if name.count("/") == 1), "")
