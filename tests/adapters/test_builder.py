"""Images really built, on a real engine, and looked into from inside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import docker
import jupyterhub
import pytest
from docker.errors import ImageNotFound

from ds01_spawner.adapters.builder import MAX_SECRET_BYTES, Builder
from ds01_spawner.errors import BuildFailed, ConfigBroken, EngineUnavailable, ImageFailed
from ds01_spawner.image import HUB_PYTHON, BaseProbe, context_files, render_dockerfile, tag
from ds01_spawner.model import ImageSpec

from ..hub.waiting import wait_for
from .building import BASE, CA_BUNDLE, DOCKER, MARK, NO_PYTHON, TEMPLATE, Built, ask, layers

pytest_plugins = ("tests.adapters.building",)
pytestmark = pytest.mark.docker

RUNTIME = "ds01-test/runtime:latest"
TAG = "ds01-test/builder:latest"

# The marker on tabulate makes its layer new in every run, whatever the engine has in its cache.
NEW = int.from_bytes(os.urandom(3), "big")
# A label of its own keeps the images of these tests apart from everybody else's.
PLAIN = ImageSpec(
    base=BASE,
    base_id="test",
    hub_version=jupyterhub.__version__,
    base_packages=("six",),
    labels=(("aime.mlc.MAINTAINER", 'the "tests" of $DS01 \\ é'), ("aime.mlc.MAINTAINER_ID", "0")),
)
HER_OWN = replace(
    PLAIN,
    packages=("tornado==6.1",),
    system_packages=("tree",),
    requirements=(f'tabulate==0.9.0; python_version < "3.{100 + NEW}"',),
)

# Runs in the hub's environment, as the server does; the kernel says where it runs and what it has.
ASK_KERNEL = """
import pathlib, queue
from jupyter_client.manager import start_new_kernel

