"""`ds01 image` where Docker does not answer: what it asks, prints and writes, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import pwd
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from ds01_spawner.cli.image import folder
from ds01_spawner.cli.image.parts import require_engine
from ds01_spawner.cli.image.recipe import (
    LISTS,
    Owner,
    Recipe,
    make_spec,
    read_defaults,
    read_list,
    read_name,
    render_files,
)
from ds01_spawner.cli.sources import Sources
from ds01_spawner.errors import EngineUnavailable, RequestRefused
from ds01_spawner.image import DEFAULT_USE_CASES, BaseProbe, render_dockerfile
from ds01_spawner.templating import read_dockerfile
from tests.unit.shell import ROOT, Shell, write_config

CATALOG = str(ROOT / "tests" / "data" / "ml_images.v2.repo")
FILES = ("--catalog", CATALOG, "--arch", "CUDA_ADA")
BASE = "lab/pytorch-2.8.0-aime-cuda12.6.3"
USUAL = BaseProbe(
    python="/usr/bin/python3", version=(3, 10), has_pip=True, has_venv=True, has_apt=True, has_bash=True
)
# Name, framework, version, base packages, use case, packages, requirements, system packages.
ANSWERS = ("thesis", "", "", "", "cv", "wandb torch>=2,<3", "", "ffmpeg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where a person sits who has a home, and no Docker."""

    shell: Shell
    home: Path
    owner: Owner
    patch: pytest.MonkeyPatch

    def run(self, *arguments: str, answers: tuple[str, ...] = ()) -> tuple[object, str, str]:
        typed = "".join(f"{answer}\n" for answer in answers).encode()
        self.patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
        return self.shell.run("image", *arguments)

    def create(self, *arguments: str, answers: tuple[str, ...] = ()) -> tuple[object, str, str]:
        return self.run("create", *arguments, *FILES, answers=answers)

    def read(self, name: str, file: str) -> str:
        return (self.home / "dockerfiles" / name / file).read_text()

    @property
    def all_files(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))


