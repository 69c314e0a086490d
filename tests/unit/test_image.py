"""The image as a value: its tag, its Dockerfile and context, and what a base must bring."""

import json
import re
from dataclasses import replace

import pytest

from ds01_spawner.buildlog import LAYERS
from ds01_spawner.errors import ConfigBroken, ImageFailed
from ds01_spawner.image import (
    DEFAULT_USE_CASES,
    BaseProbe,
    check_base,
    content,
    context_files,
    parse_probe,
    render_dockerfile,
    tag,
)
from ds01_spawner.model import ImageSpec
from ds01_spawner.templating import read_dockerfile

TEMPLATE = read_dockerfile("Dockerfile.j2")
DEBIAN = BaseProbe(
    python="/usr/bin/python3",
    version=(3, 11, 2),
    has_pip=True,
    has_venv=True,
    has_apt=True,
    has_bash=True,
    architecture="x86_64",
)
NO_PYTHON = BaseProbe(has_apt=True, has_bash=True, architecture="x86_64")
PLAIN = ImageSpec(base="aimehub/pytorch:1", base_id="sha256:aa", hub_version="6.1.1")
FULL = replace(
    PLAIN,
    base_system_packages=("git",),
    base_packages=("pandas",),
    use_case="cv",
    use_case_packages=DEFAULT_USE_CASES["cv"],
    system_packages=("ffmpeg",),
    packages=("wandb",),
    requirements=("tabulate==0.9.0",),
    labels=(("aime.mlc.BASE_IMAGE", "aimehub/pytorch:1"), ("aime.mlc.MAINTAINER", "DS01")),
)
PROBE_OUTPUT = (
    "a line of the base's own\nds01.python=/opt/venv/bin/python3\nds01.version=3.10.12\nds01.pip=yes\n"
    "ds01.venv=yes\nds01.ensurepip=yes\nds01.bash=yes\nds01.apt-get=yes\nds01.architecture=aarch64\nds01.end=yes\n"
)


def layers_of(dockerfile: str) -> list[str]:
    return [line.split("layer=")[1].split()[0] for line in dockerfile.splitlines() if ": layer=" in line]


def test_equal_specs_have_one_tag() -> None:
    assert tag(replace(FULL), TEMPLATE) == tag(FULL, TEMPLATE)
    assert re.fullmatch("ds01/image:[0-9a-f]{16}-[0-9a-f]{12}", tag(FULL, TEMPLATE))


def test_an_image_on_another_base_id_has_the_same_content_and_another_tag() -> None:
    for change in ({"base_id": "sha256:bb"}, {"runtime_id": "sha256:cc"}):
        other = replace(FULL, **change)
        assert content(other, TEMPLATE) == content(FULL, TEMPLATE)
        assert tag(other, TEMPLATE) != tag(FULL, TEMPLATE)
        assert tag(other, TEMPLATE).startswith(f"{content(FULL, TEMPLATE)}-")


@pytest.mark.parametrize(
    "change",
    [
        {"base": "other:1"},
        {"base_id": "sha256:bb"},
        {"hub_version": "6.1.0"},
        {"runtime_image": "python:1"},
        {"runtime_id": "sha256:cc"},
        {"base_packages": ("numpy",)},
        {"base_system_packages": ()},
        {"use_case_packages": ("timm",)},
        {"packages": ("wandb==1",)},
        {"requirements": ()},
        {"system_packages": ("ffmpeg", "tree")},
        {"labels": ()},
    ],
)
def test_whatever_goes_in_changes_the_tag(change: dict[str, object]) -> None:
    assert tag(replace(FULL, **change), TEMPLATE) != tag(FULL, TEMPLATE)  # type: ignore[arg-type]


def test_a_package_that_moves_to_another_list_changes_the_tag() -> None:
    moved = replace(FULL, packages=(), requirements=("wandb", *FULL.requirements))
    assert tag(moved, TEMPLATE) != tag(FULL, TEMPLATE)


def test_another_template_changes_the_tag() -> None:
    assert tag(FULL, TEMPLATE + "\n") != tag(FULL, TEMPLATE)


