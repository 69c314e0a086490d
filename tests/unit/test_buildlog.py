"""Logs of real builds, shortened: their steps, and the sentence for each way to fail."""

from collections.abc import Callable

import pytest

from ds01_spawner.buildlog import BuildStep, ProgressReader, explain_failure, waits_for_network

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


def fail_with_buildx(layer: str, *output: str, code: int = 1) -> list[str]:
    """The same of buildx, which repeats the output, and shows the Dockerfile with all that a step may say."""
    command = f"{MOUNTS} : layer={layer} &&     export PIP_CACHE_DIR=x"
    failed = f'process "/bin/sh -c : layer={layer} && x" did not complete successfully: exit code: {code}'
    return [
        f"#7 [stage-0 4/4] {command}",
        *(f"#7 1.234 {line}" for line in output),
        f"#7 ERROR: {failed}",
        "------",
        f" > [stage-0 4/4] {command}:",
        *(f"1.234 {line}" for line in output),
        "------",
        "Dockerfile:44",
        "--------------------",
        "  43 |     ",
        f"  44 | >>> RUN --mount=type=tmpfs,target=x : layer={layer} && \\",
        "  45 | >>>     /usr/bin/python3 -m pip install -r /run/ds01/packages.txt && \\",
        "  46 | >>>     { python3 -c 'import x' || { echo 'ds01: the kernel does not start'; exit 1; }; }",
        "  47 |     ",
        "--------------------",
        f"ERROR: failed to solve: {failed}",
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


# pip 23: the network went in the middle of a download, and between two.
STOPPED_HALF_WAY = """\
Collecting nvidia-cublas-cu12
  Downloading nvidia_cublas_cu12-12.9.3.13-py3-none-manylinux_2_27_x86_64.whl (600.6 MB)
ERROR: Exception:
Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/pip/_vendor/urllib3/response.py", line 443, in _error_catcher
    raise ReadTimeoutError(self._pool, None, "Read timed out.")
pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.example', port=443): \
Read timed out.
"""
BROKEN_CONNECTION = (
    "WARNING: Retrying (Retry(total={left}, connect=None, read=None, redirect=None, status=None)) after "
    "connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at "
    "0x7f9f2e165610>: Failed to establish a new connection: [Errno -3] Temporary failure in name "
    "resolution')': /simple/{name}/"
)
NO_VERSION = """\
ERROR: Could not find a version that satisfies the requirement {name} (from versions: none)
ERROR: No matching distribution found for {name}
"""
NO_ANSWER = "\n".join(
    [*(BROKEN_CONNECTION.format(left=left, name="numpy") for left in (4, 3, 2, 1, 0)), NO_VERSION]
).replace("{name}", "numpy")
NOTHING_LEFT = """\
ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='files.example', port=443): \
Max retries exceeded with url: /packages/x.whl (Caused by NewConnectionError('<pip._vendor.urllib3.\
connection.HTTPSConnection object at 0x7f25>: Failed to establish a new connection: [Errno 113] No route \
to host'))
"""
# pip 26.
STOPPED_OFTEN = """\
  WARNING: Connection interrupted while downloading.
  WARNING: Attempting to resume incomplete download (100 kB/5.0 MB, attempt 5)
  WARNING: Connection interrupted while downloading.
error: incomplete-download

× Download failed after 6 attempts because not enough bytes were received (100 kB/5.0 MB)
"""
NO_APT = """\
Ign:1 http://mirror.example/debian bookworm InRelease
Err:1 http://mirror.example/debian bookworm InRelease
  Temporary failure resolving 'mirror.example'
Reading package lists...
W: Failed to fetch http://mirror.example/dists/b/InRelease  Temporary failure resolving 'mirror.example'
W: Some index files failed to download. They have been ignored, or old ones used instead.
E: Unable to locate package openjdk-17-jre-headless
"""
APT_HALF_WAY = """\
Err:30 http://mirror.example/debian bookworm/main amd64 libasound2 amd64 1.2.8-1
  Connection timed out [IP: 203.0.113.80 80]
E: Failed to fetch http://mirror.example/debian/pool/liba.deb  Connection timed out [IP: 203.0.113.80 80]
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?
"""
FULL_FOR_APT = """\
E: Write error - write (28: No space left on device)
E: IO Error saving source cache
"""


@pytest.mark.parametrize("failed", [fail, fail_with_buildx])
@pytest.mark.parametrize(
    ("layer", "output", "cause", "words"),
    [
        ("packages", STOPPED_HALF_WAY, "network", "The network failed"),
        ("packages", NO_ANSWER, "network", "The network failed"),
        ("packages", NOTHING_LEFT, "network", "The network failed"),
        ("packages", STOPPED_OFTEN, "network", "The network failed"),
        ("system", NO_APT, "network", "The network failed"),
        ("system", APT_HALF_WAY, "network", "The network failed"),
        ("system", FULL_FOR_APT, "disk", "The disk of the server is full"),
        ("system", "E: You don't have enough free space in /var/cache/ds01/apt/.", "disk", "disk"),
        ("packages", "c++: fatal error: Killed signal terminated program cc1plus", "memory", "memory"),
        ("packages", "ERROR: Could not find an activated virtualenv (required).", "", "This step failed."),
    ],
)
def test_a_recorded_failure_is_told_by_its_cause(
    failed: Callable[..., list[str]], layer: str, output: str, cause: str, words: str
) -> None:
    failure = explain_failure(failed(layer, *output.splitlines()))
    assert (failure.layer, failure.cause) == (layer, cause)
    assert words in failure.sentence
    assert set(failure.lines) <= {line.rstrip() for line in output.splitlines()}


def test_a_network_that_came_back_does_not_hide_what_is_wrong() -> None:
    output = [BROKEN_CONNECTION.format(left=4, name="ds01-none"), *NO_VERSION.splitlines()]
    failure = explain_failure(fail("packages", *(line.format(name="ds01-none") for line in output)))
    assert failure.cause == "missing"


KILLED_WITH_DOCKER_20_10 = """\
#4 [stage-0 4/4] RUN --mount=x : layer=packages && x
#4 0.222 Killed
#4 ERROR: executor failed running [/bin/sh -c : layer=packages && x]: exit code: 137
------
 > [stage-0 4/4] RUN --mount=x : layer=packages && x:
------
executor failed running [/bin/sh -c : layer=packages && x]: exit code: 137
"""


@pytest.mark.parametrize(
    "log", [KILLED_WITH_DOCKER_20_10.splitlines(), fail_with_buildx("packages", "Collecting x", code=137)]
)
def test_a_step_that_was_killed_is_told_as_such_whatever_it_said_before(log: list[str]) -> None:
    failure = explain_failure(log)
    assert (failure.layer, failure.cause) == ("packages", "memory")
    assert "was killed, as happens when memory runs out" in failure.sentence


def test_a_disk_that_is_full_for_docker_itself_is_told() -> None:
    log = [
        "#9 exporting to image",
        "#9 exporting layers 0.0s done",
        "#9 ERROR: failed to add snapshot tqxilic to lease: write containerdmeta.db: no space left on device",
        "------",
        " > exporting to image:",
        "------",
        "failed to add snapshot tqxilic to lease: write containerdmeta.db: no space left on device",
    ]
    failure = explain_failure(log)
    assert (failure.layer, failure.cause) == ("", "disk")


@pytest.mark.parametrize(
    ("end", "waits"),
    [
        (BROKEN_CONNECTION.format(left=3, name="numpy"), True),
        ("Ign:4 http://mirror.example/debian bookworm/main amd64 Packages", True),
        ("Err:4 http://mirror.example/debian bookworm/main amd64 Packages", True),
        ("  Temporary failure resolving 'mirror.example'", True),
        ("Get:4 http://mirror.example/debian bookworm/main amd64 Packages [8792 kB]", False),
        ("  Downloading torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl (888.1 MB)", False),
    ],
)
def test_a_build_waits_for_the_network_when_that_is_the_last_it_said(end: str, waits: bool) -> None:
    log = [
        "#4 1.0 Collecting x",
        f"#4 12.3 {BROKEN_CONNECTION.format(left=4, name='x')}",
        f"#4 16.1 {end}",
        "",
    ]
    assert waits_for_network(log) is waits


def test_who_said_nothing_waits_for_nothing() -> None:
    assert not waits_for_network([])


def test_an_empty_log_still_has_a_sentence() -> None:
    assert explain_failure([]).sentence.startswith("This step failed.")
