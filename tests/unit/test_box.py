from fractions import Fraction
from pathlib import Path

import pytest

from ds01_spawner.adapters.box import parse_box, read_box
from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.inventory import explain_gpu_error
from ds01_spawner.model import FULL_GPU, UnreadableGpu

GPU = 'uuid=GPU-a name="NVIDIA A100-SXM4-80GB" memory_mib=81920 cc=8.0'
MIG = "profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=9728"


def test_a_gpu_without_mig_is_one_full_slot() -> None:
    (slot,) = parse_box(f"gpu 0 {GPU} mig=none").slots
    assert (slot.index, slot.profile, slot.uuid, slot.gpu_uuid) == ("0", FULL_GPU, "GPU-a", "GPU-a")
    assert (slot.memory_mib, slot.share, slot.gpu_name) == (81920, Fraction(1), "NVIDIA A100-SXM4-80GB")


def test_a_gpu_with_mig_is_its_instances_in_the_order_of_their_places() -> None:
    text = f"gpu 0 {GPU} mig=on\nmig 0:5 uuid=MIG-f {MIG}\nmig 0:2 uuid=MIG-c {MIG}"
    assert [(slot.index, slot.uuid) for slot in parse_box(text).slots] == [("0:2", "MIG-c"), ("0:5", "MIG-f")]


def test_a_gpu_with_mig_and_no_instance_has_no_slot() -> None:
    inventory = parse_box(f"gpu 0 {GPU} mig=on")
    assert inventory.slots == ()
    assert [gpu.compute_capability for gpu in inventory.gpus] == [(8, 0)]


def test_a_lost_gpu_is_told_as_unreadable_without_its_slots_and_uuid() -> None:
    inventory = parse_box(f"gpu 0 {GPU} mig=on lost=1\nmig 0:0 uuid=MIG-a {MIG}")
    assert (inventory.slots, inventory.gpus) == ((), ())
    assert inventory.unreadable == (UnreadableGpu(index=0, uuid="", why=explain_gpu_error(0, 15)),)


def test_a_gpu_that_answers_is_not_unreadable() -> None:
    assert parse_box(f"gpu 0 {GPU} mig=off lost=0").unreadable == ()


def test_what_a_gpu_reports_does_not_change_its_slots() -> None:
    healthy = f"gpu 0 {GPU} mig=off"
    assert parse_box(f"{healthy} events=0\nxid GPU-a 79") == parse_box(healthy)


def test_a_box_is_always_simulated() -> None:
    assert parse_box("").simulated


def test_comments_and_blank_lines_say_nothing() -> None:
    assert parse_box(f"# a machine\n\ngpu 0 {GPU} mig=off # whole\n") == parse_box(f"gpu 0 {GPU} mig=off")


def test_a_blank_in_quotes_and_a_hash_in_quotes_belong_to_the_value() -> None:
    (gpu,) = parse_box('gpu 0 uuid=GPU-a name="GPU #1 of 2" memory_mib=1 cc=8.0 mig=off').gpus
    assert gpu.name == "GPU #1 of 2"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("gpus 0", "'gpus' is none of"),
        ("gpu", "followed by nothing"),
        ("gpu one", "followed by 'one'"),
        (f"gpu 7 {GPU} mig=off", "gpu 1 should come here"),
        (f"gpu 1 {GPU} mig=off", "GPU-a stands twice"),
        ("gpu 1 uuid=GPU-b memory_mib=1 cc=8.0 mig=off", "name missing"),
        (f"gpu 1 {GPU} mig=maybe", "'mig=maybe' has no valid value"),
        (f"gpu 1 {GPU} mig=off colour=red", "'colour=red' is not known here"),
        (f"gpu 1 {GPU} mig=off mig=on", "mig stands twice"),
        ('gpu 1 uuid=GPU-b name="open memory_mib=1 cc=8.0 mig=off', "has no valid value"),
        (f"mig 0:1 uuid=MIG-a {MIG}", "0:1 is taken"),
        (f"mig 0:7 uuid=MIG-b {MIG}", "past the 7 places"),
        (f"mig 3:0 uuid=MIG-b {MIG}", "no GPU before this line is 3"),
        ("mig 0:2 uuid=MIG-b profile=1g.10gb gi=7 ci=0 slices=1 memory_mib=99999", "is no MIG instance"),
        ("process GPU-z pid=1 memory_mib=1", "no GPU or MIG instance before this line"),
        ("util 4 gpu=1 memory=1", "no GPU before this line is 4"),
        ("xid GPU-z 79", "no GPU before this line is GPU-z"),
        ("xid MIG-first 79", "no GPU before this line is MIG-first"),
        ("xid GPU-a", "a number should follow GPU-a"),
        ("xid GPU-a seventynine", "a number should follow GPU-a"),
        ("xid GPU-a 79 80", "'80' is not known here"),
        ("xid 79", "followed by '79'"),
        ("driver", "followed by nothing"),
        ("cuda twelve", "followed by 'twelve'"),
    ],
)
def test_a_line_that_is_wrong_is_refused_by_its_number(line: str, complaint: str) -> None:
    machine = f"gpu 0 {GPU} mig=on\nmig 0:1 uuid=MIG-first {MIG}\n"
    with pytest.raises(ValueError, match=r"^line 3: ") as refused:
        parse_box(machine + line)
    assert complaint in str(refused.value)


def test_an_instance_on_a_gpu_without_mig_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2: gpu 0 has mig=off"):
        parse_box(f"gpu 0 {GPU} mig=off\nmig 0:0 uuid=MIG-a {MIG}")


def test_a_wrong_file_tells_the_person_its_line_and_the_admin_its_path(tmp_path: Path) -> None:
    path = tmp_path / "lab.box"
    path.write_text("driver 1\nnonsense 1\n")
    with pytest.raises(InventoryUnavailable) as refused:
        read_box(path)
    assert "lab.box, line 2" in refused.value.message
    assert str(path) in refused.value.detail


def test_a_missing_file_is_a_machine_without_a_driver(tmp_path: Path) -> None:
    with pytest.raises(InventoryUnavailable, match="driver is not loaded"):
        read_box(tmp_path / "none.box")


def test_a_driver_that_does_not_start_makes_the_inventory_unavailable() -> None:
    with pytest.raises(InventoryUnavailable, match="different versions"):
        parse_box(f"init 18\ngpu 0 {GPU} mig=off")