def test_layers_stand_in_the_order_in_which_students_share_them() -> None:
    dockerfile = render_dockerfile(FULL, DEBIAN, TEMPLATE)
    assert layers_of(dockerfile) == [
        "hub",
        "base-system",
        "base",
        "use-case",
        "system",
        "packages",
        "requirements",
    ]
    assert dockerfile.index("LABEL") > dockerfile.index("layer=requirements")


def test_an_empty_list_makes_no_layer_but_the_kernel_is_always_there() -> None:
    assert layers_of(render_dockerfile(PLAIN, DEBIAN, TEMPLATE)) == ["hub", "base"]


def test_every_layer_of_the_template_has_a_name_for_people() -> None:
    assert set(layers_of(render_dockerfile(FULL, DEBIAN, TEMPLATE))) <= set(LAYERS)


def test_no_package_name_stands_in_the_dockerfile() -> None:
    dockerfile = render_dockerfile(FULL, DEBIAN, TEMPLATE)
    for name in ("pandas", "timm", "ffmpeg", "wandb", "tabulate"):
        assert name not in dockerfile


def test_the_dockerfile_asks_no_registry_for_its_syntax_and_has_no_entrypoint() -> None:
    lines = render_dockerfile(FULL, DEBIAN, TEMPLATE).splitlines()
    assert not any(line.startswith("# syntax") for line in lines)
    assert "ENTRYPOINT []" in lines


def test_the_kernel_runs_in_the_images_own_python() -> None:
    files = context_files(FULL, replace(DEBIAN, python="/opt/conda/bin/python3"))
    assert json.loads(files["kernel.json"])["argv"] == [
        "/opt/conda/bin/python3",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]


def test_a_base_without_python_gets_both_environments_from_the_runtime() -> None:
    spec = replace(PLAIN, runtime_image="site/runtime:1")
    dockerfile = render_dockerfile(spec, NO_PYTHON, TEMPLATE)
    assert "COPY --from=site/runtime:1 /opt/python /opt/ds01/python" in dockerfile
    assert "ENV PATH=/opt/ds01/kernel/bin:$PATH" in dockerfile
    kernel = json.loads(context_files(spec, NO_PYTHON)["kernel.json"])
    assert kernel["argv"][0] == "/opt/ds01/kernel/bin/python"


def test_an_old_python_keeps_the_kernel_and_leaves_the_hub_to_the_runtime() -> None:
    old = replace(DEBIAN, version=(3, 8, 10))
    spec = replace(PLAIN, runtime_image="site/runtime:1")
    dockerfile = render_dockerfile(spec, old, TEMPLATE)
    assert "/opt/ds01/python/bin/python3 -m venv /opt/ds01/hub" in dockerfile
    assert "/opt/ds01/kernel" not in dockerfile
    assert json.loads(context_files(spec, old)["kernel.json"])["argv"][0] == "/usr/bin/python3"


def test_a_python_without_venv_makes_its_environment_with_virtualenv() -> None:
    dockerfile = render_dockerfile(PLAIN, replace(DEBIAN, has_venv=False), TEMPLATE)
    assert "-m virtualenv" in dockerfile
    assert "-m venv" not in dockerfile


def test_a_good_python_needs_no_runtime() -> None:
    dockerfile = render_dockerfile(replace(PLAIN, runtime_image="site/runtime:1"), DEBIAN, TEMPLATE)
    assert "COPY" not in dockerfile


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (replace(DEBIAN, has_bash=False), "no bash"),
        (NO_PYTHON, "has no Python"),
        (replace(DEBIAN, version=(3, 8, 10)), "has Python 3.8.10"),
        (replace(DEBIAN, has_pip=False), "has a Python without pip"),
    ],
)
def test_a_base_that_will_not_do_is_refused_by_name(probe: BaseProbe, words: str) -> None:
    with pytest.raises(ImageFailed, match=rf"aimehub/pytorch:1 .*{words}"):
        check_base(PLAIN, probe)
    with pytest.raises(ImageFailed, match=words):
        render_dockerfile(PLAIN, probe, TEMPLATE)