mine = pathlib.Path.home() / ".local/share/jupyter/kernels/python3"
mine.mkdir(parents=True)
(mine / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
manager, client = start_new_kernel(kernel_name="python3")
client.execute("import sys, six, tornado; print(sys.executable, tornado.version)")
while True:
    message = client.get_iopub_msg(timeout=60)
    if message["msg_type"] in ("stream", "error"):
        print(message["content"])
        break
manager.shutdown_kernel(now=True)
"""


@pytest.fixture(scope="module")
def her_image(build: Callable[[ImageSpec], Built]) -> Built:
    return build(HER_OWN)


@pytest.fixture(scope="module")
def runtime_image(docker_host: str) -> str:
    file = Path(__file__).with_name("runtime.Dockerfile")
    command = [
        *DOCKER,
        "build",
        "-t",
        RUNTIME,
        "--build-arg",
        f"BASE={BASE}",
        "-f",
        str(file),
        str(file.parent),
    ]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_HOST": docker_host}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return RUNTIME


def test_the_base_is_probed(probe: Callable[[str], BaseProbe]) -> None:
    found = probe(BASE)
    assert (found.python, found.version[:2], found.has_bash) == ("/usr/bin/python3", (3, 11), True)
    assert found.runs_hub
    assert not probe(NO_PYTHON).python


def test_the_server_has_the_hubs_version_whatever_the_user_installed(
    engine: docker.DockerClient, her_image: Built
) -> None:
    said = ask(engine, her_image.tag, HUB_PYTHON, "-I", "-m", "jupyterhub.singleuser", "--version")
    assert said.strip() == jupyterhub.__version__
    version = "import tornado; print(tornado.version)"
    assert ask(engine, her_image.tag, HUB_PYTHON, "-I", "-c", version).strip() != "6.1"


def test_the_kernel_is_the_images_own_python_with_her_packages(
    engine: docker.DockerClient, her_image: Built
) -> None:
    said = ask(engine, her_image.tag, HUB_PYTHON, "-I", "-c", ASK_KERNEL)
    assert "/usr/bin/python3 6.1\\n" in said


def test_everything_that_was_asked_for_is_in_the_image(engine: docker.DockerClient, her_image: Built) -> None:
    assert ask(engine, her_image.tag, "tree", "--version").startswith("tree v")
    versions = "import six, tabulate; print(tabulate.__version__)"
    assert ask(engine, her_image.tag, "python3", "-c", versions).strip() == "0.9.0"


def test_the_image_carries_its_labels_and_starts_nothing_of_its_own(
    engine: docker.DockerClient, her_image: Built
) -> None:
    image = engine.images.get(her_image.tag)
    assert image.id == her_image.id
    assert dict(HER_OWN.labels).items() <= image.labels.items()
    assert not image.attrs["Config"]["Entrypoint"]
    assert image.attrs["Config"]["Cmd"] == ["bash"]


@pytest.mark.parametrize(
    ("setting", "content", "change", "words"),
    [
        (
            "pip_config",
            "[global]\nrequire-virtualenv = true\n",
            {"packages": ("ds01-none",)},
            "an activated virtualenv",
        ),
        (
            "apt_config",
            "not apt's syntax }\n",
            {"system_packages": ("ds01-none",)},
            "Syntax error /run/secrets",
        ),
    ],
)
def test_the_settings_of_the_site_are_in_force_during_a_build(
    docker_host: str,
    probe: Callable[[str], BaseProbe],
    tmp_path: Path,
    setting: str,
    content: str,
    change: dict[str, tuple[str, ...]],
    words: str,
) -> None:
    file = tmp_path / "settings"
    file.write_text(content, encoding="utf-8")
    spec, found = replace(PLAIN, **change), probe(BASE)  # type: ignore[arg-type]
    builder = Builder(docker_command=DOCKER, docker_host=docker_host, ca_bundle=CA_BUNDLE, **{setting: file})
    with pytest.raises(BuildFailed) as caught:
        builder.build(TAG, render_dockerfile(spec, found, TEMPLATE), context_files(spec, found), len, Event())
    assert words in caught.value.detail


def test_no_setting_of_the_site_stays_in_the_image(engine: docker.DockerClient, her_image: Built) -> None:
    image = engine.images.get(her_image.tag)
    assert MARK not in str(image.history()) + str(image.attrs)
    look = (
        "find /run /var/cache/ds01 -type f 2>/dev/null;"
        f"grep -rslI {MARK} /etc /opt /root /run /tmp /usr /var; true"
    )
    output = engine.containers.run(her_image.tag, ["sh", "-c", look], network_mode="none", remove=True)
    assert output.decode().split() == []
    assert not any("/run/secrets" in entry for entry in image.attrs["Config"]["Env"])


def test_other_packages_of_the_user_reuse_every_layer_above(
    engine: docker.DockerClient, build: Callable[[ImageSpec], Built], her_image: Built
) -> None:
    other = build(replace(HER_OWN, packages=("tornado>=6.2",), requirements=()))
    shared = [step.layer for step in other.steps if step.state == "cached"]
    assert {"hub", "base", "system"} <= set(shared)
    assert layers(engine, other.tag)[:-1] == layers(engine, her_image.tag)[:-2]
    assert other.id != her_image.id


def test_a_conflict_with_the_kernel_is_said_and_leaves_no_tag(
    engine: docker.DockerClient, build: Callable[[ImageSpec], Built]
) -> None:
    spec = replace(PLAIN, packages=("tornado==5.1",))
    with pytest.raises(BuildFailed, match=r"tornado==5\.1 conflicts with what the notebook kernel") as caught:
        build(spec)
    assert "ipykernel" in caught.value.detail
    with pytest.raises(ImageNotFound):
        engine.images.get(tag(spec, TEMPLATE))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"packages": ("ds01-there-is-no-such-package",)}, "There is no package ds01-there-is-no-such"),
        ({"system_packages": ("ds01-nothing",)}, "There is no system package ds01-nothing"),
        ({"base": "ds01-test/no-such-base:latest"}, "base image"),
    ],
)
def test_what_does_not_exist_is_said(
    builder: Builder, probe: Callable[[str], BaseProbe], change: dict[str, str], words: str
) -> None:
    spec, found = replace(PLAIN, **change), probe(BASE)  # type: ignore[arg-type]
    with pytest.raises(BuildFailed, match=words):
        builder.build(TAG, render_dockerfile(spec, found, TEMPLATE), context_files(spec, found), len, Event())


def test_a_base_without_python_is_refused_before_any_build(build: Callable[[ImageSpec], Built]) -> None:
    with pytest.raises(ImageFailed, match="no Python") as caught:
        build(replace(PLAIN, base=NO_PYTHON))
    assert not isinstance(caught.value, BuildFailed)


def test_a_base_without_python_works_with_a_runtime(
    engine: docker.DockerClient, build: Callable[[ImageSpec], Built], runtime_image: str
) -> None:
    built = build(replace(PLAIN, base=NO_PYTHON, runtime_image=runtime_image, packages=("tornado==6.1",)))
    said = ask(engine, built.tag, HUB_PYTHON, "-I", "-m", "jupyterhub.singleuser", "--version")
    assert said.strip() == jupyterhub.__version__
    assert "/opt/ds01/kernel/bin/python 6.1\\n" in ask(engine, built.tag, HUB_PYTHON, "-I", "-c", ASK_KERNEL)
    assert ask(engine, built.tag, "python", "-c", "import six; print(six.__name__)").strip() == "six"


def test_a_base_whose_python_is_externally_managed_takes_packages(
    engine: docker.DockerClient, builder: Builder, build: Callable[[ImageSpec], Built]
) -> None:
    mark = (
        "RUN touch $(python3 -c 'import sysconfig; print(sysconfig.get_path(\"stdlib\"))')/EXTERNALLY-MANAGED"
    )
    builder.build(TAG, f"FROM {BASE}\n{mark}\n", {}, len, Event())
    built = build(replace(PLAIN, base=TAG))
    assert ask(engine, built.tag, "python3", "-c", "import six; print(six.__name__)").strip() == "six"
    engine.images.remove(TAG)


def test_a_build_that_is_given_up_ends_and_leaves_no_tag(
    engine: docker.DockerClient, builder: Builder
) -> None:
    given_up = Event()

    def give_up(line: str) -> None:
        if "[2/2] RUN sleep" in line:
            given_up.set()

    sleeping = f"FROM {BASE}\nRUN sleep 3600 # {os.urandom(4).hex()}\n"
    with pytest.raises(BuildFailed, match="given up"):
        builder.build(TAG, sleeping, {}, give_up, given_up)
    with pytest.raises(ImageNotFound):
        engine.images.get(TAG)


def test_a_build_that_takes_too_long_is_ended_and_says_so(
    engine: docker.DockerClient, docker_host: str
) -> None:
    impatient = Builder(docker_command=DOCKER, docker_host=docker_host, timeout=timedelta(seconds=1))
    sleeping = f"FROM {BASE}\nRUN sleep 3600 # {os.urandom(4).hex()}\n"
    with pytest.raises(BuildFailed, match="took longer"):
        impatient.build(TAG, sleeping, {}, len, Event())
    with pytest.raises(ImageNotFound):
        engine.images.get(TAG)


class DockerWithoutBuildx:
    """A docker that says what Docker 23 and newer say where the buildx plugin is missing."""

    command = (
        "/bin/sh",
        "-c",
        "echo 'ERROR: BuildKit is enabled but the buildx component is missing'; exit 1",
    )


class DockerThatIsLost:
    """What Docker 20.10 and buildx say when dockerd ends in the middle of a build."""

    says = (
        "unexpected EOF",
        "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from "
        "server: read unix @->/run/docker.sock: read: connection reset by peer",
        "ERROR: failed to solve: Unavailable: error reading from server: EOF",
    )


class DockerWithoutNetwork:
    """A docker whose build waits for an index that does not answer."""

    command = (
        "/bin/sh",
        "-c",
        "echo '#4 [2/2] RUN : layer=packages && x'; echo '#4 16.1 WARNING: Retrying (Retry(total=4, …'; "
        "exec sleep 3600",
    )


class DockerThatHangs:
    """A docker whose build does not end; its first line is its process."""

    command = ("/bin/sh", "-c", "echo $$; exec sleep 3600")


def build_with(command: tuple[str, ...], docker_host: str = "unix:///nowhere", **settings: str) -> None:
    Builder(docker_command=command, docker_host=docker_host, **settings).build(
        TAG, "FROM x\n", {}, len, Event()
    )


def test_a_missing_buildx_is_said_with_its_cure() -> None:
    with pytest.raises(ConfigBroken, match="docker-buildx-plugin"):
        build_with(DockerWithoutBuildx.command)


def test_a_docker_command_that_does_not_exist_is_said() -> None:
    with pytest.raises(ConfigBroken, match="/no/such/docker cannot be run"):
        build_with(("/no/such/docker",))


def test_an_engine_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="Docker does not answer"):
        build_with(DOCKER, f"unix://{tmp_path}/docker.sock")


@pytest.mark.parametrize("last", DockerThatIsLost.says)
def test_a_docker_that_ends_in_the_middle_is_said(last: str) -> None:
    with pytest.raises(EngineUnavailable, match="Docker was restarted while your image was built"):
        build_with(("/bin/sh", "-c", f"echo '#4 [2/2] RUN : layer=hub && x'; echo '{last}'; exit 1"))


def test_a_build_whose_time_is_over_while_the_network_is_dead_says_that() -> None:
    builder = Builder(
        docker_command=DockerWithoutNetwork.command,
        docker_host="unix:///nowhere",
        timeout=timedelta(seconds=1),
    )
    with pytest.raises(BuildFailed, match="took longer than 1 s and was ended: the network did not answer"):
        builder.build(TAG, "FROM x\n", {}, len, Event())


def test_a_missing_bundle_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigBroken, match="ca_bundle"):
        build_with(("/bin/true",), ca_bundle=str(tmp_path / "none.pem"))


def test_a_bundle_too_large_for_buildkit_names_its_setting(tmp_path: Path) -> None:
    bundle = tmp_path / "big.pem"
    bundle.write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    with pytest.raises(ConfigBroken, match="500 KiB"):
        build_with(("/bin/true",), ca_bundle=str(bundle))


def test_a_process_that_was_given_up_is_gone() -> None:
    builder = Builder(docker_command=DockerThatHangs.command, docker_host="unix:///nowhere")

    processes: list[int] = []

    def give_up(line: str) -> None:
        processes.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.build(TAG, "FROM x\n", {}, give_up, Event())
    wait_for(lambda: has_ended(processes[0]), "the process is gone")


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be reaped."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
