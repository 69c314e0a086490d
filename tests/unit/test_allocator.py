"""Which of the free slots somebody gets, and what is said where they are too few."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from ds01_spawner.allocator import availability, choose, normalise_strategy, slot_order
from ds01_spawner.errors import ConfigBroken, NotAllowed, NothingFree
from ds01_spawner.model import FULL_GPU, Availability, Slot
from tests.unit.pools import gpu, mig

LAB = (mig("0:0"), mig("0:1"), mig("1:0"), mig("1:1"), mig("1:2", "2g.20gb", 2, 19968), gpu("2"), gpu("3"))


def indexes(
    slots: tuple[Slot, ...],
    *taken: str,
    profile: str = "1g.10gb",
    count: int = 1,
    allow_full_gpu: bool = True,
    strategy: str = "pack",
) -> list[str]:
    """What is chosen when the slots of these indexes are taken, as indexes."""
    uuids = {slot.uuid for slot in slots if slot.index in taken}
    chosen = choose(
        slots, uuids, profile=profile, count=count, allow_full_gpu=allow_full_gpu, strategy=strategy
    )
    return [slot.index for slot in chosen]


def refusal(slots: tuple[Slot, ...], *taken: str, **request: object) -> str:
    with pytest.raises(NothingFree) as caught:
        indexes(slots, *taken, **request)  # type: ignore[arg-type]
    return str(caught.value)


def test_pack_takes_a_slice_of_the_gpu_that_is_the_fullest() -> None:
    assert indexes(LAB, "1:0") == ["1:1"]


def test_pack_counts_shares_and_not_slices() -> None:
    lab = (mig("0:0"), mig("0:1"), mig("0:2"), mig("1:0"), mig("1:1", "3g.40gb", 3))
    assert indexes(lab, "0:0", "0:1", "1:1") == ["1:0"]


def test_pack_keeps_several_slices_of_one_request_together() -> None:
    assert indexes(LAB, "1:0", "0:0", "1:2", count=2) == ["1:1", "0:1"]
    assert indexes(LAB, count=3) == ["0:0", "0:1", "1:0"]


def test_least_allocated_takes_a_slice_of_the_emptiest_gpu() -> None:
    assert indexes(LAB, "0:0", strategy="least_allocated") == ["1:0"]


def test_least_allocated_spreads_several_slices_of_one_request() -> None:
    assert indexes(LAB, count=2, strategy="least_allocated") == ["0:0", "1:0"]


def test_of_equals_the_lowest_index_is_chosen_and_ten_comes_after_two() -> None:
    lab = (mig("10:0"), mig("2:10"), mig("2:2"))
    assert indexes(lab) == ["2:2"]
    assert indexes(lab, "2:2") == ["2:10"]
    assert [slot.index for slot in sorted(lab, key=slot_order)] == ["2:2", "2:10", "10:0"]


@pytest.mark.parametrize("strategy", ["pack", "least_allocated"])
def test_the_order_of_the_inventory_does_not_matter(strategy: str) -> None:
    forwards = indexes(LAB, "1:0", count=2, strategy=strategy)
    assert indexes(LAB[::-1], "1:0", count=2, strategy=strategy) == forwards


def test_a_taken_slot_is_never_chosen() -> None:
    assert indexes(LAB, "0:0", "1:0", "1:1") == ["0:1"]


def test_a_slot_with_a_fault_is_never_chosen() -> None:
    lab = (replace(mig("0:0"), fault="XID 79"), mig("0:1"))
    assert indexes(lab) == ["0:1"]
    assert "this machine has 2, 0 free now, 1 out of order" in refusal(lab, "0:1")


def test_full_gpus_are_chosen_whole_and_in_order() -> None:
    assert indexes(LAB, profile=FULL_GPU, count=2) == ["2", "3"]


def test_a_full_gpu_is_refused_to_whom_it_is_not_allowed() -> None:
    with pytest.raises(NotAllowed, match=r"may not use a full GPU.*1g\.10gb, 2g\.20gb"):
        indexes(LAB, profile=FULL_GPU, allow_full_gpu=False)


def test_a_slice_is_chosen_for_whom_a_full_gpu_is_not_allowed() -> None:
    assert indexes(LAB, profile="2g.20gb", allow_full_gpu=False) == ["1:2"]


def test_a_request_without_a_gpu_gets_no_slot() -> None:
    assert indexes((), profile="none", count=0) == []


def test_what_is_not_free_is_explained_with_what_is() -> None:
    assert refusal(LAB, "1:2", "2", profile="2g.20gb") == (
        "You asked for 1 × 2g.20gb: this machine has 1, 0 free now. What you can do: "
        "choose what else is free now (4 × 1g.10gb, 1 × full GPU), or wait until one is free, or start "
        "without a GPU."
    )


def test_a_full_gpu_is_not_offered_to_whom_it_is_not_allowed() -> None:
    assert "full" not in refusal(LAB, "1:2", profile="2g.20gb", allow_full_gpu=False)


def test_who_asks_for_more_than_is_free_may_ask_for_fewer() -> None:
    message = refusal(LAB, "0:0", "0:1", "1:0", "1:2", "2", "3", count=2)
    assert "this machine has 4, 1 free now" in message
    assert message.endswith(
        "What you can do: ask for fewer, or wait until one is free, or start without a GPU."
    )


def test_who_asks_for_more_than_there_is_is_not_told_to_wait() -> None:
    assert "later" not in refusal(LAB, profile="3g.40gb")
    assert "later" not in refusal(LAB, count=5)


@pytest.mark.parametrize(("count", "can_wait"), [(4, True), (5, False)])
def test_waiting_makes_sense_where_the_empty_machine_would_do(count: int, can_wait: bool) -> None:
    with pytest.raises(NothingFree) as refused:
        indexes(LAB, "0:0", count=count)
    assert refused.value.can_wait is can_wait


def test_a_machine_without_a_gpu_says_so() -> None:
    assert refusal(()) == (
        "You asked for 1 × 1g.10gb: this machine has 0, 0 free now. What you can do: start without a GPU."
    )


def test_availability_has_one_row_per_profile_the_smallest_share_first() -> None:
    assert availability(LAB[::-1], {"MIG-0:0", "GPU-2", "GPU-of-another-node"}) == (
        Availability(profile="1g.10gb", total=4, free=3, memory_mib=9728, share=Fraction(1, 7)),
        Availability(profile="2g.20gb", total=1, free=1, memory_mib=19968, share=Fraction(2, 7)),
        Availability(profile=FULL_GPU, total=2, free=1, memory_mib=81920, share=Fraction(1)),
    )


def test_availability_counts_a_faulty_slot_but_not_as_free() -> None:
    (row,) = availability((replace(gpu("0"), fault="lost"), gpu("1")), set())
    assert (row.total, row.free) == (2, 1)


def test_availability_promises_the_least_memory_where_gpus_differ() -> None:
    (row,) = availability((mig("0:0", memory_mib=9728), mig("1:0", memory_mib=9856)), set())
    assert row.memory_mib == 9728


def test_a_strategy_that_is_built_is_taken_as_it_is() -> None:
    assert normalise_strategy("pack") == ("pack", "")
    assert normalise_strategy(" Least_Allocated ") == ("least_allocated", "")


@pytest.mark.parametrize("name", ["round_robin", "priority_aware"])
def test_a_strategy_of_ds01_that_is_not_built_means_least_allocated_with_a_warning(name: str) -> None:
    strategy, warning = normalise_strategy(name)
    assert strategy == "least_allocated"
    assert name in warning
    assert indexes(LAB, "0:0", strategy=name) == ["1:0"]


def test_an_unknown_strategy_is_a_broken_setting() -> None:
    with pytest.raises(ConfigBroken) as caught:
        indexes(LAB, strategy="packed")
    assert "packed" in caught.value.detail
