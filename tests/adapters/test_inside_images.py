"""What is inside images of the whole chain, on a base for AMD's GPUs, and which layers two of them share."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import IO

import docker
import jupyterhub
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ds01_spawner.adapters.builder import Builder
from ds01_spawner.catalog import find_base
from ds01_spawner.errors import BuildFailed
from ds01_spawner.image import HUB_PYTHON
from ds01_spawner.model import ImageSpec
from ds01_spawner.packages import check_system_packages, normalise_requirements

from .building import BASE, MARK, Built, ask, ensure_bases, layers

pytest_plugins = ("tests.adapters.building",)
pytestmark = [pytest.mark.docker, pytest.mark.slow]

CATALOG = Path(__file__).parents[1] / "data" / "ml_images.v2.repo"
ROCM = find_base(CATALOG.read_text(encoding="utf-8"), "pytorch", architecture="ROCM6").image
TAG = "ds01-test/inside:latest"

# Makes the layer of whoever asks for it new in every run, whatever the engine has in its cache.
NEW = f'os_name != "{os.urandom(4).hex()}"'
THESIS = ImageSpec(
    base=ROCM,
    base_id="test",
    hub_version=jupyterhub.__version__,
    base_packages=("six",),
    base_system_packages=("tree",),
    use_case="cv",
    use_case_packages=("tabulate",),
    system_packages=("bc",),
    packages=("toolz==0.12.1",),
    requirements=("sortedcontainers>=2",),
    labels=(("aime.mlc.BASE_IMAGE", ROCM), ("aime.mlc.MAINTAINER", "tests of what is inside")),
)
# Hub layer, base system packages, base packages, use case, system packages: what her packages stand on.
TIERS_ABOVE = 5

# Runs in the hub's environment; the kernel says which Python it is and what it can import.
ASK_KERNEL = """
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")
client.execute("import sys, six, tabulate, toolz, sortedcontainers; print(sys.executable, toolz.__version__)")
while True:
    message = client.get_iopub_msg(timeout=60)
    if message["msg_type"] in ("stream", "error"):
        print(message["content"])
        break
manager.shutdown_kernel(now=True)
"""

# Where a build works and what it is given; nothing of it may be in an image.
LEFT_BY_A_BUILD = ("run/secrets/", "run/ds01/", "var/cache/ds01/", "var/cache/apt/archives/", "root/.cache/")
LEFT_BY_A_BUILD += ("var/lib/apt/lists/", "tmp/", "root/.config/", "root/.local/", "home/")

# Names that pass and look as if they were something else; the marker keeps pip from looking for them.
WORST_PACKAGES = (
    *("r", "e", "c", "i", "pre", "index-url", "no-index", "hash", "config-settings", "rm-rf", "sh", "id"),
    *(
        "from",
        "run",
        "arg",
        "onbuild",
        "copy",
        "env",
        "syntax",
        "escape",
        "eof",
        "con",
        "nul",
        "whl",
        "tar-gz",
    ),
    *(
        "0",
        "X.Y__Z--w",
        "x2!=1.*",
        "x3==1!2.0.post1.dev3+ubuntu.1",
        "x4~=1.0,<2,!=1.5",
        "x5[a,B_c.d]",
        "x6 >= 1",
    ),
)
WORST_MARKERS = ('os_name != "*,+.-"', 'platform_release != "5.15.0-91-generic a,b"', "os_name == ''")
WORST_SYSTEM_PACKAGES = ("t.ee", "l.b+", "0-+", "x..y", "x--y", "tr+ee", "0ad-x=1:2~3+b-c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What the layers hold that an image has on top of its base, as `docker save` gives them out."""

    files: tuple[tarfile.TarInfo, ...]
    names_with_mark: tuple[str, ...]
    layers: list[str]


def save(engine: docker.DockerClient, image: str, base: str, directory: Path) -> Saved:
    """Look through the layers of an image, and through all that describes it."""
    ours = [layer for layer in layers(engine, image) if layer not in layers(engine, base)]
    theirs = {layer.removeprefix("sha256:") for layer in layers(engine, base)}
    files: list[tarfile.TarInfo] = []
    with_mark: list[str] = []
    found: list[str] = []
    archive = directory / "image.tar"
    with archive.open("wb") as file:
        for chunk in engine.images.get(image).save():
            file.write(chunk)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            content = tar.extractfile(member) if member.isfile() and name not in theirs else None
            if content is None:
                continue
            if has_mark(content):
                with_mark.append(member.name)
            if f"sha256:{name}" in ours:
                content.seek(0)
                found.append(f"sha256:{name}")
                with tarfile.open(fileobj=content) as layer:
                    files += layer.getmembers()
    archive.unlink()
    assert sorted(found) == sorted(ours)
    return Saved(files=tuple(files), names_with_mark=tuple(with_mark), layers=ours)


