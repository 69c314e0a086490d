"""From an accepted request to Docker's arguments: blocking steps, each a function for a pool thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlparse

from .. import identity, limits, mlc
from ..adapters.engine import DockerEngine, File
from ..core import Offers
from ..errors import MountRefused
from ..model import (
    Account,
    BaseImage,
    BuiltImage,
    Lease,
    Limits,
    Mount,
    MountWish,
    ServerRequest,
    name_gpu,
)
from ..templating import SESSION_FILE, read_programs

HUB_PYTHON = "/opt/ds01/hub/bin/python"
START_PROGRAM = "/opt/ds01/start.py"
MOUNTS_FILE = "/opt/ds01/mounts"
SUDO_RULE = "/etc/sudoers.d/ds01"

# How often a server tells the Hub that it is used, in seconds; JupyterHub's own is five minutes, in which a
# server that is idle by then could be stopped.
ACTIVITY_INTERVAL = "JUPYTERHUB_ACTIVITY_INTERVAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request that was accepted, with all that was looked up for it, her directories opened once."""

    login: str
    request: ServerRequest
    account: Account
    limits: Limits
    base: BaseImage
    container_name: str
    wishes: tuple[MountWish, ...]
    mounts: tuple[Mount, ...]

    @property
    def wish(self) -> str:
        """What is leased, in words."""
        count, profile = self.request.gpu_count, self.request.gpu_profile
        if not count:
            return "a place for your server (no GPU)"
        return f"{count} × {name_gpu(profile)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What of the site's and the server's settings decides the container."""

    device_mode: str
    slice_pattern: str
    network: str
    port: int
    arguments: tuple[str, ...]
    ulimits: Mapping[str, int]
    allow_sudo: bool
    privileged: bool
    host_ipc: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A container that could be created now, but for its lease and its environment.

    `gateway` is the address at which it reaches the Hub, "" on the host's network.
    """

    plan: mlc.ContainerPlan
    image: BuiltImage
    fingerprint: str
    gateway: str


def decide(
    offers: Offers, asked: ServerRequest, *, login: str, groups: tuple[str, ...], server: str, home_dir: str
) -> Prepared:
    """Hold a request against account, limits, catalog, GPUs and directories.

    Raises:
        DS01Error: the first thing that stands against it.
    """
    account = offers.account(login)
    effective = limits.lower(
        offers.limits_for(login, groups),
        cpus=asked.cpus,
        memory=asked.memory,
        shm_size=asked.shm_size,
        pids_limit=asked.pids_limit,
    )
    base = offers.check(login, server, asked, effective)
    wishes = _wishes(asked, account, home_dir)
    return Prepared(
        login=login,
        request=asked,
        account=account,
        limits=effective,
        base=base,
        container_name=mlc.container_name(server, account.uid),
        wishes=wishes,
        mounts=offers.open_mounts(account, wishes),
    )


def _wishes(asked: ServerRequest, account: Account, home_dir: str) -> tuple[MountWish, ...]:
    wishes = [
        MountWish(source=home_dir, target=container_home(account), create=True),
        MountWish(source=asked.workspace_dir, target=mlc.WORKSPACE, create=True),
    ]
    if asked.data_dir:
        wishes.append(MountWish(source=asked.data_dir, target=mlc.DATA, read_only=True))
    if asked.models_dir:
        wishes.append(MountWish(source=asked.models_dir, target=mlc.MODELS, read_only=True))
    return tuple(wishes)


def container_home(account: Account) -> str:
    """Return her home as the container sees it."""
    return f"/home/{account.name}"


def assemble(
    engine: DockerEngine, prepared: Prepared, image: BuiltImage, *, server: str, site: Site
) -> Assembled:
    """Return the container to be, with her directories as they were when her request was accepted."""
    gateway = "" if site.network == mlc.HOST_NETWORK else engine.ensure_network(site.network)
    ulimits = site.ulimits if engine.supports_ulimits(image.tag, site.ulimits) else {}
    account = prepared.account
    plan = mlc.ContainerPlan(
        name=prepared.container_name,
        project=mlc.project_name(server),
        account=account,
        image=mlc.image_name(prepared.container_name, account.name),
        framework=f"{prepared.base.framework}-{prepared.base.version}",
        architecture=prepared.base.architecture,
        custom_image=prepared.request.base_image,
        nonce="",
        command=(HUB_PYTHON, "-I", START_PROGRAM, *site.arguments),
        port=site.port,
        network=site.network,
        device_mode=site.device_mode,
        gpu_wish=f"{prepared.request.gpu_count} × {prepared.request.gpu_profile}",
        mounts=prepared.mounts,
        limits=limits.create_limits(
            prepared.limits, site.slice_pattern, account.name, host_cpus=engine.cpus()
        ),
        ulimits=ulimits,
        image_labels=image.labels,
        group_ids=tuple(gid for _, gid in account.groups),
        allow_sudo=site.allow_sudo,
        privileged=site.privileged,
        host_ipc=site.host_ipc,
    )
    fingerprint = mlc.fingerprint(plan, image.id)
    return Assembled(plan=plan, image=image, fingerprint=fingerprint, gateway=gateway)


def recheck_mounts(offers: Offers, prepared: Prepared) -> None:
    """Open her directories again and compare: a path may have been swapped since.

    Raises:
        MountRefused: one of them is another directory now.
    """
    if offers.open_mounts(prepared.account, prepared.wishes) != prepared.mounts:
        raise MountRefused("One of your directories was replaced during the start. Please start again.")


def create_arguments(
    assembled: Assembled,
    lease: Lease,
    environment: Mapping[str, str],
    *,
    extra: Mapping[str, object],
    extra_host_config: Mapping[str, object],
) -> dict[str, object]:
    """Return the arguments of `DockerEngine.create`; what the contract names wins over an admin's extras."""
    account = assembled.plan.account
    home = container_home(account)
    environment = {
        ACTIVITY_INTERVAL: "60",
        **environment,
        "HOME": home,
        "USER": account.name,
        "LOGNAME": account.name,
    }
    plan = replace(
        assembled.plan,
        nonce=lease.nonce,
        devices=lease.slots,
        environment={**environment, "SHELL": account.shell},
    )
    ours = mlc.create_kwargs(plan)
    host_config = ours.pop("host_config")
    assert isinstance(host_config, dict)
    return {**extra, **ours, "host_config": {**extra_host_config, **host_config}}


