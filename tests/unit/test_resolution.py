"""Logs of real checks, shortened: what is wrong, in which field, and when the build has to decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ds01_spawner.buildlog import explain_failure
from ds01_spawner.image import BaseProbe, render_dockerfile
from ds01_spawner.model import ImageSpec, PackageProblem
from ds01_spawner.resolution import is_needed, read
from ds01_spawner.templating import read_dockerfile

RECORDED = Path(__file__).parents[1] / "data" / "checks"
"""What the failed step of real checks printed; lists are shortened."""

MISSING = """\
ERROR: Could not find a version that satisfies the requirement {name} (from versions: none)
ERROR: No matching distribution found for {name}
ds01: index {name} {status}
"""
BROKEN_BY_ANOTHER = "".join(
    f'ds01: broken {{"name": "{name}", "version": "{version}", "needs": "torch==2.8.0", "gets": "2.1.0", '
    '"asked": "old-thing"}\n'
    for name, version in (("torchaudio", "2.8.0"), ("torchvision", "0.23.0"))
)
HALF_A_MIRROR = """\
W: Failed to fetch http://deb.example/debian/dists/bookworm/InRelease  503  Service Unavailable
W: Some index files failed to download. They have been ignored, or old ones used instead.
E: Unable to locate package tree
"""


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.log").read_text(encoding="utf-8")


def fail(layer: str, output: str) -> list[str]:
    """The log of a check whose step `layer` printed `output` and failed."""
    command = (
        f"RUN --mount=type=tmpfs,target=/var/cache/ds01/pip     : layer={layer} &&     export PIP_CACHE_DIR=x"
    )
    return [
        f"#5 [python 4/4] {command}",
        *(f"#5 1.234 {line}" for line in output.splitlines()),
        f'#5 ERROR: process "/bin/sh -c : layer={layer} && x" did not complete successfully: exit code: 1',
        "------",
        f" > [python 4/4] {command}:",
        "------",
    ]


def look(output: str, layer: str = "packages", **asked: tuple[str, ...]) -> PackageProblem | None:
    """What a check of `asked` found on Python 3.11, when its step `layer` printed `output`."""
    spec = ImageSpec(
        base="b", base_id="", hub_version="6.1.1", base_packages=("pandas", "scikit-learn"), **asked
    )  # type: ignore[arg-type]
    log = fail(layer, output)
    return read(spec, explain_failure(log), log, python=(3, 11, 2))


@pytest.mark.parametrize(
    ("output", "packages", "sentence"),
    [
        (
            MISSING.format(name="trasformers", status=404),
            ("trasformers",),
            "There is no package trasformers. Did you mean transformers?",
        ),
        (
            MISSING.format(name="ds01-none", status=404),
            ("ds01-none>=2",),
            "There is no package ds01-none. Check how it is written.",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement scann (from versions: none)",
            ("scann",),
            "scann has no version for Python 3.11. Leave it out, or choose another version of the framework.",
        ),
        (
            recorded("no-version"),
            ("tabulate==99",),
            "There is no tabulate==99 for Python 3.11; the newest are 0.10.0, 0.9.0 and 0.8.10.",
        ),
        (
            recorded("other-python"),
            ("numpy==1.21.2",),
            "numpy==1.21.2 needs Python >=3.7,<3.11, and this image has Python 3.11. Ask for another version "
            "(the newest are 2.4.6, 2.4.5 and 2.4.4), or choose another version of the framework.",
        ),
        (
            recorded("dependency"),
            ("allennlp==2.10.1",),
            "allennlp==2.10.1 needs torch<1.13.0,>=1.10.0, and there is none for Python 3.11. Ask for "
            "another version of allennlp, or choose another version of the framework.",
        ),
        (
            recorded("conflict"),
            ("requests==2.32.3", "urllib3==1.20"),
            "requests==2.32.3 and urllib3==1.20 conflict: requests 2.32.3 needs urllib3<3,>=1.21.1. Ask for "
            "other versions, or leave one out.",
        ),
        (
            recorded("kernel"),
            ("tornado==5.1",),
            "tornado==5.1 conflicts with what the notebook kernel needs (tornado>=6.1). Ask for another "
            "version, or leave it out.",
        ),
        (
            recorded("constraint"),
            ("six==1.15",),
            "six==1.15 conflicts with six==1.16.0, which this image insists on. Ask for another version, or "
            "leave it out.",
        ),
        (
            recorded("not-compiled"),
            ("sklearn",),
            "sklearn cannot be installed. Did you mean scikit-learn?",
        ),
    ],
)
def test_what_pip_could_not_do_is_said_beside_the_field_that_asked_for_it(
    output: str, packages: tuple[str, ...], sentence: str
) -> None:
    problem = PackageProblem(field="packages", package=packages[0], sentence=sentence)
    assert look(output, packages=packages) == problem
    in_the_file = look(output.replace("packages.txt", "requirements.txt"), requirements=packages)
    assert in_the_file == PackageProblem(field="requirements", package=packages[0], sentence=sentence)


def test_what_would_break_in_the_image_is_said_with_what_would_mend_it() -> None:
    assert look(recorded("broken"), packages=("numpy==1.26.4",)) == PackageProblem(
        field="packages",
        package="numpy==1.26.4",
        sentence="pandas 3.1.1 of this image needs numpy>=2.0.2, but you ask for numpy==1.26.4. Ask for "
        "another version, or add pandas to your packages, so that versions are found that go together.",
        is_buildable=True,
    )


def test_what_breaks_something_unasked_is_named_with_all_that_it_breaks() -> None:
    problem = look(BROKEN_BY_ANOTHER, packages=("six",), requirements=("old-thing",))
    assert problem is not None
    assert (problem.field, problem.package) == ("requirements", "old-thing")
    assert problem.sentence == (
        "torchaudio 2.8.0 of this image needs torch==2.8.0, but old-thing brings torch 2.1.0. Ask for "
        "another version, or add torchaudio and torchvision to your packages, so that versions are found "
        "that go together."
    )


@pytest.mark.parametrize(
    ("output", "system_packages", "package", "sentence"),
    [
        (
            recorded("no-system"),
            ("ffmpegg", "tree"),
            "ffmpegg",
            "There is no system package ffmpegg for this image. Did you mean ffmpeg?",
        ),
        (
            recorded("no-system"),
            ("ds01-nothing",),
            "ds01-nothing",
            "There is no system package ds01-nothing for this image. Check how it is written.",
        ),
        (
            recorded("no-system-version"),
            ("tree=9",),
            "tree=9",
            "There is no tree=9 for this image. There is 2.1.0-1; without a version you get the newest.",
        ),
        (
            recorded("virtual"),
            ("apache2-suexec",),
            "apache2-suexec",
            "There is no system package apache2-suexec for this image. Did you mean apache2-suexec-custom?",
        ),
        (
            recorded("unmet"),
            ("postfix",),
            "postfix",
            "The system package postfix cannot be installed here: it conflicts with mail-transport-agent. "
            "Leave it out, or ask for another one.",
        ),
    ],
)
def test_what_apt_could_not_do_is_said(
    output: str, system_packages: tuple[str, ...], package: str, sentence: str
) -> None:
    problem = PackageProblem(field="system_packages", package=package, sentence=sentence)
    assert look(output, "system", system_packages=system_packages) == problem


@pytest.mark.parametrize(
    ("output", "layer"),
    [
        (recorded("network"), "packages"),
        (recorded("network") + MISSING.format(name="celery==4.0.2", status=404), "packages"),
        (MISSING.format(name="celery", status="failed"), "packages"),
        (MISSING.format(name="celery", status=503), "packages"),
        (MISSING.format(name="celery", status=404), "base"),
        (MISSING.format(name="celery", status=404), "use-case"),
        (MISSING.format(name="something-else", status=404), "packages"),
        (f"No space left on device\n{MISSING.format(name='celery', status=404)}", "packages"),
        (recorded("old-metadata"), "packages"),
        (recorded("not-compiled").replace("sklearn", "celery"), "packages"),
        ("no such option: --dry-run", "base"),
        (recorded("kernel"), "packages"),
        (recorded("broken"), "packages"),
        (HALF_A_MIRROR, "system"),
        (recorded("no-system"), "system"),
        ("E: Syntax error /run/secrets/apt_config:1", "system"),
        ("", ""),
    ],
)
def test_where_it_is_not_her_mistake_for_sure_the_build_decides(output: str, layer: str) -> None:
    assert look(output, layer, packages=("celery==4.0.2",), system_packages=("tree",)) is None


def test_a_mark_that_a_package_printed_itself_brings_no_text_of_its_own_into_a_sentence() -> None:
    for name in ('"<b>x</b>"', '"x y"', "{}", '"' + "x" * 200 + '"'):
        fake = f'ds01: broken {{"name": {name}, "version": "1", "needs": "a", "gets": "1", "asked": "six"}}'
        assert look(fake, packages=("six",)) is None
    for fake in ("ds01: broken {}", "ds01: broken []", 'ds01: broken {"name": "six"}', "ds01: broken {x}"):
        assert look(fake, packages=("six",)) is None
    dependency = recorded("dependency").replace("torch<1.13.0,>=1.10.0", "<script>")
    assert look(dependency, packages=("allennlp==2.10.1",)) is None


def test_where_two_lines_name_a_package_the_one_that_failed_is_named() -> None:
    problem = look(recorded("no-version"), packages=("tabulate",), requirements=("tabulate==99",))
    assert problem is not None
    assert problem.field == "requirements"


def test_only_what_she_asked_for_is_checked() -> None:
    plain = ImageSpec(base="b", base_id="", hub_version="6.1.1", base_packages=("pandas",))
    assert not is_needed(plain)
    for field in ("packages", "requirements", "system_packages"):
        assert is_needed(ImageSpec(base="b", base_id="", hub_version="6.1.1", **{field: ("six",)}))  # type: ignore[arg-type]


def render(*, has_python: bool = True, **asked: tuple[str, ...]) -> str:
    """The Dockerfile of a check of `asked`, on a base that is called python."""
    python = BaseProbe(python="/usr/bin/python3", version=(3, 11, 2), has_pip=True, has_venv=True)
    probe = replace(python if has_python else BaseProbe(), has_apt=True, has_bash=True)
    spec = ImageSpec(
        base="python",
        base_id="",
        hub_version="6.1.1",
        runtime_image="runtime",
        use_case="cv",
        use_case_packages=("timm",),
        **asked,  # type: ignore[arg-type]
    )
    return render_dockerfile(spec, probe, read_dockerfile("resolve.j2"))


def test_a_check_of_her_packages_writes_to_no_cache_that_others_read() -> None:
    dockerfile = render(packages=("six",), requirements=("wandb",), system_packages=("tree",))
    steps = {step.split(": layer=")[1].split()[0]: step for step in dockerfile.split("\nRUN ")[1:]}
    assert list(steps) == ["base", "use-case", "packages", "system"]
    for layer in ("packages", "system"):
        assert "type=cache" not in steps[layer]
        assert "--dry-run" in steps[layer] or "resolve.py try" in steps[layer]
    for name in ("six", "wandb", "tree", "timm"):
        assert name not in dockerfile


def test_a_base_that_is_called_as_a_stage_could_be_is_still_the_base() -> None:
    dockerfile = render(packages=("six",), system_packages=("tree",))
    origins = [line for line in dockerfile.splitlines() if line.startswith("FROM ")]
    assert origins == ["FROM python", "FROM python", "FROM scratch"]


def test_only_what_was_asked_for_is_looked_up() -> None:
    assert "apt-get" not in render(packages=("six",))
    assert "resolve.py" not in render(system_packages=("tree",))


def test_where_the_kernel_has_an_environment_of_its_own_that_one_is_checked() -> None:
    dockerfile = render(has_python=False, packages=("six",))
    assert "COPY --from=runtime /opt/python /opt/ds01/python" in dockerfile
    assert "/opt/ds01/kernel/bin/python /run/ds01/resolve.py try" in dockerfile
