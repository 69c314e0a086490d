#!/usr/bin/env python3
"""Run a private Docker Engine beside whatever Docker the machine already has: with CDI, or Debian 12's own.

`up` starts it (twice is once), `down` ends it and leaves only its images, `restart` ends and starts its
dockerd alone, `status` says whether it answers, `env` prints what a shell needs to talk to it. With
`--legacy` it is a second Engine of the programs that Debian 12 has: no CDI, but NVIDIA's older hook. Any
number of them run at once. Guarantees: no process is ended, no link and no rule removed that this Engine
did not make; the machine's own Docker and its socket are left alone.
"""

from __future__ import annotations

import argparse
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Interface
from pathlib import Path

import daemons
import network
import processes
from binaries import check_debian_engine, ensure_binaries
from daemons import EngineHandle, ask
from machine import CACHE, SYSTEM_PATH, ToolError, main_guard, require_debian_root, run

DIRECTORY = CACHE / "engine"
LEGACY_DIRECTORY = CACHE / "engine-legacy"
MACHINE_LOCK = Path("/run/ds01-engines.lock")
DEBIANS_PATH = f"{SYSTEM_PATH}:/usr/libexec/docker"
CDI_DIRECTORIES = "cdi-spec-dirs"
INSTEAD = "install Docker Engine 25 or newer, switch its CDI feature on, and set DOCKER_HOST"


def locate(directory: Path = DIRECTORY) -> EngineHandle:
    """Return the handle of the Engine that lives in `directory`, whether it runs or not."""
    return daemons.place(directory)


def up(
    directory: Path = DIRECTORY,
    *,
    cdi_spec_dirs: Sequence[Path] = (),
    bridge: str | None = None,
    subnet: str | None = None,
) -> EngineHandle:
    """Start the Engine unless it runs, and return its handle once it answers.

    Raises ToolError where it cannot run, or when it already runs with other CDI directories.
    """
    require_debian_root("A private Docker Engine starts", INSTEAD)
    engine = locate(directory)
    engine.cdi_directory.mkdir(parents=True, exist_ok=True)
    specs = [str(engine.cdi_directory), *(str(path.resolve()) for path in cdi_spec_dirs)]
    settings = {"features": {"cdi": True}, CDI_DIRECTORIES: specs}
    with _locked():
        if not _runs(engine, settings):
            path = f"{ensure_binaries()}:{DEBIANS_PATH}"
            _start(engine, settings, path, network.choose_bridge(engine.directory, bridge, subnet))
    return engine


def up_legacy(
    directory: Path = LEGACY_DIRECTORY,
    *,
    programs: Path | None = None,
    runtimes: Mapping[str, Path] | None = None,
    bridge: str | None = None,
    subnet: str | None = None,
) -> EngineHandle:
    """Start an Engine of Debian 12's own programs unless it runs, and return its handle once it answers.

    `programs` is a folder that stands first on dockerd's PATH: NVIDIA's hook is searched there. `runtimes`
    are known beside runc, by name; the first one is the default. Raises ToolError where it cannot run, or
    when it already runs with other settings.
    """
    require_debian_root("A private Docker Engine starts", INSTEAD)
    engine = locate(directory)
    engine.directory.mkdir(parents=True, exist_ok=True)
    known = {name: {"path": str(program.resolve())} for name, program in (runtimes or {}).items()}
    settings: dict[str, object] = {"runtimes": known}
    if known:
        settings["default-runtime"] = next(iter(known))
    path = DEBIANS_PATH if programs is None else f"{programs.resolve()}:{DEBIANS_PATH}"
    with _locked():
        if not _runs(engine, settings, path):
            check_debian_engine(path)
            _start(engine, settings, path, network.choose_bridge(engine.directory, bridge, subnet))
    return engine


def down(directory: Path = DIRECTORY) -> None:
    """End the Engine and all that it started; its images stay for the next `up`."""
    engine = locate(directory)
    if not engine.directory.exists():
        return
    require_debian_root("A private Docker Engine is ended", INSTEAD)
    with _locked():
        _sweep(engine)


def restart(directory: Path = DIRECTORY, *, kill: bool = False) -> None:
    """End dockerd alone, with `kill` as `kill -9` does, and start it again; one that has died is started.

    Raises ToolError when the Engine was not up.
    """
    engine = locate(directory)
    require_debian_root("A private Docker Engine is restarted", INSTEAD)
    with _locked():
        if not engine.state_file.exists() or not processes.find("containerd", engine.mark):
            raise ToolError(f"No Engine is up in {engine.directory}. Start one: python3 tools/engine.py up")
        state = _read_state(engine)
        rules_of_others = network.read_docker_rules(but=_bridge_of(state))
        daemons.end_dockerd(engine, kill=kill)
        daemons.start_dockerd(engine, state["path"])
        network.restore_docker_rules(rules_of_others)


