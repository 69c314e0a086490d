"""Logs of real builds, shortened: their steps, and the sentence for each way to fail."""

import pytest

from ds01_spawner.buildlog import BuildStep, ProgressReader, explain_failure

MOUNTS = "RUN --mount=type=cache,id=x,target=/var/cache/ds01/pip    "
OLD_DOCKER = f"""\
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#9 [stage-0 1/4] FROM registry.example/aimehub/pytorch:1
#9 CACHED

#7 [stage-0 2/4] {MOUNTS} : layer=hub &&     export PIP_CACHE_DIR=x
#7 CACHED

#5 [stage-0 3/4] {MOUNTS} : layer=base &&     export PIP_CACHE_DIR=x
#5 1.234 Collecting six
#5 DONE 3.0s

#4 [stage-0 4/4] {MOUNTS} : layer=packages &&     export PIP_CACHE_DIR=x
#4 ERROR: executor failed running [/bin/sh -c : layer=packages && x]: exit code: 1
"""
BUILDX = f"""\
#5 [2/4] COPY --from=site/runtime:1 /opt/python /opt/ds01/python
#5 DONE 0.2s
#6 [3/4] {MOUNTS} : layer=hub && x
#6 1.0 Collecting six
#5 [2/4] COPY --from=site/runtime:1 /opt/python /opt/ds01/python
#6 [3/4] {MOUNTS} : layer=hub && x
#6 DONE 12.3s
"""


def fail(layer: str, *output: str) -> list[str]:
    """The log of a build whose step `layer` printed `output` and failed."""
    command = f"{MOUNTS} : layer={layer} &&     export PIP_CACHE_DIR=x"
    return [
        f"#4 [stage-0 4/4] {command}",
        *(f"#4 1.234 {line}" for line in output),
        f'#4 ERROR: process "/bin/sh -c : layer={layer} && x" did not complete successfully: exit code: 1',
        "------",
        f" > [stage-0 4/4] {command}:",
        "------",
        f'process "/bin/sh -c : layer={layer} && x" did not complete successfully: exit code: 1',
    ]


def read_steps(log: str) -> list[BuildStep]:
    reader = ProgressReader()
    return [step for step in map(reader.read, log.splitlines()) if step is not None]


def test_steps_of_docker_20_10_are_read() -> None:
    assert [(str(step), step.state) for step in read_steps(OLD_DOCKER)] == [
        ("[1/4] Starting from the base image", "started"),
        ("[1/4] Starting from the base image", "cached"),
        ("[2/4] Installing the notebook server", "started"),
        ("[2/4] Installing the notebook server", "cached"),
        ("[3/4] Installing base packages", "started"),
        ("[3/4] Installing base packages", "done"),
        ("[4/4] Installing your packages", "started"),
        ("[4/4] Installing your packages", "failed"),
    ]


def test_steps_of_buildx_are_read_once_though_their_headers_come_again() -> None:
    assert [(step.number, step.layer, step.state) for step in read_steps(BUILDX)] == [
        (2, "runtime", "started"),
        (2, "runtime", "done"),
        (3, "hub", "started"),
        (3, "hub", "done"),
    ]


def test_output_that_looks_like_a_step_is_none() -> None:
    reader = ProgressReader()
    assert reader.read("#4 1.2 [9/9] : layer=hub x") is None
    assert reader.read("#77 DONE 1.0s") is None


def test_a_step_that_an_admin_added_has_a_plain_name() -> None:
    assert str(BuildStep(number=2, total=3, layer="mine")) == "[2/3] Preparing the image"


def test_a_conflict_with_the_kernel_is_said_as_such() -> None:
    failure = explain_failure(
        fail(
            "packages",
            "WARNING: Retrying after connection broken by 'Failed to establish a new connection'",
            "ERROR: Cannot install -r /run/ds01/kernel.txt (line 1) and tornado==5.1 because these package "
            "versions have conflicting dependencies.",
            "",
            "The conflict is caused by:",
            "    The user requested tornado==5.1",
            "    ipykernel 7.4.0 depends on tornado>=6.5.7",
            "    The user requested tornado==5.1",
            "    ipykernel 6.29.0 depends on tornado>=6.1",
            "",
            "To fix this you could try to:",
            "ERROR: ResolutionImpossible: for help visit the documentation",
        )
    )
    assert failure.layer == "packages"
    assert failure.sentence.startswith("tornado==5.1 conflicts with what the notebook kernel needs.")
    assert failure.lines[0].startswith("ERROR: Cannot install")


def test_a_conflict_between_her_packages_names_them() -> None:
    failure = explain_failure(
        fail(
            "packages",
            "ERROR: Cannot install numpy==1.20 and scipy==1.15 because these package versions have "
            "conflicting dependencies.",
            "The conflict is caused by:",
            "    The user requested numpy==1.20",
            "    scipy 1.15 depends on numpy>=1.23",
            "    The user requested scipy==1.15",
        )
    )
    assert failure.sentence.startswith("numpy==1.20 and scipy==1.15 conflict with another package.")


@pytest.mark.parametrize(
    ("layer", "output", "words"),
    [
        (
            "packages",
            "ERROR: No matching distribution found for ds01-none==2",
            "There is no package ds01-none==2 for the Python",
        ),
        ("system", "E: Unable to locate package nothing", "There is no system package nothing"),
        ("system", "E: Version '9' for 'tree' was not found", "There is no system package tree"),
        ("packages", "  ERROR: Failed building wheel for pycups", "pycups could not be compiled"),
        ("packages", "error: [Errno 28] No space left on device", "The disk of the server is full"),
        ("base", "SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "certificate"),
        ("system", "  Temporary failure resolving 'mirror'", "The network failed"),
        ("packages", "ds01: the kernel does not start", "the notebook kernel does not start"),
    ],
)
def test_each_way_to_fail_has_its_sentence(layer: str, output: str, words: str) -> None:
    failure = explain_failure(fail(layer, "Reading package lists...", output))
    assert failure.layer == layer
    assert words in failure.sentence
    assert failure.lines[0].strip() == output.strip()


def test_a_dead_network_is_not_a_missing_package() -> None:
    failure = explain_failure(
        fail(
            "packages",
            "WARNING: Retrying: Failed to establish a new connection: [Errno -3] Name or service not known",
            "ERROR: No matching distribution found for numpy",
        )
    )
    assert "network" in failure.sentence


def test_an_unknown_failure_shows_the_last_errors_without_control_characters() -> None:
    failure = explain_failure(fail("hub", "fine", "\x1b[31merror: one\x1b[0m", "fine too"))
    assert failure.lines == ("error: one",)
    assert "Read the log" in failure.sentence


def test_a_base_that_cannot_be_fetched_is_said() -> None:
    log = ["#2 [internal] load metadata for registry.example/aimehub/none:1", "#2 ERROR: pull access denied"]
    assert "base image is not here" in explain_failure(log).sentence


def test_an_empty_log_still_has_a_sentence() -> None:
    assert explain_failure([]).sentence.startswith("This step failed.")
