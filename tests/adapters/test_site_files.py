"""The admin's files as text: found where they are installed, read anew, and named when they are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01_spawner.adapters.site_files import read_catalog, read_limits
from ds01_spawner.errors import CatalogBroken, LimitsBroken
from ds01_spawner.model import LimitsTexts

NOT_UTF8 = b"# caf\xe9\n"


def test_catalog_that_is_set_comes_before_those_that_are_installed(tmp_path: Path) -> None:
    ours, installed = tmp_path / "ours", tmp_path / "installed"
    ours.write_text("ours")
    installed.write_text("installed")
    assert read_catalog(str(ours), [str(installed)]) == "ours"


def test_first_installed_catalog_that_exists_is_read(tmp_path: Path) -> None:
    for name in ("second", "third"):
        (tmp_path / name).write_text(name)
    places = [str(tmp_path / name) for name in ("first", "second", "third")]
    assert read_catalog("", places) == "second"


def test_without_any_catalog_there_is_none(tmp_path: Path) -> None:
    assert read_catalog("", [str(tmp_path / "none")]) is None
    assert read_catalog("", []) is None


def test_catalog_that_was_edited_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ml_images.repo"
    path.write_text("old")
    assert read_catalog(str(path), []) == "old"
    path.write_text("new")
    assert read_catalog(str(path), []) == "new"


def test_catalog_that_is_set_and_missing_is_broken_though_another_is_installed(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.write_text("installed")
    with pytest.raises(CatalogBroken, match="tell your admin") as broken:
        read_catalog(str(tmp_path / "none"), [str(installed)])
    assert broken.value.detail.startswith(f"c.DS01.catalog_file = {str(tmp_path / 'none')!r}: ")


def test_catalog_that_is_no_text_or_a_directory_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "ml_images.repo"
    path.write_bytes(NOT_UTF8)
    for source in (path, tmp_path):
        with pytest.raises(CatalogBroken):
            read_catalog(str(source), [])
    with pytest.raises(CatalogBroken):
        read_catalog("", [str(path)])


def test_limits_are_read_with_the_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "resource-limits.yaml").write_text("defaults: {}\n")
    (tmp_path / "user-overrides.yaml").write_text("ada: {}\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "student.members").write_text("ada\n")
    (tmp_path / "groups" / "lab.2.members").write_text("bob\n")
    (tmp_path / "groups" / "student.members~").write_text("eve\n")
    assert read_limits(str(tmp_path / "resource-limits.yaml")) == LimitsTexts(
        path=str(tmp_path / "resource-limits.yaml"),
        text="defaults: {}\n",
        overrides="ada: {}\n",
        members={"student": "ada\n", "lab.2": "bob\n"},
    )


def test_limits_alone_have_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("defaults: {}\n")
    assert read_limits(str(tmp_path / "limits.yaml")) == LimitsTexts(
        path=str(tmp_path / "limits.yaml"), text="defaults: {}\n"
    )


def test_limits_that_are_set_and_missing_are_broken(tmp_path: Path) -> None:
    with pytest.raises(LimitsBroken, match="tell your admin") as broken:
        read_limits(str(tmp_path / "none.yaml"))
    assert broken.value.detail.startswith(f"c.DS01.limits_file = {str(tmp_path / 'none.yaml')!r}: ")


@pytest.mark.parametrize("name", ["limits.yaml", "user-overrides.yaml", "groups/student.members"])
def test_one_file_that_is_no_text_breaks_the_limits(tmp_path: Path, name: str) -> None:
    (tmp_path / "limits.yaml").write_text("defaults: {}\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / name).write_bytes(NOT_UTF8)
    with pytest.raises(LimitsBroken):
        read_limits(str(tmp_path / "limits.yaml"))
