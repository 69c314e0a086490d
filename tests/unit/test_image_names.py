"""How a person names a built image, and which base it stands on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ds01_spawner.image import abbreviate, find_named, on_base, tag
from ds01_spawner.model import ImageSpec

VISION = "ds01/image:0f3a99c1d2e4b5a6-27bd00112233"
VISION_ON_A_NEWER_BASE = "ds01/image:0f3a99c1d2e4b5a6-27c000112233"
SPEECH = "ds01/image:0f3b000000000000-27bd00112233"
ALL = (VISION, VISION_ON_A_NEWER_BASE, SPEECH)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (VISION, (VISION,)),
        ("0f3a99c1d2e4b5a6-27bd00112233", (VISION,)),
        ("0f3a99c1-27bd", (VISION,)),
        ("0f3a-27c", (VISION_ON_A_NEWER_BASE,)),
        ("0f3b", (SPEECH,)),
        ("0f3b-", (SPEECH,)),
        ("0f3a", (VISION, VISION_ON_A_NEWER_BASE)),
        ("ds01/image:0f3", ALL),
        ("0f3a99c1d2e4b5a6-27bd001122330", ()),
        ("27bd", ()),
        ("-27bd", ()),
        ("", ()),
        ("*", ()),
    ],
)
def test_image_is_named_by_the_beginnings_of_its_parts(text: str, found: tuple[str, ...]) -> None:
    assert find_named(text, ALL) == found


def test_short_name_finds_its_image() -> None:
    assert abbreviate(VISION) == "0f3a99c1-27bd"
    assert all(find_named(abbreviate(name), ALL) == (name,) for name in ALL)
    assert abbreviate("ds01/image:ff5a4900d2c97b6c") == "ff5a4900"


def test_names_of_all_images_on_one_base_end_alike() -> None:
    spec = ImageSpec(base="base:1", base_id="sha256:1", hub_version="6.1", runtime_id="sha256:2")
    other = replace(spec, packages=("six",))
    ending = on_base("sha256:1", "sha256:2")
    assert tag(spec, "FROM") != tag(other, "FROM")
    assert all(tag(one, "FROM").endswith(f"-{ending}") for one in (spec, other))
    assert not tag(replace(spec, base_id="sha256:3"), "FROM").endswith(f"-{ending}")
