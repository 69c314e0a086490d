"""What the container of some slots must show, table by table, and what is said where it shows others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ds01_spawner.devices import advise, compare, explain, tell
from ds01_spawner.model import Slot, VisibleDevices
from tests.unit.pools import gpu, mig

FIRST = replace(mig("0:1"), device_nodes=("nvidia0", "nvidia-cap12", "nvidia-cap13"))
SECOND = replace(mig("0:2"), device_nodes=("nvidia0", "nvidia-cap21", "nvidia-cap22"))
ELSEWHERE = replace(mig("1:1"), device_nodes=("nvidia1", "nvidia-cap147", "nvidia-cap148"))
WHOLE = replace(gpu("2"), device_nodes=("nvidia2",))
# Nobody could read the capabilities of one, nor any node of the other.
HALF_KNOWN = replace(mig("0:3"), device_nodes=("nvidia0",))
UNKNOWN = mig("0:4")
MODES = ("cdi", "nvidia")

EVERYTHING = (
    "nvidia0 nvidia1 nvidia2 nvidia-cap12 nvidia-cap13 nvidia-cap21 nvidia-cap22 nvidia-cap147 nvidia-cap148"
)


def differ(
    leased: tuple[Slot, ...], nodes: str, *, mode: str = "cdi", privileged: bool = False
) -> tuple[dict[str, str], str, str] | None:
    """Return nodes that are lacking by slot, surplus nodes, and suspects; None for no difference."""
    visible = VisibleDevices(nodes=frozenset(nodes.split()), privileged=privileged)
    found = compare(leased, visible, device_mode=mode)
    if found is None:
        return None
    lacks = {lack.slot.index: " ".join(lack.nodes) for lack in found.lacks}
    return lacks, " ".join(found.surplus), " ".join(slot.index for slot in found.suspects)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("leased", "nodes"),
    [
        ((), ""),
        ((FIRST,), "nvidia0 nvidia-cap12 nvidia-cap13"),
        ((FIRST, SECOND), "nvidia0 nvidia-cap12 nvidia-cap13 nvidia-cap21 nvidia-cap22"),
        ((FIRST, ELSEWHERE), "nvidia0 nvidia-cap12 nvidia-cap13 nvidia1 nvidia-cap147 nvidia-cap148"),
        ((WHOLE,), "nvidia2"),
    ],
)
def test_exactly_the_leased_devices_are_no_difference(
    leased: tuple[Slot, ...], nodes: str, mode: str
) -> None:
    assert differ(leased, nodes, mode=mode) is None


@pytest.mark.parametrize(
    ("leased", "nodes", "surplus", "suspects"),
    [
        # A default runtime with an image that asks for all.
        ((), EVERYTHING, EVERYTHING, ""),
        ((FIRST,), "nvidia0 nvidia-cap12 nvidia-cap13 nvidia-cap21", "nvidia-cap21", "0:1"),
        ((FIRST,), "nvidia0 nvidia-cap12 nvidia-cap13 nvidia2", "nvidia2", "0:1"),
        ((FIRST, ELSEWHERE), EVERYTHING, "nvidia2 nvidia-cap21 nvidia-cap22", "0:1 1:1"),
        # The right to cut all GPUs anew.
        ((WHOLE,), "nvidia2 nvidia-cap1", "nvidia-cap1", "2"),
    ],
)
def test_more_than_was_leased_is_a_difference(
    leased: tuple[Slot, ...], nodes: str, surplus: str, suspects: str
) -> None:
    for mode in MODES:
        assert differ(leased, nodes, mode=mode) == ({}, surplus, suspects)


@pytest.mark.parametrize(
    ("leased", "nodes", "lacks"),
    [
        ((FIRST,), "", {"0:1": "nvidia0 nvidia-cap12 nvidia-cap13"}),
        ((FIRST,), "nvidia0 nvidia-cap12", {"0:1": "nvidia-cap13"}),
        ((WHOLE,), "", {"2": "nvidia2"}),
        (
            (FIRST, ELSEWHERE),
            "nvidia0 nvidia-cap12 nvidia-cap13",
            {"1:1": "nvidia1 nvidia-cap147 nvidia-cap148"},
        ),
        # Both lie on that GPU.
        (
            (FIRST, SECOND),
            "nvidia-cap12 nvidia-cap13 nvidia-cap21 nvidia-cap22",
            {"0:1": "nvidia0", "0:2": "nvidia0"},
        ),
    ],
)
def test_a_slot_that_is_not_wholly_there_is_suspect_alone(
    leased: tuple[Slot, ...], nodes: str, lacks: dict[str, str]
) -> None:
    for mode in MODES:
        assert differ(leased, nodes, mode=mode) == (lacks, "", " ".join(lacks))


def test_another_device_instead_of_a_leased_one_makes_that_one_suspect() -> None:
    nodes = "nvidia0 nvidia-cap12 nvidia-cap13 nvidia2"
    assert differ((FIRST, ELSEWHERE), nodes) == (
        {"1:1": "nvidia1 nvidia-cap147 nvidia-cap148"},
        "nvidia2",
        "1:1",
    )


@pytest.mark.parametrize(
    ("leased", "nodes", "found"),
    [
        ((HALF_KNOWN,), "nvidia0 nvidia-cap30 nvidia-cap31", None),
        ((HALF_KNOWN,), "nvidia-cap30 nvidia-cap31", ({"0:3": "nvidia0"}, "", "0:3")),
        ((HALF_KNOWN,), "nvidia0 nvidia1 nvidia-cap30", ({}, "nvidia1", "0:3")),
        ((FIRST, HALF_KNOWN), "nvidia0 nvidia-cap12 nvidia-cap30", ({"0:1": "nvidia-cap13"}, "", "0:1")),
        ((UNKNOWN,), "nvidia0 nvidia-cap39 nvidia-cap40", None),
        ((UNKNOWN,), "", None),
        ((WHOLE, UNKNOWN), "nvidia0", ({"2": "nvidia2"}, "", "2")),
    ],
)
def test_what_nobody_could_read_of_a_slot_is_not_held_against_a_container(
    leased: tuple[Slot, ...], nodes: str, found: object
) -> None:
    assert differ(leased, nodes) == found


def test_where_gpus_are_not_handed_over_none_must_be_visible() -> None:
    assert differ((FIRST,), "", mode="none") is None
    assert differ((FIRST,), "nvidia0", mode="none") == ({}, "nvidia0", "0:1")


def test_a_privileged_container_has_every_node_and_lacks_what_it_lacks() -> None:
    assert differ((FIRST,), EVERYTHING, privileged=True) is None
    assert differ((), EVERYTHING, privileged=True) is None
    assert differ((FIRST,), "nvidia0 nvidia2", privileged=True) == (
        {"0:1": "nvidia-cap12 nvidia-cap13"},
        "",
        "0:1",
    )


# what is said --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leased", "nodes", "told"),
    [
        ((), "nvidia0", "saw a GPU although none was leased for it, so it was stopped"),
        (
            (FIRST,),
            "nvidia0 nvidia-cap12 nvidia-cap13 nvidia2",
            "saw a GPU that was not leased for it, so it was stopped, and slot 0:1 was taken out of use",
        ),
        (
            (FIRST,),
            "nvidia0 nvidia-cap21 nvidia-cap22",
            "saw another GPU than was leased for it, so it was stopped, and slot 0:1 was taken out of use",
        ),
        (
            (FIRST,),
            "",
            "did not see the GPU leased for it, so it was stopped, and slot 0:1 was taken out of use",
        ),
        (
            (FIRST, ELSEWHERE),
            "nvidia0 nvidia-cap12 nvidia-cap13",
            "did not see all GPUs leased for it, so it was stopped, and slot 1:1 was taken out of use",
        ),
        (
            (FIRST, SECOND),
            "",
            "did not see all GPUs leased for it, so it was stopped, and slots 0:1 and 0:2 were taken out of "
            "use",
        ),
    ],
)
def test_the_student_reads_what_her_server_saw_and_what_was_done(
    leased: tuple[Slot, ...], nodes: str, told: str
) -> None:
    found = compare(leased, VisibleDevices(nodes=frozenset(nodes.split())), device_mode="cdi")
    assert found is not None
    assert tell(found) == told


def test_the_admin_reads_the_nodes_of_each_slot_and_where_to_look() -> None:
    visible = VisibleDevices(nodes=frozenset({"nvidia0", "nvidia-cap21"}))
    found = compare((FIRST,), visible, device_mode="cdi")
    assert found is not None
    assert explain(found) == (
        "nvidia-cap12, nvidia-cap13 of slot 0:1 (MIG-0:1) missing; nvidia-cap21 visible without a lease"
    )
    assert advise(found, device_mode="cdi") == (
        "CDI specs may be older than the GPUs' slices: nvidia-ctk cdi generate writes new ones; Docker's "
        "default runtime, a CDI spec or extra_host_config may give GPUs unasked"
    )
    assert advise(replace(found, surplus=()), device_mode="nvidia") == "NVIDIA's hook did not hand them over"


def test_a_whole_machine_is_told_in_few_words() -> None:
    visible = VisibleDevices(nodes=frozenset(f"nvidia{minor}" for minor in range(16)))
    found = compare((), visible, device_mode="nvidia")
    assert found is not None
    assert explain(found) == (
        "nvidia0, nvidia1, nvidia2, nvidia3, nvidia4, nvidia5 and 10 more visible without a lease"
    )
