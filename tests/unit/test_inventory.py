from fractions import Fraction

import pytest

from ds01_spawner.inventory import architecture_of, explain_init_error, share_of


@pytest.mark.parametrize(
    ("profile", "slices", "memory_mib", "share"),
    [
        ("1g.10gb", 1, 9728, Fraction(1, 7)),
        ("1g.20gb", 1, 19968, Fraction(1, 4)),
        ("2g.20gb", 2, 19968, Fraction(2, 7)),
        ("3g.40gb", 3, 40448, Fraction(1, 2)),
        ("4g.40gb", 4, 40448, Fraction(4, 7)),
        ("7g.80gb", 7, 80384, Fraction(1)),
    ],
)
def test_a_mig_instance_of_an_a100_80_takes_its_larger_part(
    profile: str, slices: int, memory_mib: int, share: Fraction
) -> None:
    assert share_of(slices, 7, memory_mib, 81920) == share, profile


def test_the_same_name_on_a_smaller_gpu_is_a_larger_share() -> None:
    on_a100_80 = share_of(1, 7, 9728, 81920)
    on_a100_40 = share_of(1, 7, 9856, 40960)
    assert (on_a100_80, on_a100_40) == (Fraction(1, 7), Fraction(1, 4))


def test_a_gpu_of_four_slices_is_cut_in_quarters() -> None:
    assert [share_of(slices, 4, slices * 5952, 24576) for slices in (1, 2, 4)] == [
        Fraction(1, 4),
        Fraction(1, 2),
        Fraction(1),
    ]


@pytest.mark.parametrize(
    "numbers",
    [(0, 7, 9728, 81920), (1, 0, 9728, 81920), (8, 7, 9728, 81920), (1, 7, 0, 81920), (1, 7, 9728, 9000)],
)
def test_numbers_that_no_instance_has_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is no MIG instance"):
        share_of(*numbers)


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [
        ((7, 0), "CUDA"),
        ((7, 5), "CUDA"),
        ((8, 0), "CUDA_AMPERE"),
        ((8, 6), "CUDA_AMPERE"),
        ((8, 9), "CUDA_ADA"),
        ((9, 0), "CUDA_ADA"),
        ((10, 0), "CUDA_BLACKWELL"),
        ((12, 0), "CUDA_BLACKWELL"),
        ((6, 1), ""),
    ],
)
def test_compute_capability_decides_the_architecture(capability: tuple[int, int], architecture: str) -> None:
    assert architecture_of(capability) == architecture


def test_a_mismatch_of_driver_and_library_is_named() -> None:
    assert "different versions" in explain_init_error(18)


def test_an_unknown_error_of_nvml_keeps_its_number() -> None:
    assert "error 999" in explain_init_error(999)