def test_system_packages_on_a_base_without_apt_are_refused() -> None:
    with pytest.raises(ImageFailed, match="no apt"):
        check_base(FULL, replace(DEBIAN, has_apt=False))


def test_the_sites_system_packages_are_left_out_where_there_is_no_apt() -> None:
    spec = replace(FULL, system_packages=())
    assert "base-system" not in layers_of(render_dockerfile(spec, replace(DEBIAN, has_apt=False), TEMPLATE))


@pytest.mark.parametrize("base", ["", "x\nRUN id", "x y", "$HOME", "x AS y", "--platform=x", 'x"', "x" * 300])
def test_a_base_that_is_not_the_name_of_an_image_adds_no_instruction(base: str) -> None:
    with pytest.raises(ImageFailed, match="not the name of an image"):
        render_dockerfile(replace(PLAIN, base=base), DEBIAN, TEMPLATE)


def test_a_runtime_image_that_is_not_a_name_is_the_admins_to_mend() -> None:
    with pytest.raises(ConfigBroken, match="runtime_image"):
        render_dockerfile(replace(PLAIN, runtime_image="x y"), DEBIAN, TEMPLATE)


def test_a_label_is_quoted_for_the_dockerfile() -> None:
    spec = replace(PLAIN, labels=(("aime.mlc.MAINTAINER", 'a "b" $HOME \\'),))
    assert r'LABEL "aime.mlc.MAINTAINER"="a \"b\" \$HOME \\"' in render_dockerfile(spec, DEBIAN, TEMPLATE)


@pytest.mark.parametrize("label", [("a", "b,c"), ("a", "b\nRUN id"), ('a"b', "c"), ("a b", "c"), ("", "c")])
def test_a_label_that_a_tool_cannot_read_is_refused(label: tuple[str, str]) -> None:
    with pytest.raises(ConfigBroken):
        render_dockerfile(replace(PLAIN, labels=(label,)), DEBIAN, TEMPLATE)


@pytest.mark.parametrize(
    "line", ["", "-r x", "x\n--index-url=y", " x", "x\r", "x -r y", "x #", "x\\", "x${A}"]
)
def test_a_list_of_packages_holds_no_option_and_no_second_line(line: str) -> None:
    for field in ("base_packages", "use_case_packages", "packages", "requirements", "system_packages"):
        with pytest.raises(ConfigBroken):
            context_files(replace(PLAIN, **{field: (line,)}), DEBIAN)  # type: ignore[arg-type]


def test_the_server_has_the_hubs_version() -> None:
    assert context_files(PLAIN, DEBIAN)["hub.txt"].startswith(b"jupyterhub==6.1.1\n")
    with pytest.raises(ConfigBroken, match="not a version"):
        context_files(replace(PLAIN, hub_version="6.1.1\nevil"), DEBIAN)


def test_the_use_cases_are_those_of_ds01() -> None:
    assert set(DEFAULT_USE_CASES) == {"none", "cv", "nlp", "rl", "ml"}


def test_a_probe_is_read_whatever_else_was_printed() -> None:
    assert parse_probe(PROBE_OUTPUT) == replace(
        DEBIAN, python="/opt/venv/bin/python3", version=(3, 10, 12), architecture="aarch64"
    )


def test_a_venv_without_ensurepip_is_none() -> None:
    assert not parse_probe(PROBE_OUTPUT.replace("ds01.ensurepip=yes\n", "")).has_venv


def test_a_probe_that_did_not_end_is_not_believed() -> None:
    with pytest.raises(ImageFailed, match="could not be examined"):
        parse_probe(PROBE_OUTPUT.replace("ds01.end=yes\n", ""))


def test_a_python_whose_path_is_no_path_is_not_believed() -> None:
    with pytest.raises(ImageFailed, match="could not be examined"):
        parse_probe(PROBE_OUTPUT.replace("/opt/venv/bin/python3", "/x; curl y"))
