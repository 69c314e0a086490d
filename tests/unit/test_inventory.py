from dataclasses import replace
from fractions import Fraction

import pytest

from ds01_spawner.inventory import (
    architecture_of,
    explain_gpu_error,
    explain_init_error,
    explain_xid,
    keep_unreadable,
    share_of,
)
from ds01_spawner.model import FULL_GPU, Gpu, Inventory, Slot, UnreadableGpu


def make_slot(uuid: str, index: str, gpu_uuid: str) -> Slot:
    return Slot(
        uuid=uuid,
        index=index,
        profile="1g.10gb" if ":" in index else FULL_GPU,
        gpu_uuid=gpu_uuid,
        gpu_name="NVIDIA A100",
        memory_mib=9728,
        share=Fraction(1, 7),
    )


def make_gpu(uuid: str, index: int) -> Gpu:
    return Gpu(uuid=uuid, index=index, name="NVIDIA A100", compute_capability=(8, 0))


SLICE_OF_A = make_slot("MIG-a", "0:1", "GPU-a")
WHOLE_B = make_slot("GPU-b", "1", "GPU-b")


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


def test_slots_of_a_lost_gpu_are_kept_with_a_fault_by_its_index() -> None:
    lost = UnreadableGpu(index=0, why="GPU 0 is lost.")
    inventory = Inventory(slots=(WHOLE_B,), gpus=(make_gpu("GPU-b", 1),), unreadable=(lost,))
    assert keep_unreadable([SLICE_OF_A, WHOLE_B], inventory) == (
        WHOLE_B,
        replace(SLICE_OF_A, fault="GPU 0 is lost."),
    )


def test_slots_of_an_unreadable_gpu_are_kept_by_its_uuid_wherever_it_stands_now() -> None:
    unreadable = UnreadableGpu(index=3, uuid="GPU-a", why="GPU 3 cannot be read.")
    inventory = Inventory(slots=(), gpus=(), unreadable=(unreadable,))
    assert keep_unreadable([SLICE_OF_A], inventory) == (replace(SLICE_OF_A, fault="GPU 3 cannot be read."),)


def test_a_slot_whose_gpu_can_be_read_is_gone_even_where_another_is_lost_at_its_index() -> None:
    lost = UnreadableGpu(index=0, why="GPU 0 is lost.")
    inventory = Inventory(slots=(), gpus=(make_gpu("GPU-a", 1),), unreadable=(lost,))
    assert keep_unreadable([SLICE_OF_A], inventory) == ()


def test_a_slot_of_a_gpu_that_was_taken_out_is_gone() -> None:
    lost = UnreadableGpu(index=0, why="GPU 0 is lost.")
    assert keep_unreadable([WHOLE_B], Inventory(slots=(), gpus=(), unreadable=(lost,))) == ()


def test_an_unreadable_gpu_that_tells_its_uuid_keeps_no_slot_of_another_at_its_index() -> None:
    unreadable = UnreadableGpu(index=0, uuid="GPU-new", why="GPU 0 cannot be read.")
    assert keep_unreadable([SLICE_OF_A], Inventory(slots=(), gpus=(), unreadable=(unreadable,))) == ()


def test_gpu_ten_is_not_gpu_one() -> None:
    lost = UnreadableGpu(index=1, why="GPU 1 is lost.")
    slot = make_slot("MIG-k", "10:1", "GPU-k")
    assert keep_unreadable([slot], Inventory(slots=(), gpus=(), unreadable=(lost,))) == ()


def test_a_fault_of_before_is_gone_when_the_gpu_can_be_read_again() -> None:
    inventory = Inventory(slots=(WHOLE_B,), gpus=(make_gpu("GPU-b", 1),))
    assert keep_unreadable([replace(WHOLE_B, fault="GPU 1 is lost.")], inventory) == (WHOLE_B,)


def test_a_lost_gpu_is_named_as_lost_and_another_error_keeps_its_number() -> None:
    assert "GPU 2 is lost" in explain_gpu_error(2, 15)
    assert "GPU 2 cannot be read: NVML answers with error 999" in explain_gpu_error(2, 999)


@pytest.mark.parametrize("xid", [48, 64, 74, 79, 95])
def test_an_xid_of_broken_hardware_drains_the_gpu_with_a_sentence(xid: int) -> None:
    assert f"XID {xid}: " in explain_xid(xid)


@pytest.mark.parametrize("xid", [13, 31, 43, 45])
def test_an_xid_of_the_application_drains_nothing(xid: int) -> None:
    assert explain_xid(xid) == ""


@pytest.mark.parametrize("xid", [0, 63, 94, 119, 999])
def test_any_other_xid_drains_nothing(xid: int) -> None:
    assert explain_xid(xid) == ""
