"""The simulated library, compiled once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from .build import build_library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))