def read_port(inspected: Mapping[str, Any]) -> int:
    """Return the port that a container's server was told to listen on."""
    environment = dict(entry.partition("=")[::2] for entry in inspected["Config"]["Env"])
    return urlparse(environment["JUPYTERHUB_SERVICE_URL"]).port or 0


def give_identity(engine: DockerEngine, assembled: Assembled, container_id: str) -> None:
    """Write who she is, and what starts her server, into the created container."""
    plan = assembled.plan
    written = {
        MOUNTS_FILE: "".join(f"{one.device} {one.inode} {one.target}\n" for one in plan.mounts),
        SESSION_FILE: "{}\n",
        **read_programs(),
    }
    edited = {"/etc/passwd": identity.merge_passwd, "/etc/group": identity.merge_group}
    if plan.allow_sudo:
        written[SUDO_RULE] = f"{plan.account.name} ALL=(ALL) NOPASSWD:ALL\n"
        edited["/etc/shadow"] = identity.merge_shadow
    found = engine.image_files(assembled.image.id, (*written, *edited))
    for path, merge in edited.items():
        written[path] = merge(found[path].decode(errors="replace"), _inside(plan.account))
    engine.put_files(container_id, tuple(_own(plan.account, path, text) for path, text in written.items()))


def _own(account: Account, path: str, text: str) -> File:
    """Return a file of root's, but for the one that is hers."""
    mode = {SUDO_RULE: 0o440, "/etc/shadow": 0o600}.get(path, 0o644)
    uid, gid = (account.uid, account.gid) if path == SESSION_FILE else (0, 0)
    return File(path=path, content=text.encode(), mode=mode, uid=uid, gid=gid)


def _inside(account: Account) -> Account:
    return replace(account, home=PurePosixPath(container_home(account)))
