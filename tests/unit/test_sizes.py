"""Sizes as Docker writes them."""

import pytest

from ds01_spawner.sizes import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("512b", 512),
        ("1k", 1024),
        ("32g", 32 * 1024**3),
        ("1.5G", 3 * 1024**3 // 2),
        ("8GiB", 8 * 1024**3),
        ("1T", 1024**4),
        (7, 7),
    ],
)
def test_size_is_read_in_powers_of_1024(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "g", "8x", "-1", "8g; x", "1e3", True, -1])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"size|negative"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0b"), (1, "1b"), (1536, "1536b"), (1536 * 1024, "1536k"), (32 * 1024**3, "32g")]
)
def test_size_is_written_in_the_largest_unit_that_is_exact(size: int, text: str) -> None:
    assert format_bytes(size) == text
    assert parse_bytes(text) == size