@pytest.fixture
def desk(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    login = pwd.getpwuid(os.getuid()).pw_name
    owner = Owner(login=login, uid=os.getuid(), folder=home / "dockerfiles")
    return Desk(shell=shell, home=home, owner=owner, patch=monkeypatch)


# from the command line


def test_what_is_printed_is_what_the_one_renderer_gives(desk: Desk) -> None:
    status, out, err = desk.create("thesis", "-f", "pytorch", "-t", "CV", "-p", "wandb", "--print")
    recipe = Recipe(
        name="thesis",
        base=BASE,
        base_packages=read_defaults(None).base_packages,
        base_system_packages=read_defaults(None).base_system_packages,
        use_case="cv",
        use_case_packages=DEFAULT_USE_CASES["cv"],
        packages=("wandb",),
    )
    spec = make_spec(recipe, desk.owner, read_defaults(None))
    assert (status, out) == (0, render_dockerfile(spec, USUAL, read_dockerfile("Dockerfile.j2")))
    assert err.startswith(f"ds01: The base image {BASE} was not looked into. Docker does not answer, so")
    assert desk.all_files == []


def test_a_printed_dockerfile_says_whose_the_image_is(desk: Desk) -> None:
    _, out, _ = desk.create("thesis", "--base", "ubuntu:24.04", "--print")
    assert [line for line in out.splitlines() if line.startswith("LABEL")] == [
        'LABEL "aime.mlc.BASE_IMAGE"="ubuntu:24.04"',
        f'LABEL "aime.mlc.MAINTAINER"="{desk.owner.login}"',
        f'LABEL "aime.mlc.MAINTAINER_ID"="{desk.owner.uid}"',
        f'LABEL "aime.mlc.CUSTOM_IMAGE"="thesis-{desk.owner.login}-image"',
    ]


def test_files_are_written_as_they_are_built(desk: Desk, tmp_path: Path) -> None:
    wishes = tmp_path / "wishes.txt"
    wishes.write_text("# mine\nNumPy == 2.0  # for speed\n")
    status, out, _ = desk.create(
        "thesis",
        "-f",
        "torch",
        "-V",
        "2.8.0",
        "-p",
        "wandb, six",
        "-p",
        "torch>=2,<3",
        "-s",
        "tree ffmpeg",
        "-r",
        str(wishes),
        "--no-build",
    )
    assert (status, out) == (
        0,
        "The files of your image are in ~/dockerfiles/thesis. Build it with: ds01 image update thesis\n",
    )
    assert desk.read("thesis", "Dockerfile").startswith(
        "# An image of DS01 Spawner.\nFROM lab/pytorch-2.8.0-cuda12"
    )
    assert desk.read("thesis", "packages.txt") == "six\ntorch<3,>=2\nwandb\n"
    assert desk.read("thesis", "requirements.txt") == "numpy==2.0\n"
    assert desk.read("thesis", "system.txt") == "ffmpeg\ntree\n"
    assert "pandas\n" in desk.read("thesis", "base.txt")


def test_the_dockerfile_is_found_at_its_older_place_too(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    link = desk.home / "dockerfiles" / f"thesis-{desk.owner.login}.Dockerfile"
    assert link.read_text() == desk.read("thesis", "Dockerfile")


def test_a_dockerfile_of_the_older_tools_is_left_alone(desk: Desk) -> None:
    old = desk.home / "dockerfiles" / f"thesis-{desk.owner.login}.Dockerfile"
    old.parent.mkdir()
    old.write_text("FROM old\n")
    status, _, err = desk.create("thesis", "--base", "a/b", "--no-build")
    assert (status, old.read_text()) == (0, "FROM old\n")
    assert f"~/dockerfiles/{old.name} is there already" in err


def test_the_result_is_json_for_scripts(desk: Desk) -> None:
    status, out, _ = desk.create("thesis", "--base", "a/b", "--no-build", "--json")
    assert (status, json.loads(out)) == (
        0,
        {
            "name": "thesis",
            "image": f"thesis-{desk.owner.login}-image",
            "base": "a/b",
            "folder": str(desk.home / "dockerfiles" / "thesis"),
            "built": False,
            "id": None,
            "seconds": None,
            "steps": None,
            "reused": None,
        },
    )


def test_base_packages_may_be_left_out(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-base-packages", "--no-build")
    assert desk.read("thesis", "base.txt") == desk.read("thesis", "base-system.txt") == ""


def test_the_site_says_what_every_image_gets_and_which_use_cases_there_are(
    desk: Desk, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path,
        f"c.DS01.catalog_file = {CATALOG!r}",
        "c.DS01.architecture = 'CUDA_ADA'",
        "c.DS01.base_packages = ['tqdm']",
        "c.DS01.use_cases = {'bio': ['biopython']}",
    )
    desk.patch.setenv("DS01_CONFIG", config)
    status, _, _ = desk.run("create", "x", "-f", "pytorch", "-t", "bio", "--no-build")
    assert (status, desk.read("x", "base.txt"), desk.read("x", "use-case.txt")) == (
        0,
        "tqdm\n",
        "biopython\n",
    )
    _, _, err = desk.run("create", "y", "-f", "pytorch", "-t", "cv", "--no-build")
    assert err == "ds01: There is no use case 'cv'. Take one of none, bio.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-f", "nope"), "There is no framework 'nope' in the catalog."),
        (("-f", "pytorch", "-t", "nope"), "There is no use case 'nope'. Take one of none, cv, nlp, rl, ml."),
        (("-f", "pytorch", "-p", "a;b"), "'a;b' is not the name of a package."),
        (("-f", "pytorch", "-p--index-url=x"), "'--index-url=x' is an option of pip, not a package."),
        (("-f", "pytorch", "-s", "a;b"), "'a;b' is not the name of a system package."),
        (("-f", "pytorch", "-r", "/nowhere/r.txt"), "The requirements file /nowhere/r.txt cannot be read"),
        (("--base", "a b"), "'a b' is not the name of an image."),
        (("--base", "a\nRUN true"), "'a\\nRUN true' is not the name of an image."),
    ],
)
def test_what_cannot_be_had_is_a_sentence_and_makes_nothing(
    desk: Desk, arguments: tuple[str, ...], sentence: str
) -> None:
    status, out, err = desk.create("thesis", *arguments, "--no-build")
    assert (status, out) == (1, "")
    assert err.startswith(f"ds01: {sentence}")
    assert desk.all_files == []