@contextmanager
def _locked() -> Iterator[None]:
    """Let one Engine of this machine come up, go down or restart at a time: they share iptables' chains."""
    with MACHINE_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _runs(engine: EngineHandle, settings: Mapping[str, object], path: str | None = None) -> bool:
    """Whether the Engine answers; ToolError if it does, with other settings or another PATH."""
    if ask(engine, "/version") is None:
        return False
    running = json.loads(engine.config_file.read_text())
    specs, asked = running.get(CDI_DIRECTORIES, []), settings.get(CDI_DIRECTORIES)
    wanted = dict(settings)
    if isinstance(asked, list) and set(asked) <= set(specs):
        # It may read more of them than were asked for.
        wanted[CDI_DIRECTORIES] = specs
    keys = ("features", CDI_DIRECTORIES, "runtimes", "default-runtime")
    same_settings = all(running.get(key) == wanted.get(key) for key in keys)
    if same_settings and (path is None or _read_state(engine)["path"] == path):
        return True
    raise ToolError(
        f"The Engine in {engine.directory} runs with other settings (its CDI directories are "
        f"{', '.join(specs) or 'none'}). End it first: "
        f"python3 tools/engine.py down --directory {engine.directory}"
    )


def _start(engine: EngineHandle, settings: Mapping[str, object], path: str, bridge: network.Bridge) -> None:
    """Start the Engine from nothing; one that does not start leaves nothing."""
    _sweep(engine)
    # Written down before anything is done: what `down` must undo, and what `restart` starts with.
    state = {"bridge": bridge.name, "address": str(bridge.address), "path": path}
    engine.state_file.write_text(json.dumps(state))
    network.prepare_machine()
    network.add_bridge(bridge)
    # Never `none`: in the machine's own namespace that deletes another dockerd's docker0.
    own_network = {
        "bridge": bridge.name,
        "default-address-pools": [{"base": str(bridge.pool), "size": 24}],
    }
    daemons.write_config(engine, {**settings, **own_network})
    rules_of_others = network.read_docker_rules()
    try:
        daemons.start_containerd(engine, path)
        daemons.start_dockerd(engine, path)
    except ToolError:
        _sweep(engine)
        raise
    finally:
        network.restore_docker_rules(rules_of_others)


def _sweep(engine: EngineHandle) -> None:
    """End what runs of this Engine and undo what it did to the machine."""
    daemons.end_all(engine)
    if engine.state_file.exists():
        network.remove_networks(_bridge_of(_read_state(engine)))
        engine.state_file.unlink()
    # Asked of containerd: a dockerd may be away for a moment, while somebody restarts it.
    if not processes.find("containerd", daemons.RUNTIME_PREFIX):
        network.leave_machine(alone=not processes.find("dockerd"))
    if engine.runtime.exists():
        run(["rm", "-rf", "--one-file-system", engine.runtime])


def _read_state(engine: EngineHandle) -> dict[str, str]:
    found: dict[str, str] = json.loads(engine.state_file.read_text())
    return found


def _bridge_of(state: Mapping[str, str]) -> network.Bridge:
    return network.Bridge(state["bridge"], IPv4Interface(state["address"]))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "down", "restart", "status", "env"))
    parser.add_argument("--legacy", action="store_true", help="the Engine of Debian 12's own programs")
    parser.add_argument("--directory", type=Path, help="of images and logs (one below .cache)")
    parser.add_argument("--bridge", help="name of its bridge (made from the directory)")
    parser.add_argument("--subnet", help="address of its bridge, A.B.C.1/24 (a free one)")
    parser.add_argument("--kill", action="store_true", help="restart after `kill -9`")
    cdi = parser.add_argument_group("with CDI")
    cdi.add_argument("--cdi-spec-dir", type=Path, action="append", default=[], help="besides DIRECTORY/cdi")
    legacy = parser.add_argument_group("with --legacy")
    legacy.add_argument("--programs", type=Path, help="a folder first on dockerd's PATH, with NVIDIA's hook")
    legacy.add_argument("--nvidia-runtime", type=Path, help="the program of the default runtime, `nvidia`")
    arguments = parser.parse_args()
    if arguments.legacy and arguments.cdi_spec_dir:
        parser.error("Debian 12's own Docker knows no CDI: leave out --cdi-spec-dir")
    if not arguments.legacy and (arguments.programs or arguments.nvidia_runtime):
        parser.error("--programs and --nvidia-runtime go with --legacy")
    return arguments


def main() -> int:
    arguments = _parse()
    directory = arguments.directory or (LEGACY_DIRECTORY if arguments.legacy else DIRECTORY)
    network_of_its_own = {"bridge": arguments.bridge, "subnet": arguments.subnet}
    engine = locate(directory)

    if arguments.command == "up" and arguments.legacy:
        runtimes = {"nvidia": arguments.nvidia_runtime} if arguments.nvidia_runtime else {}
        up_legacy(directory, programs=arguments.programs, runtimes=runtimes, **network_of_its_own)
    elif arguments.command == "up":
        up(directory, cdi_spec_dirs=arguments.cdi_spec_dir, **network_of_its_own)
    elif arguments.command == "restart":
        restart(directory, kill=arguments.kill)
    elif arguments.command == "down":
        down(directory)
        print("engine: ended; its images are kept")
        return 0
    elif arguments.command == "env":
        print(f"export DOCKER_HOST={engine.docker_host} DOCKER_BUILDKIT=1")
        return 0
    version = ask(engine, "/version")
    if not isinstance(version, dict):
        print(f"engine: not running in {engine.directory}")
        return 1
    devices = "without CDI" if arguments.legacy else f"CDI specs in {engine.cdi_directory}"
    print(f"engine: Docker {version['Version']} on {engine.docker_host}, {devices}")
    return 0


if __name__ == "__main__":
    main_guard(main)
