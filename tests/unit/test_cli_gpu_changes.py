"""`ds01 gpu allocate`, `drain` and `undrain`: what an admin changes without asking Docker."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ds01_spawner.adapters.box import read_box
from ds01_spawner.model import LeaseState, Mark, MarkKind
from tests.unit.lab import Lab, rows
from tests.unit.shell import BOX, Shell

LONG = "2099-01-01"


# allocate


def test_allocated_slot_is_printed_as_docker_takes_it(ask: Callable[..., str], lab: Lab) -> None:
    uuid = "MIG-5a1e0000-0000-5000-8000-000000000003"
    assert ask("allocate", "ada", "1g.10gb", "--until", LONG, "--reason", "thesis") == (
        "ada has 0:3 until 2099-01-02 00:00: lease 1.\n"
        f"  0:3  1g.10gb  {uuid}\n"
        "To use it:\n"
        f"  docker run --gpus device={uuid} …\n"
        f"  mlc-create … -g=device={uuid}\n"
    )
    (lease,) = lab.ledger.live_leases("ada")
    assert (lease.state, lease.container_id, lease.slots) == (LeaseState.HELD, None, (uuid,))
    assert lease.deadline == datetime(2099, 1, 2).astimezone()
    assert re.fullmatch(r"#allocated-[0-9a-f]{8}", lease.server)
    assert lab.ledger.find_live("ada", "") is None
    assert lab.history()[-1][:2] == ("held", "ada")
    assert re.fullmatch(r"allocated by \S+: thesis", lab.history()[-1][2])


def test_several_slots_are_quoted_as_docker_wants_it(ask: Callable[..., str]) -> None:
    out = ask("allocate", "kim", "2g.20gb:2", "--until", "+1h")
    assert (
        "  docker run --gpus '\"device=MIG-5a1e0000-0000-5000-8000-000000000000,"
        "MIG-5a1e0000-0000-5000-8000-000000000001\"' …\n"
    ) in out


def test_allocation_is_json_for_scripts(read: Callable[..., Any]) -> None:
    assert read("allocate", "ada", "2G.20GB", "--until", "2099-01-01T12:00Z") == {
        "lease": 1,
        "user": "ada",
        "until": "2099-01-01T12:00:00+00:00",
        "slots": [{"id": "0:0", "uuid": "MIG-5a1e0000-0000-5000-8000-000000000000", "profile": "2g.20gb"}],
        "dry_run": False,
    }


def test_allocated_slot_is_held_in_the_status_by_no_server(ask: Callable[..., str]) -> None:
    ask("allocate", "ada", "1g.10gb", "--until", LONG)
    assert "held ada no server 1" in rows(ask("status"))["0:3"]


def test_dry_run_says_what_would_be_given_and_gives_nothing(ask: Callable[..., str], lab: Lab) -> None:
    epoch = lab.ledger.epoch()
    out = ask("allocate", "ada", "1g.10gb", "--until", LONG, "--dry-run")
    assert out == "ada would get 0:3 until 2099-01-02 00:00.\n"
    assert (
        json.loads(ask("allocate", "ada", "1g.10gb", "--until", LONG, "--dry-run", "--json"))["lease"] is None
    )
    ask("drain", "0", "--dry-run")
    ask("undrain", "0", "--dry-run")
    assert lab.ledger.epoch() == epoch


@pytest.mark.parametrize("wish", ["full", "2g.20gb:2"])
def test_limits_of_the_user_hold_unless_forced(shell: Shell, lab: Lab, wish: str) -> None:
    arguments = ("gpu", "allocate", "ada", wish, "--until", LONG, "--config", lab.config)
    status, out, err = shell.run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("ds01: ada would be told: You")
    assert err.endswith("\n  --force gives it all the same\n")
    assert lab.ledger.live_leases() == ()
    assert shell.run(*arguments, "--force", "--dry-run")[0] == 0
    assert shell.run(*arguments, "--force")[0] == 0
    assert lab.history()[-1][2].endswith(", past the limits")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("ada", "1g.10gb", "--until", "2020-01-01"),
            "ds01: 2020-01-02 00:00 is over. Name a time to come.\n",
        ),
        (("eve", "1g.10gb", "--until", LONG), "ds01: There is no account 'eve' on this server yet."),
        (
            ("ada", "7g.80gb", "--until", LONG),
            "ds01: You asked for 1 × 7g.80gb: this machine has 0, 0 free now",
        ),
    ],
)
def test_what_cannot_be_allocated_is_a_sentence_and_status_1(
    shell: Shell, lab: Lab, arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = shell.run("gpu", "allocate", *arguments, "--config", lab.config)
    assert (status, out) == (1, "")
    assert err.startswith(said)


# drain


def test_drained_gpu_is_handed_out_no_more_and_its_holder_keeps_it(
    ask: Callable[..., str], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("ada", "vision", "1:3")
    if os.geteuid() == 0:
        monkeypatch.setenv("SUDO_USER", "eve")
    who = "eve" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    assert ask("drain", "1", "--reason", "fan") == (
        "1:0 is drained.\n1:1 is drained.\n1:3 is drained; lease 1 of ada (vision._.ada) keeps it.\n"
    )
    found = rows(ask("status"))
    assert found["1:0"].endswith(f"drained drained by {who}: fan")
    assert "leased ada vision" in found["1:3"]
    assert lab.history()[-1] == ("drained", who, "slot 1:3: fan")
    assert ask("undrain", "1:3") == "1:3 is in use again, it was drained (fan).\n"
    assert lab.history()[-1] == ("undrained", who, "slot 1:3: in use again")
    assert ask("undrain", "1:3") == "1:3 was not drained.\n"
    assert ask("drain", "1:0", "--dry-run") == "1:0 was drained before.\n"


def test_drained_slot_keeps_its_reason_until_another_is_given(ask: Callable[..., str], lab: Lab) -> None:
    uuid = lab.ledger.slots()[-1].uuid
    ask("drain", uuid, "--reason", "fan")
    assert ask("drain", "2") == "2 was drained before.\n"
    assert [mark.why for mark in lab.ledger.marks()] == ["fan"]
    assert ask("drain", "2", "--reason", "memory") == "2 is drained.\n"
    assert [mark.why for mark in lab.ledger.marks()] == ["memory"]


def test_undrained_slot_loses_what_an_xid_said_of_it(
    ask: Callable[..., str], read: Callable[..., Any], lab: Lab
) -> None:
    slot = lab.ledger.slots()[-1]
    lab.ledger.mark(Mark(slot=slot.uuid, kind=MarkKind.UNHEALTHY, why="XID 79", since=lab.now))
    lab.ledger.mark(Mark(slot=slot.uuid, kind=MarkKind.EXTERNAL, why="used by x", since=lab.now))
    assert ask("undrain", "2", "--dry-run") == "2 would be in use again, it was unhealthy (XID 79).\n"
    assert read("undrain", "2") == {
        "slots": [{"id": "2", "uuid": slot.uuid, "changed": True, "lease": None, "fault": ""}],
        "dry_run": False,
    }
    assert [mark.kind for mark in lab.ledger.marks()] == [MarkKind.EXTERNAL]


def test_slot_that_nvml_finds_faulty_stays_out_of_use_and_it_is_said(
    ask: Callable[..., str], lab: Lab, tmp_path: Path
) -> None:
    box = tmp_path / "faulty.box"
    box.write_text(Path(BOX).read_text().replace("gpu 2 uuid=", "gpu 2 lost=1 uuid="))
    found = read_box(box)
    slots = [slot for slot in lab.ledger.slots() if slot.index != "2"]
    whole = lab.ledger.slots()[-1]
    why = found.unreadable[0].why
    faulty = replace(whole, fault=why)
    lab.ledger.write_slots([*slots, faulty], lab.now)
    assert ask("undrain", "2").startswith(f"2 was not drained; it stays out of use, since {why[:20]}")


def test_slot_that_is_not_there_is_a_sentence(shell: Shell, lab: Lab) -> None:
    for verb in ("drain", "undrain"):
        status, out, err = shell.run("gpu", verb, "7:1", "--config", lab.config)
        assert (status, out) == (1, "")
        assert err == (
            "ds01: There is no slot '7:1' on this machine. Name one by its index (0, or 0:1) or its UUID.\n"
        )


def test_slot_that_is_gone_is_found_by_its_uuid_alone(ask: Callable[..., str], lab: Lab) -> None:
    gone = lab.ledger.slots()[-1]
    lab.ledger.write_slots(lab.ledger.slots()[:-1], lab.now)
    assert ask("drain", gone.uuid) == "2 is drained.\n"