@pytest.mark.parametrize("arguments", [("--base", "a/b", "-f", "tf"), ("-V", "2"), ("--json", "--print")])
def test_options_that_contradict_each_other_are_misuse(desk: Desk, arguments: tuple[str, ...]) -> None:
    status, out, err = desk.create("thesis", *arguments)
    assert (status, out) == (2, "")
    assert "usage: ds01 image create" in err


def test_what_is_there_is_not_overwritten(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    before = desk.read("thesis", "Dockerfile")
    status, _, err = desk.create("Thesis", "--base", "c/d", "--no-build")
    assert status == 1
    assert err == (
        "ds01: ~/dockerfiles/thesis is there already. `ds01 image update thesis` builds what is in it, "
        "`ds01 image delete thesis` removes it; or take another name.\n"
    )
    assert desk.read("thesis", "Dockerfile") == before


def test_an_empty_folder_of_that_name_is_not_taken(desk: Desk) -> None:
    (desk.home / "dockerfiles" / "thesis").mkdir(parents=True)
    assert desk.create("thesis", "--base", "a/b", "--no-build")[0] == 1
    assert desk.all_files == ["dockerfiles", "dockerfiles/thesis"]


def test_a_home_that_cannot_be_written_is_a_sentence(desk: Desk) -> None:
    (desk.home / "dockerfiles").write_text("a file")
    status, _, err = desk.create("thesis", "--base", "a/b", "--no-build")
    assert status == 1
    assert "ds01: ~/dockerfiles/thesis cannot be used:" in err
    assert desk.all_files == ["dockerfiles"]


def test_without_docker_building_is_refused_before_anything_is_asked(desk: Desk) -> None:
    status, out, err = desk.create(answers=ANSWERS)
    assert (status, out, desk.all_files) == (1, "", [])
    assert err.startswith(
        "ds01: Docker does not answer on this machine, and images are built with it. Start a server in the "
        "browser, where the same packages can be chosen, or ask your admin; `ds01 image create` with "
        "--no-build or --print works without.\n"
    )
    desk.create("thesis", "--base", "a/b", "--no-build")
    assert "Docker does not answer" in desk.run("update", "thesis")[2]


def test_who_may_not_use_docker_reads_one_sentence(desk: Desk, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "none.sock"))
    os.chmod(tmp_path / "none.sock", 0)
    # Once its rights are gone, the child may not be able to read it.
    import_module("ds01_spawner.adapters.engine")

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            require_engine(Sources())
        except EngineUnavailable as exc:
            os.write(writing, f"{exc.message}{exc.detail}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        said = answer.read()
    assert said.startswith(
        "Only root and the docker group may use Docker on this machine, and images are built"
    )
    assert said.endswith("--no-build or --print works without.")


# asked


def test_the_wizard_asks_in_three_phases_and_writes_what_was_answered(desk: Desk) -> None:
    status, out, err = desk.create("--no-build", answers=ANSWERS)
    assert (status, out.count("\n")) == (0, 1)
    phases = [line for line in err.splitlines() if line.startswith("Phase")]
    assert phases == ["Phase 1/3: Where to start", "Phase 2/3: What to add", "Phase 3/3: Build"]
    assert f"  Base image: {BASE}\n" in err
    assert "  Use case cv: albumentations, opencv-python-headless, timm, torchvision\n" in err
    assert desk.read("thesis", "packages.txt") == "torch<3,>=2\nwandb\n"
    assert desk.read("thesis", "system.txt") == "ffmpeg\n"
    assert desk.read("thesis", "use-case.txt").splitlines() == list(DEFAULT_USE_CASES["cv"])


def test_answers_and_options_make_the_same_files(desk: Desk) -> None:
    desk.create("--no-build", answers=ANSWERS)
    options = ("-f", "pytorch", "-t", "cv", "-p", "wandb", "-p", "torch>=2,<3", "-s", "ffmpeg", "--no-build")
    desk.create("other", *options)
    for file in ("Dockerfile", *LISTS):
        assert desk.read("thesis", file).replace("thesis-", "other-") == desk.read("other", file)


def test_enter_alone_takes_what_is_proposed(desk: Desk) -> None:
    desk.create("--no-build", answers=("thesis", *[""] * 7))
    assert f"FROM {BASE}\n" in desk.read("thesis", "Dockerfile")
    assert desk.read("thesis", "use-case.txt").splitlines() == list(DEFAULT_USE_CASES["ml"])
    assert desk.read("thesis", "packages.txt") == desk.read("thesis", "requirements.txt") == ""


def test_what_the_command_line_says_is_not_asked(desk: Desk) -> None:
    status, _, err = desk.create(
        "thesis", "-t", "rl", "-p", "six", "--no-build", answers=("tensorflow", "", "n", "", "")
    )
    assert status == 0
    assert "What is the image called?" not in err
    assert "What is it for?" not in err
    assert "FROM lab/tensorflow-2.16.1-cuda12.3\n" in desk.read("thesis", "Dockerfile")


def test_wrong_answers_are_told_and_asked_again(desk: Desk, tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_text("six\n-e .\n")
    answers = (
        "Ä",
        "",
        "thesis",
        "torch?",
        "pytorch",
        "9",
        "2.8",
        "perhaps",
        "n",
        "art",
        "none",
        "-e .",
        "six",
    )
    status, _, err = desk.create("--no-build", answers=(*answers, "/nowhere", str(broken), "", "a|b", "tree"))
    assert status == 0
    for sentence in (
        "'Ä' cannot be the name of an image.",
        "An image needs a name",
        "'torch?' is none of them.",
        "There is no Pytorch '9', only 2.8.0-aime, 2.8.0, 2.1.0-aime, 1.14.0a-nvidia.",
        "Answer with y for yes, or n for no.",
        "'art' is none of them.",
        "is an option of pip, not a package.",
        "The requirements file /nowhere cannot be read (No such file or directory).",
        "Line 2 of the requirements file uses the option '-e'",
        "'a|b' is not the name of a system package.",
    ):
        assert sentence in " ".join(err.split())
    assert desk.read("thesis", "packages.txt") == "six\n"


def test_a_name_that_is_taken_is_a_wrong_answer(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    status, _, err = desk.create("--no-build", answers=("thesis", "other", *ANSWERS[1:]))
    assert status == 0
    assert "~/dockerfiles/thesis is there already." in err
    assert desk.read("other", "packages.txt")


def test_another_image_may_be_the_base(desk: Desk) -> None:
    status, _, _ = desk.create("--no-build", answers=("thesis", "another image", "a b", "a/b:1", *[""] * 5))
    assert status == 0
    assert "FROM a/b:1\n" in desk.read("thesis", "Dockerfile")


@pytest.mark.parametrize("guided", [(), ("--guided",)])
@pytest.mark.parametrize("count", range(len(ANSWERS)))
def test_who_leaves_at_any_question_leaves_nothing(desk: Desk, count: int, guided: tuple[str, ...]) -> None:
    status, out, err = desk.create("--no-build", *guided, answers=ANSWERS[:count])
    assert (status, out, desk.all_files) == (130, "", [])
    assert err.endswith("\nds01: Nothing was changed.\n")


def test_guided_explains_what_the_bare_wizard_only_asks(desk: Desk) -> None:
    bare = desk.create("bare", "--no-build", answers=ANSWERS[1:])[2]
    guided = desk.create("guided", "--guided", "--no-build", answers=ANSWERS[1:])[2]
    words = " ".join(guided.split())
    assert "Images are made in layers, each on top of the one before: 1. AIME's base image" in words
    assert "Images are made in layers" not in " ".join(bare.split())
    assert [line for line in bare.splitlines() if line.endswith("?")] == [
        line for line in guided.splitlines() if line.endswith("?")
    ]


def test_a_printed_dockerfile_after_questions_is_alone_on_stdout(desk: Desk) -> None:
    _, out, err = desk.create("--print", answers=ANSWERS)
    assert out.startswith("# An image of DS01 Spawner.\nFROM ")
    assert "Which framework?" in err
    assert desk.all_files == []


def test_without_a_catalog_there_are_the_usual_frameworks(desk: Desk) -> None:
    desk.patch.setattr("ds01_spawner.catalog.SEARCH_PATHS", ())
    status, _, err = desk.run("create", "--no-build", "--arch", "CUDA", answers=("x", "2", *[""] * 5))
    assert status == 0
    assert "FROM tensorflow/tensorflow:2.14.0-gpu\n" in desk.read("x", "Dockerfile")
    assert "Which version?" not in err


# her own


def test_folders_are_listed_where_docker_does_not_answer(desk: Desk) -> None:
    assert desk.run("list") == (
        0,
        "",
        "ds01: Docker does not answer you here, so only the folders are known.\n"
        "ds01: You have no images. Make one with: ds01 image create\n",
    )
    for name in ("thesis", "a"):
        desk.create(name, "--base", "a/b", "--no-build")
    (desk.home / "dockerfiles" / "notes").mkdir()
    status, out, _ = desk.run("list")
    assert (status, [line.split()[0] for line in out.splitlines()]) == (0, ["NAME", "a", "thesis"])
    (first, _) = json.loads(desk.run("list", "--json")[1])
    assert first == {
        "name": "a",
        "image": f"a-{desk.owner.login}-image",
        "built": False,
        "id": None,
        "base": None,
        "size_bytes": None,
        "created_at": None,
        "folder": str(desk.home / "dockerfiles" / "a"),
    }


def test_a_folder_is_deleted_after_asking(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    before = desk.all_files
    assert desk.run("delete", "thesis", answers=("n",))[0] == 0
    assert desk.run("delete", "thesis")[0] == 130
    assert desk.all_files == before
    status, out, _ = desk.run("delete", "thesis", answers=("y",))
    assert (status, out) == (0, "The folder ~/dockerfiles/thesis is removed.\n")
    assert desk.all_files == ["dockerfiles"]


def test_deleting_is_not_asked_for_with_yes(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    status, out, _ = desk.run("delete", f"thesis-{desk.owner.login}-image", "--yes", "--json")
    assert (status, json.loads(out)) == (
        0,
        {"name": "thesis", "image_removed": False, "folder_removed": True},
    )
    assert desk.all_files == ["dockerfiles"]


def test_the_older_dockerfile_survives_a_deletion(desk: Desk) -> None:
    old = desk.home / "dockerfiles" / f"thesis-{desk.owner.login}.Dockerfile"
    old.parent.mkdir()
    old.write_text("FROM old\n")
    desk.create("thesis", "--base", "a/b", "--no-build")
    desk.run("delete", "thesis", "--yes")
    assert old.read_text() == "FROM old\n"


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_an_image_that_is_not_there_is_a_sentence(desk: Desk, verb: str) -> None:
    status, _, err = desk.run(verb, "nope")
    assert status == 1
    assert "`ds01 image list` shows" in err


# the rules below


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Thesis", "my-thesis"), (" a ", "a"), ("a.b_c-d", "a.b_c-d"), ("thesis-eve-image", "thesis")],
)
def test_a_name_is_read_as_the_older_tools_read_it(text: str, name: str) -> None:
    assert read_name(text, Owner(login="Eve", uid=1001, folder=Path("/x"))) == name


@pytest.mark.parametrize(
    "text", ["", "-a", "a/b", "../a", "a:b", "ä", "a" * 61, "a\x00", "..", "a_", "-eve-image"]
)
def test_what_docker_would_not_take_is_no_name(text: str) -> None:
    with pytest.raises(RequestRefused):
        read_name(text, Owner(login="eve", uid=1001, folder=Path("/x")))


def test_each_list_of_a_folder_is_read_back_as_it_was_meant() -> None:
    lists = {
        field: ("ffmpeg", "tree") if field.endswith("system_packages") else ("numpy>=2", "six")
        for field in LISTS.values()
    }
    owner, defaults = Owner(login="eve", uid=1001, folder=Path("/x")), read_defaults(None)
    recipe = Recipe(name="thesis", base="a/b", use_case="cv", **lists)
    files = render_files(make_spec(recipe, owner, defaults), USUAL)
    assert {LISTS[file]: read_list(file, files[file]) for file in LISTS} == lists


def test_a_wrong_line_of_a_list_is_named_with_its_file() -> None:
    with pytest.raises(RequestRefused, match=r"^packages.txt: Line 2: 'a b' is not"):
        read_list("packages.txt", "six\na b\n")
    with pytest.raises(RequestRefused, match=r"^system.txt: '-y' is not"):
        read_list("system.txt", "tree # a comment\n-y\n")


def test_an_edited_file_makes_a_folder_hers_and_an_edited_list_does_not(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    path = desk.home / "dockerfiles" / "thesis"
    assert folder.read(path).is_ours
    (path / "packages.txt").write_text("six\n")
    (path / "notes.md").write_text("mine")
    assert folder.read(path).is_ours
    (path / "Dockerfile").write_text("FROM a/b\n")
    assert not folder.read(path).is_ours


def test_a_folder_without_a_record_is_hers(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    path = desk.home / "dockerfiles" / "thesis"
    (path / ".ds01.json").unlink()
    assert not folder.read(path).is_ours
    (path / ".ds01.json").write_text("{")
    with pytest.raises(RequestRefused, match="cannot be read"):
        folder.read(path)


def test_the_log_and_hidden_files_are_no_part_of_a_build(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    path = desk.home / "dockerfiles" / "thesis"
    for name in (".git", "data"):
        (path / name).mkdir()
    (path / "build.log").write_text("x")
    assert sorted(folder.read(path).files) == sorted(
        ["Dockerfile", "hub.txt", "kernel.txt", "kernel.json", *LISTS]
    )


def test_a_folder_with_data_in_it_is_refused(desk: Desk) -> None:
    desk.create("thesis", "--base", "a/b", "--no-build")
    path = desk.home / "dockerfiles" / "thesis"
    with (path / "data.bin").open("wb") as file:
        file.truncate(folder.MOST_BYTES + 1)
    with pytest.raises(RequestRefused, match="more than 64 MiB together"):
        folder.read(path)


def test_jupyterhub_is_not_imported_for_what_needs_it_not(desk: Desk) -> None:
    script = (
        "import sys; from ds01_spawner.cli import main\n"
        "assert main(['image', 'create', 'a', '--base', 'a/b', '--print']) == 0\n"
        "assert main(['image', 'create', 'a', '--base', 'a/b', '--no-build']) == 0\n"
        "assert main(['image', 'list']) == 0\n"
        "assert 'jupyterhub' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
