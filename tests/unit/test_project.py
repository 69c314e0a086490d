"""What is left to do for a project, from what there is and what is wished for; and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01_spawner.cli.image.recipe import Owner
from ds01_spawner.cli.project import workspace
from ds01_spawner.cli.project.plan import (
    README,
    REQUIREMENTS,
    Found,
    Plan,
    Wish,
    make_plan,
    needs_framework,
    write_again,
)
from ds01_spawner.cli.project.result import describe_result
from ds01_spawner.cli.project.wizard import read_project_name
from ds01_spawner.errors import RequestRefused

REQUIRED = "/home/ada/workspace/thesis/requirements.txt"
WISH = Wish(name="thesis", framework="Pytorch", use_case="cv", packages=("wandb",), gpu="1g.10gb")
ALL_FILES = frozenset({"README.md", "requirements.txt", "Dockerfile"})
EVERYTHING = Found(files=ALL_FILES, recipe=True, image=True, container="running")


def plan(wish: Wish, found: Found, *, can_build: bool = True) -> Plan:
    return make_plan(wish, found, can_build=can_build, requirements=REQUIRED)


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def test_where_nothing_is_all_is_made() -> None:
    made = plan(WISH, Found())
    assert made.files == (README, REQUIREMENTS)
    assert made.image == words(f"image create thesis -f Pytorch -t cv -r {REQUIRED}")
    assert made.container == words("container create thesis --gpu 1g.10gb")
    assert made.has_image


def test_where_all_is_there_nothing_is_made() -> None:
    assert plan(WISH, EVERYTHING).is_empty


def test_without_docker_only_the_files_of_the_image_are_written_and_the_container_has_the_framework() -> None:
    made = plan(WISH, Found(), can_build=False)
    assert made.image == words(f"image create thesis -f Pytorch -t cv -r {REQUIRED} --no-build")
    assert made.container == words("container create thesis Pytorch --gpu 1g.10gb")
    assert not made.has_image


@pytest.mark.parametrize(
    ("found", "can_build", "image", "made"),
    [
        (Found(), True, "image", [README, REQUIREMENTS, "recipe", "image", "container"]),
        (Found(), False, None, [README, REQUIREMENTS, "recipe", "container"]),
        (Found(files=ALL_FILES, recipe=True), True, "image", ["image", "container"]),
        (EVERYTHING, True, "image", []),
    ],
)
def test_the_answer_for_scripts_says_what_there_is_and_what_of_it_is_new(
    found: Found, can_build: bool, image: str | None, made: list[str]
) -> None:
    done = plan(WISH, found, can_build=can_build)
    answer = describe_result("thesis", "image", Path("/w"), Path("/d"), found, done)
    assert (answer["image"], answer["container"], answer["made"]) == (image, "thesis", made)


def test_an_image_that_was_not_built_yet_is_built_from_its_folder() -> None:
    made = plan(WISH, Found(files=ALL_FILES, recipe=True))
    assert made.image == words("image update thesis")
    assert made.files == ()


def test_a_requirements_file_of_hers_is_left_and_the_packages_are_named_besides() -> None:
    made = plan(WISH, Found(files=frozenset({REQUIREMENTS})))
    assert made.files == (README,)
    assert made.image == words(f"image create thesis -f Pytorch -t cv -p wandb -r {REQUIRED}")


@pytest.mark.parametrize(
    ("gpu", "said"),
    [(None, ()), ("", ()), ("none", ("--cpu-only",)), ("full:2", ("--gpu", "full:2"))],
)
def test_the_gpu_is_said_as_container_create_has_it(gpu: str | None, said: tuple[str, ...]) -> None:
    wish = Wish(name="thesis", framework="Pytorch", gpu=gpu, profile="small")
    assert plan(wish, Found()).container == ("container", "create", "thesis", "--profile", "small", *said)


def test_a_version_goes_with_its_framework() -> None:
    wish = Wish(name="thesis", framework="Pytorch", version="2.7.1")
    assert plan(wish, Found()).image[3:7] == ("-f", "Pytorch", "-V", "2.7.1")
    assert plan(wish, Found(), can_build=False).container[3:] == ("Pytorch", "2.7.1")


def test_without_a_container_none_is_made() -> None:
    assert plan(Wish(name="thesis", framework="Pytorch", has_container=False), Found()).container == ()


@pytest.mark.parametrize(
    ("found", "can_build", "needed"),
    [
        (Found(), True, True),
        (Found(), False, True),
        (Found(recipe=True), True, False),
        (Found(recipe=True), False, True),
        (Found(recipe=True, container="running"), False, False),
        (Found(image=True), True, False),
        (EVERYTHING, True, False),
    ],
)
def test_a_framework_is_asked_for_where_a_step_needs_it(found: Found, can_build: bool, needed: bool) -> None:
    assert needs_framework(WISH, found, can_build=can_build) is needed


def test_the_command_that_goes_on_has_all_that_was_answered() -> None:
    wish = Wish(
        name="thesis",
        framework="Pytorch",
        version="2.7.1",
        use_case="cv",
        packages=("wandb", "torch>=2"),
        gpu="none",
        profile="small",
        has_image=False,
        has_container=False,
    )
    assert write_again(wish) == (
        "ds01 project init thesis -f Pytorch -V 2.7.1 -t cv -p 'wandb torch>=2' --profile small --cpu-only "
        "--no-image --no-container"
    )
    assert write_again(Wish(name="thesis", gpu="")) == "ds01 project init thesis"


@pytest.mark.parametrize("text", ["", "a/b", "Thesis", "1st", "jupyter", "x" * 31, "thesis-", "a-ada-image"])
def test_a_name_that_no_container_or_image_can_have_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="such as my-thesis"):
        read_project_name(text, Owner(login="ada", uid=1001, folder=tmp_path))


def test_files_are_written_once_and_kept_from_then_on(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "thesis"
    assert workspace.list_files(folder) == frozenset()
    workspace.write_files(folder, (README, REQUIREMENTS), ("wandb", "torch>=2"))
    assert (folder / REQUIREMENTS).read_text().splitlines()[1:] == ["wandb", "torch>=2"]
    assert (folder / README).read_text().startswith("# thesis\n")
    assert workspace.list_files(folder) == {README, REQUIREMENTS}


def test_the_dockerfile_is_a_link_to_the_one_of_the_image(tmp_path: Path) -> None:
    folder, recipe = tmp_path / "thesis", tmp_path / "recipe"
    folder.mkdir()
    workspace.link_dockerfile(folder, recipe)
    assert list(folder.iterdir()) == []
    recipe.mkdir()
    (recipe / "Dockerfile").write_text("FROM x\n")
    workspace.link_dockerfile(folder, recipe)
    assert (folder / "Dockerfile").readlink() == recipe / "Dockerfile"


def test_a_dockerfile_of_hers_is_kept(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM mine\n")
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "Dockerfile").write_text("FROM x\n")
    workspace.link_dockerfile(tmp_path, recipe)
    assert (tmp_path / "Dockerfile").read_text() == "FROM mine\n"


def test_what_is_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("")
    with pytest.raises(RequestRefused, match="is no folder"):
        workspace.list_files(tmp_path / "thesis")


def test_a_home_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    with pytest.raises(RequestRefused, match="Ask your admin"):
        workspace.check_home()