def has_mark(content: IO[bytes]) -> bool:
    """Whether the mark stands anywhere in it, also across two pieces that are read."""
    before = b""
    while piece := content.read(2**20):
        if MARK.encode() in before + piece:
            return True
        before = piece[-len(MARK) :]
    return False


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module", autouse=True)
def rocm_base(docker_host: str, engine: docker.DockerClient) -> Iterator[None]:
    ensure_bases(docker_host, "--tag", ROCM)
    yield
    engine.images.remove(ROCM)


@pytest.fixture(scope="module")
def image(build: Callable[[ImageSpec], Built]) -> Built:
    return build(THESIS)


@pytest.fixture(scope="module")
def saved(engine: docker.DockerClient, image: Built, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save(engine, image.tag, ROCM, tmp_path_factory.mktemp("saved"))


def test_a_base_for_amds_gpus_carries_the_hubs_version(engine: docker.DockerClient, image: Built) -> None:
    assert "rocm" in ROCM
    said = ask(engine, image.tag, HUB_PYTHON, "-I", "-m", "jupyterhub.singleuser", "--version")
    assert said.strip() == jupyterhub.__version__


def test_the_packages_of_every_tier_can_be_imported_in_the_kernel(
    engine: docker.DockerClient, image: Built
) -> None:
    said = ask(engine, image.tag, HUB_PYTHON, "-I", "-c", ASK_KERNEL)
    assert "'text': '/usr/bin/python3 0.12.1\\n'" in said
    assert ask(engine, image.tag, "sh", "-c", "tree --version && echo 6*7 | bc").endswith("\n42\n")


def test_the_hub_layer_has_none_of_the_packages_that_were_asked_for(
    engine: docker.DockerClient, image: Built
) -> None:
    find = "import importlib.util as u; print([n for n in ('toolz', 'sortedcontainers') if u.find_spec(n)])"
    assert ask(engine, image.tag, HUB_PYTHON, "-I", "-c", find).strip() == "[]"
    assert "toolz" in ask(engine, image.tag, "/usr/bin/python3", "-c", find)


def test_everything_that_was_added_is_roots_and_nobody_else_can_write_it(saved: Saved) -> None:
    assert any(file.name.startswith("opt/ds01/hub/bin/") for file in saved.files)
    assert find_open(saved.files) == []


def find_open(files: Iterable[tarfile.TarInfo]) -> list[str]:
    """Return what is not root's alone: of another owner, writable by others, or with its owner's rights."""
    return [
        file.name
        for file in files
        if file.uid != 0
        or file.mode & (stat.S_ISUID | stat.S_ISGID)
        or (not file.issym() and file.mode & 0o022 and not (file.isdir() and file.mode & stat.S_ISVTX))
    ]


def test_everybody_can_read_the_hub_layer(saved: Saved) -> None:
    hub = [file for file in saved.files if file.name.startswith("opt/ds01") and not file.issym()]
    assert len(hub) > 1000
    unreadable = [file.name for file in hub if file.mode & (0o005 if file.isdir() else 0o004) == 0]
    assert unreadable == []


def test_a_build_leaves_none_of_its_own_files(saved: Saved) -> None:
    assert len(saved.files) > 1000
    assert find_left(saved.files) == []


def find_left(files: Iterable[tarfile.TarInfo]) -> list[str]:
    """Return the files that only the build itself had a use for."""
    return [
        file.name
        for file in files
        if file.isfile() and file.name.startswith(LEFT_BY_A_BUILD) and "/.wh." not in file.name
    ]


def test_no_setting_of_the_site_is_in_a_layer_or_in_what_describes_the_image(
    engine: docker.DockerClient, image: Built, saved: Saved
) -> None:
    assert saved.names_with_mark == ()
    described = engine.images.get(image.tag)
    assert MARK not in json.dumps(described.attrs) + json.dumps(described.history())
    names = [entry.partition("=")[0].lower() for entry in described.attrs["Config"]["Env"]]
    assert not {"no_proxy", "pip_config_file", "pip_cert", "ssl_cert_file"} & set(names)


def test_what_a_step_left_would_be_found_although_a_later_one_removed_it(
    engine: docker.DockerClient, builder: Builder, tmp_path: Path
) -> None:
    leak = "RUN --mount=type=secret,id=pip_config cp /run/secrets/pip_config /leak"
    careless = "RUN mkdir -p /root/.cache/pip && touch /root/.cache/pip/x /opt/x && chmod 666 /opt/x"
    builder.build(
        TAG, f"FROM {BASE}\n{leak}\n{careless}\nRUN rm -r /leak /opt/x /root/.cache\n", {}, len, Event()
    )
    try:
        found = save(engine, TAG, BASE, tmp_path)
        assert [f"sha256:{name.rpartition('/')[2]}" for name in found.names_with_mark] == found.layers[:1]
        assert find_open(found.files) == ["opt/x"]
        assert find_left(found.files) == ["root/.cache/pip/x"]
    finally:
        engine.images.remove(TAG, noprune=False)


def test_another_student_shares_every_layer_up_to_her_own_packages(
    engine: docker.DockerClient,
    build: Callable[[ImageSpec], Built],
    image: Built,
) -> None:
    # A layer is named by a hash of its content, so what is equal here is equal byte for byte.
    with umask(0o077):
        other = build(replace(THESIS, packages=(f"toolz==0.12.0; {NEW}",), requirements=()))
    hers, his = layers(engine, image.tag), layers(engine, other.tag)
    above = len(layers(engine, ROCM)) + TIERS_ABOVE
    assert his[:above] == hers[:above]
    assert his[above] != hers[above]
    assert len(his) == above + 1
    made = {step.layer for step in other.steps if step.state == "done"}
    assert made - {"", "base-image"} == {"packages"}


def test_another_use_case_shares_the_hub_layer_and_the_base_packages(
    engine: docker.DockerClient, build: Callable[[ImageSpec], Built], image: Built
) -> None:
    other = build(
        replace(THESIS, use_case_packages=("toolz",), system_packages=(), packages=(), requirements=())
    )
    hers, his = layers(engine, image.tag), layers(engine, other.tag)
    above = len(layers(engine, ROCM)) + 3
    assert his[:above] == hers[:above]
    assert his[above] != hers[above]


def test_the_worst_that_passes_reaches_pip_as_names_and_a_label_as_text(
    engine: docker.DockerClient, build: Callable[[ImageSpec], Built], image: Built
) -> None:
    wanted = [
        f"{name}; {NEW} and python_version < '3' and {marker}"
        for name in WORST_PACKAGES
        for marker in WORST_MARKERS
    ]
    value = '$(id) `id` ${HOME} "x" \'y\' <<EOF \\n \\" {{ spec }} é \\'
    spec = replace(
        THESIS,
        packages=normalise_requirements(wanted),
        requirements=(),
        labels=(("aime.mlc.BASE_IMAGE", ROCM), ("aime.mlc.MAINTAINER", value)),
    )
    built = build(spec)
    told = {line.partition("Ignoring ")[2].partition(":")[0] for line in built.log if "Ignoring " in line}
    assert told - {"ipykernel"} == {canonicalize_name(Requirement(text).name) for text in wanted}
    assert engine.images.get(built.tag).labels["aime.mlc.MAINTAINER"] == value
    harmless = [line for line in history(engine, image.tag) if "layer=requirements" not in line]
    assert history(engine, built.tag) == harmless
    assert len(layers(engine, built.tag)) == len(layers(engine, ROCM)) + TIERS_ABOVE + 1


def history(engine: docker.DockerClient, name: str) -> list[str]:
    """The instructions that an image was made by, as Docker kept them, but for its labels."""
    lines = [entry["CreatedBy"] for entry in engine.images.get(name).history()]
    assert sum(line.startswith("RUN") for line in lines) > TIERS_ABOVE
    return [line for line in lines if not line.startswith("LABEL")]


def test_the_worst_that_passes_reaches_apt_as_names(build: Callable[[ImageSpec], Built]) -> None:
    spec = replace(
        THESIS,
        system_packages=check_system_packages(WORST_SYSTEM_PACKAGES),
        packages=(),
        requirements=(),
    )
    with pytest.raises(BuildFailed) as caught:
        build(spec)
    log = caught.value.detail
    for name in WORST_SYSTEM_PACKAGES:
        # A "+" at the end of what it does not know says to apt that it be installed, as it shall.
        assert f"E: Unable to locate package {name.partition('=')[0].removesuffix('+')}\n" in log
    assert "regex" not in log
