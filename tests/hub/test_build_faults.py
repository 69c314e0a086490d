"""What a student reads when something breaks in the middle of her build; and then she starts again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..build_faults import DiskFull, DockerKilled, Fault, FragileEngine
from ..package_index import PackageIndex, find_module, name_package
from .conftest import tagged
from .hub import Hub
from .lab import Lab
from .student import Student

pytest_plugins = ("tests.build_faults",)
pytestmark = pytest.mark.slow

PIP_CONFIG = "[global]\nextra-index-url = {url}\ntrusted-host = {host}\n"
QUICK = {"slow_spawn_timeout": 1, "slow_stop_timeout": 1}


@pytest.fixture(scope="module")
def hub(
    fragile_engine: FragileEngine,
    package_index: PackageIndex,
    proxy: Path,
    nvml: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:
    """A Hub on the Engine that faults may strike, whose packages come from the tests' index as well."""
    pip_config = tmp_path_factory.mktemp("site") / "pip.conf"
    pip_config.write_text(PIP_CONFIG.format(url=package_index.url, host=package_index.host))
    settings = {
        "JupyterHub": {"tornado_settings": QUICK},
        "DS01": {"pip_config": str(pip_config)},
    }
    with ExitStack() as stack:
        lab = Lab(fragile_engine.cdi_directory)
        stack.callback(lab.remove)
        stack.enter_context(tagged(fragile_engine, lab.base.image))
        hub = Hub(lab, fragile_engine, proxy=proxy, nvml=nvml, settings=settings)
        stack.callback(hub.remove)
        hub.start()
        yield hub


def start_again(hub: Hub, student: Student, package: str) -> None:
    """Fail unless nothing is left of a start that failed, and the same one works now."""
    student.wait_gone()
    assert hub.traces(student.person) == {}
    student.start({"packages": [package]})
    assert student.run(f"import {find_module(package)}; print('here')") == "here\n"


@pytest.mark.parametrize("fault", [DiskFull(), DockerKilled()], ids=lambda fault: type(fault).__name__)
def test_she_reads_what_happened_and_her_next_try_works(
    fault: Fault, hub: Hub, student: Student, fragile_engine: FragileEngine, package_index: PackageIndex
) -> None:
    package, before = name_package(), hub.built_images()
    with package_index.hold() as hold:
        assert student.ask_start({"packages": [package]}).status_code == 202
        hold.wait_until_reached()
        with fault.strike(fragile_engine, hold):
            assert fault.sentence in student.failure()
    assert hub.built_images() == before
    start_again(hub, student, package)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "ended"])
def test_a_build_ends_with_its_hub_and_her_next_try_works(
    kill: bool, hub: Hub, student: Student, fragile_engine: FragileEngine, package_index: PackageIndex
) -> None:
    package, before = name_package(), hub.built_images()
    with package_index.hold() as hold:
        assert student.ask_start({"packages": [package]}).status_code == 202
        hold.wait_until_reached()
        (hub.kill if kill else hub.stop)()
        fragile_engine.wait_until_idle()
    assert hub.built_images() == before
    hub.start()
    start_again(hub, student, package)
