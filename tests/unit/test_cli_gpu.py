"""`ds01 gpu`: what an admin and her scripts see, and where the settings are found. No Docker is asked."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ds01_spawner.adapters.box import read_box
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.cli import sources
from ds01_spawner.model import UNLIMITED, Mark, MarkKind, Reservation
from tests.unit.lab import Lab, hour, make_config, rows
from tests.unit.shell import BOX, Shell, write_config

SCRIPT = str(Path(sys.executable).with_name("ds01"))
LONG = "2099-01-01"


# status


def test_every_slot_stands_under_its_gpu(ask: Callable[..., str]) -> None:
    assert ask("status") == (
        " SLOT  PROFILE   MEMORY    STATE\n"
        "GPU 0  NVIDIA A100-SXM4-80GB\n"
        " 0:0   2g.20gb   19.5 GiB  free\n"
        " 0:1   2g.20gb   19.5 GiB  free\n"
        " 0:2   2g.20gb   19.5 GiB  free\n"
        " 0:3   1g.10gb   9.5 GiB   free\n"
        "GPU 1  NVIDIA A100-SXM4-80GB\n"
        " 1:0   3g.40gb   39.5 GiB  free\n"
        " 1:1   1g.20gb   19.5 GiB  free\n"
        " 1:3   1g.10gb   9.5 GiB   free\n"
        "GPU 2  NVIDIA A100-SXM4-80GB\n"
        " 2     full GPU  80 GiB    free\n"
        "\n"
        "8 of 8 free\n"
    )


def test_who_has_a_slot_since_when_and_until_when_stands_beside_it(ask: Callable[..., str], lab: Lab) -> None:
    lab.run("ada", "vision", "0:0", runs_for=timedelta(hours=2))
    lab.reserve("bob", "", "0:1")
    lab.ledger.mark(
        Mark(slot=lab.ledger.slots()[2].uuid, kind=MarkKind.DRAINED, why="fan", who="eve", since=lab.now)
    )
    out = ask("status")
    since, until = hour(lab.now), hour(lab.now + timedelta(hours=2))
    assert rows(out) | {
        "0:0": f"0:0 2g.20gb 19.5 GiB leased ada vision 1 {since} {until}",
        "0:1": f"0:1 2g.20gb 19.5 GiB pending bob jupyter 2 {since}",
        "0:2": "0:2 2g.20gb 19.5 GiB drained drained by eve: fan",
    } == rows(out)
    assert out.splitlines()[0].split()[-6:] == ["USER", "SERVER", "LEASE", "SINCE", "UNTIL", "NOTE"]
    assert out.endswith("\n5 of 8 free\n")


def test_who_waits_stands_below_with_her_place_and_her_hope(ask: Callable[..., str], lab: Lab) -> None:
    lab.run("ada", "vision", "2", runs_for=timedelta(hours=2))
    lab.wait("bob", "later", "full")
    lab.wait("kim", "soon", "full", priority=50)
    out = ask("status")
    now, then = hour(lab.now), hour(lab.now + timedelta(hours=2))
    assert [" ".join(line.split()) for line in out.splitlines()[-5:]] == [
        "PLACE USER SERVER WISH PRIORITY SINCE EXPECTED",
        f"1 kim soon 1 × full GPU 50 {now} {then}",
        f"2 bob later 1 × full GPU 0 {now} not known",
        "",
        "7 of 8 free, 2 waiting",
    ]


def test_status_is_json_for_scripts(read: Callable[..., Any], lab: Lab) -> None:
    lab.run("ada", "vision", "0:3", runs_for=timedelta(hours=2))
    lab.wait("bob", "", "2g.20gb", count=3, priority=10)
    found = read("status")
    assert (len(found["slots"]), found["problem"]) == (8, None)
    since = lab.now.isoformat(timespec="seconds")
    assert found["slots"][3] == {
        "id": "0:3",
        "node": "local",
        "uuid": "MIG-5a1e0000-0000-5000-8000-000000000003",
        "profile": "1g.10gb",
        "memory_mib": 9728,
        "share": 1 / 7,
        "state": "leased",
        "why": "",
        "lease": {
            "id": 1,
            "user": "ada",
            "server": "vision",
            "container": "vision._.ada",
            "state": "active",
            "since": since,
            "until": (lab.now + timedelta(hours=2)).isoformat(timespec="seconds"),
        },
    }
    assert found["slots"][0]["lease"] is None
    (entry,) = found["queue"]
    assert datetime.fromisoformat(entry.pop("expected_at")) >= lab.now - timedelta(seconds=1)
    assert entry == {
        "position": 1,
        "user": "bob",
        "server": "",
        "profile": "2g.20gb",
        "count": 3,
        "priority": 10,
        "requested_at": since,
    }


def test_gpus_that_nobody_reads_are_said_beside_what_was_known(shell: Shell, lab: Lab) -> None:
    lab.ledger.write_inventory(read_box(Path(BOX)), lab.now - timedelta(hours=1))
    status, out, err = shell.run("gpu", "status", "--config", lab.config)
    assert (status, out.splitlines()[-1]) == (0, "8 of 8 free")
    assert err.startswith(f"ds01: Nobody has looked at the GPUs since {hour(lab.now - timedelta(hours=1))}")
    found = json.loads(shell.ask("gpu", "status", "--json", "--config", lab.config))
    assert found["problem"].startswith("Nobody has looked at the GPUs since ")


def test_machine_without_gpus_has_nothing_free(shell: Shell, tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path}/ledger.sqlite").close()
    config = make_config(tmp_path, tmp_path / "ledger.sqlite")
    status, out, err = shell.run("gpu", "status", "--config", config)
    assert (status, out) == (0, "0 of 0 free\n")
    assert err.startswith("ds01: The GPUs of this machine were not looked at yet.")


def test_slot_that_is_gone_is_shown_while_somebody_has_it(ask: Callable[..., str], lab: Lab) -> None:
    lab.run("ada", "vision", "0:3")
    inventory = read_box(Path(BOX))
    lab.ledger.write_slots([slot for slot in inventory.slots if slot.index != "0:3"], lab.now)
    row = rows(ask("status"))["0:3"]
    assert "unhealthy ada vision 1" in row
    assert row.endswith("this slot is no longer on the machine")


def test_what_others_wrote_is_shown_and_never_obeyed_by_the_terminal(
    ask: Callable[..., str], lab: Lab
) -> None:
    lab.run("ada", "\x1b[2Jvision", "0:3")
    slot = lab.ledger.slots()[0]
    why = "used by \x9b31m[bold]x[/bold]"
    lab.ledger.mark(Mark(slot=slot.uuid, kind=MarkKind.EXTERNAL, why=why, since=lab.now))
    out = ask("status")
    assert "�[2Jvision" in out
    assert "used by �31m[bold]x[/bold]" in out
    assert all(character == "\n" or character.isprintable() for character in out)


def read_terminal(command: list[str], *, columns: int) -> str:
    """Return what a command writes to a terminal of so many columns."""
    terminal, its_end = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its_end, env=environment):
        os.close(its_end)
        seen = b""
        try:
            while chunk := os.read(terminal, 4096):
                seen += chunk
        except OSError:  # what Linux says when nobody has its other end any more
            os.close(terminal)
    return seen.decode()


def test_too_narrow_a_terminal_loses_nothing(lab: Lab) -> None:
    lab.run("ada", "a-server-with-quite-a-long-name", "0:3")
    slot = lab.ledger.slots()[0]
    why = "a reason that is so long that no terminal of a common size has room for it in one line of its own"
    lab.ledger.mark(Mark(slot=slot.uuid, kind=MarkKind.DRAINED, why=why, since=lab.now))
    seen = read_terminal([SCRIPT, "gpu", "status", "--config", lab.config], columns=60)
    assert "a-server-with-quite-a-long-name" in seen
    assert "\x1b[32mfree" in seen
    assert "…" not in seen
    assert "".join(why.split()) in "".join(seen.split())


# user-status


def test_user_reads_what_she_has_and_what_is_left(ask: Callable[..., str], lab: Lab) -> None:
    lab.run("ada", "vision", "0:3", runs_for=timedelta(hours=2))
    lab.wait("ada", "second", "2g.20gb", count=2)
    lab.ledger.write_reservations(
        [
            Reservation(
                user="ada",
                start=lab.now - timedelta(days=2),
                end=lab.now - timedelta(days=1),
                gpus=("1",),
            ),
            Reservation(
                user="ada",
                start=lab.now + timedelta(days=2),
                end=lab.now + timedelta(days=3),
                gpus=("0", "1:1"),
                reason="paper",
            ),
        ],
        lab.now,
    )
    since, until = hour(lab.now), hour(lab.now + timedelta(hours=2))
    expected = re.escape(
        "ada (group student)\n"
        "  servers    1 of 3, 2 left\n"
        "  GPU slots  1 of 1, 0 left\n"
        "  GPU share  0.143 of 1, 0.857 left\n"
        "\n"
        f"LEASE  SERVER  STATE   SLOTS  SINCE{' ' * (len(since) - 5)}  UNTIL\n"
        f"1      vision  active  0:3    {since}  {until}\n"
        "\n"
        f"Waits for 2 × 2g.20gb since {since}, place 1 of 1, expected at TIME (second).\n"
        "\n"
        f"Reserved: GPU 0, 1:1 from {hour(lab.now + timedelta(days=2))} until "
        f"{hour(lab.now + timedelta(days=3))}: paper\n"
    ).replace("TIME", r"[\d: -]+")
    assert re.fullmatch(expected, ask("user-status", "ada"))


def test_user_with_nothing_reads_her_limits(ask: Callable[..., str]) -> None:
    assert ask("user-status", "kim", "--group", "admin") == (
        "kim (group admin)\n  servers    0, unlimited\n  GPU slots  0, unlimited\n  GPU share  0, unlimited\n"
    )
    assert ask("user-status", "kim").startswith("kim (group researcher)\n")


def test_user_reads_what_her_servers_take_together_where_it_is_limited(shell: Shell, lab: Lab) -> None:
    limits = lab.folder / "limits.yaml"
    limits.write_text("defaults: {aggregate: {cpu_quota: 1250%, memory_max: 48G}}\n")
    lab.run("ada", "vision", "0:3")
    asked = ("user-status", "ada", "--config", lab.config, "--limits", str(limits))
    assert "  CPUs       8 of 12.5, 4.5 left\n  memory     32g of 48g, 16g left\n\n" in shell.ask(
        "gpu", *asked
    )
    lab.ledger.reserve(replace(lab.draft("ada", "old", None), takes=UNLIMITED), lambda _view: ())
    assert "  CPUs       all of 12.5, since nobody knows a limit of one server\n" in shell.ask("gpu", *asked)
    found = json.loads(shell.ask("gpu", *asked, "--json"))
    assert found["cpus"] == {"used": None, "allowed": 12.5, "left": 0}


def test_group_of_her_leases_counts_where_the_settings_name_none(ask: Callable[..., str], lab: Lab) -> None:
    draft = replace(lab.draft("ada", "vision", None), group="researcher")
    lab.ledger.reserve(draft, lambda _view: ())
    assert ask("user-status", "ada").startswith("ada (group researcher)\n")


def test_user_status_is_json_for_scripts(read: Callable[..., Any], lab: Lab) -> None:
    lease = lab.run("ada", "vision", "0:3")
    lab.ledger.hold(lease.id, lab.now + timedelta(minutes=15), lab.now, "its container exited")
    until = lab.now + timedelta(minutes=2)
    lab.ledger.end(lease.id, lab.now, "stopped in the Hub", until=until)
    lab.wait("bob", "", "2g.20gb")
    lab.wait("ada", "second", "full")
    found = read("user-status", "ada")
    (place,) = found.pop("queue")
    assert (place["position"], place["server"], place["profile"]) == (2, "second", "full")
    assert found == {
        "user": "ada",
        "group": "student",
        "servers": {"used": 1, "allowed": 3, "left": 2},
        "slots": {"used": 1, "allowed": 1, "left": 0},
        "gpu_share": {"used": 1 / 7, "allowed": 1.0, "left": 6 / 7},
        "cpus": {"used": 8.0, "allowed": None, "left": None},
        "memory_bytes": {"used": 32 * 1024**3, "allowed": None, "left": None},
        "pids": {"used": 4096, "allowed": None, "left": None},
        "leases": [
            {
                "id": 1,
                "server": "vision",
                "container": "vision._.ada",
                "state": "held",
                "since": lab.now.isoformat(timespec="seconds"),
                "until": until.isoformat(timespec="seconds"),
                "ending": "stopped in the Hub",
                "slots": [
                    {"id": "0:3", "uuid": "MIG-5a1e0000-0000-5000-8000-000000000003", "profile": "1g.10gb"}
                ],
            }
        ],
        "queue_length": 2,
        "reservations": [],
    }


# history


def test_history_is_a_table_of_what_happened_the_newest_last(ask: Callable[..., str], lab: Lab) -> None:
    lab.run("ada", "", "0:3")
    lines = [line.split() for line in ask("history").splitlines()]
    assert lines[0] == ["TIME", "WHAT", "WHO", "SERVER", "LEASE", "SLOTS", "WHY"]
    assert [line[2:] for line in lines[1:]] == [
        ["pending", "ada", "jupyter", "1", "0:3"],
        ["activated", "ada", "jupyter", "1", "0:3", "000000000000"],
    ]
    assert " ".join(lines[1][:2]) == f"{lab.now.astimezone():%Y-%m-%d %H:%M:%S}"


def test_history_is_of_one_user_since_a_time_and_never_more_than_asked(
    read: Callable[..., Any], lab: Lab
) -> None:
    lab.run("ada", "", "0:3")
    lab.run("bob", "")
    events = read("history", "--user", "bob", "--since", "1h", "--limit", "1")
    assert events == [
        {
            "id": 4,
            "at": lab.now.isoformat(timespec="seconds"),
            "kind": "activated",
            "who": "bob",
            "why": f"{2:064x}",
            "lease": 2,
            "server": "",
            "slots": [],
        }
    ]
    assert read("history", "--since", "2099-01-01") == []


def test_empty_history_is_said(shell: Shell, lab: Lab) -> None:
    assert shell.run("gpu", "history", "--user", "eve", "--config", lab.config) == (
        0,
        "",
        "ds01: Nothing of that kind is in the history.\n",
    )


# where the settings are


def test_settings_of_the_hub_are_found_in_the_environment(
    shell: Shell, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS01_CONFIG", lab.config)
    assert shell.ask("gpu", "status").endswith("8 of 8 free\n")
    assert shell.run("gpu", "status", "--config", "/nowhere.py")[0] == 2


def test_settings_of_the_hub_are_found_where_it_has_them_itself(
    shell: Shell, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "HUB_CONFIG", lab.config)
    assert shell.ask("gpu", "status").endswith("8 of 8 free\n")


@pytest.mark.parametrize("command", [("gpu", "status"), ("gpu", "drain", "0"), ("reconcile",)])
def test_without_the_hubs_settings_all_three_places_are_named(
    shell: Shell, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "HUB_CONFIG", str(tmp_path / "none.py"))
    status, out, err = shell.run(*command)
    assert (status, out) == (2, "")
    assert err.endswith(f"Name it with --config or in $DS01_CONFIG, or put it at {tmp_path}/none.py.\n")


def test_ledger_that_is_not_there_is_not_made_by_looking(shell: Shell, tmp_path: Path) -> None:
    config = make_config(tmp_path, tmp_path / "deep" / "ledger.sqlite")
    status, out, err = shell.run("gpu", "status", "--config", config)
    assert (status, out) == (1, "")
    assert err.startswith("ds01: Nobody has leased anything yet")
    assert not (tmp_path / "deep").exists()


def test_limits_file_on_the_command_line_comes_before_the_settings(
    shell: Shell, lab: Lab, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("default_group: guests\ngroups: {guests: {max_gpu_slots: 5}}\n")
    out = shell.ask("gpu", "user-status", "ada", "--config", lab.config, "--limits", str(limits))
    assert out.startswith("ada (group guests)\n")
    assert "  GPU slots  0 of 5, 5 left\n" in out


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, which those of the tests are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Somebody:
    """While it lasts, this process has the rights of an ordinary user; root's own outlast any mode."""

    def __enter__(self) -> None:
        if os.getuid() == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if os.getuid() == 0:
            os.seteuid(0)


def test_ledger_of_root_is_said_to_need_root(shell: Shell, open_folder: Path) -> None:
    ledger = open_folder / "ledger.sqlite"
    Ledger(f"sqlite:///{ledger}").close()
    ledger.chmod(0)
    config = make_config(open_folder, ledger)
    # What is imported late must be there already: an ordinary user may not be allowed to read it.
    assert shell.run("gpu", "history", "--config", config)[0] in (0, 1)
    with Somebody():
        status, out, err = shell.run("gpu", "history", "--config", config)
    assert (status, out) == (1, "")
    assert err.startswith(
        "ds01: Only root, and the user who runs the Hub, may use the ledger. Run this command with sudo.\n"
    )


def test_settings_of_root_are_said_to_need_root(shell: Shell, open_folder: Path) -> None:
    config = write_config(open_folder)
    # As above.
    assert shell.run("gpu", "status", "--config", config)[0] in (0, 1)
    Path(config).chmod(0)
    with Somebody():
        status, out, err = shell.run("gpu", "status", "--config", config)
    assert (status, out) == (2, "")
    assert err == f"ds01: Only root may read the Hub's settings in {config}. Run this command with sudo.\n"


# arguments and help


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("allocate", "ada", "1g.10gb"),
        ("allocate", "ada", "none", "--until", "+1h"),
        ("allocate", "ada", "1g.10gb:0", "--until", "+1h"),
        ("allocate", "ada", "1g.10gb:17", "--until", "+1h"),
        ("allocate", "ada", "1g.10gb:", "--until", "+1h"),
        ("allocate", "ada", ":2", "--until", "+1h"),
        ("allocate", "ada", "1g.10gb", "--until", "soon"),
        ("history", "--since", "yesterday"),
        ("history", "--limit", "0"),
        ("release",),
        ("drain",),
        ("user-status",),
        ("status", "--dry-run"),
    ],
)
def test_wrong_arguments_are_status_2_with_the_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    status, out, err = shell.run("gpu", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: ds01")


def keys_of(value: object) -> set[str]:
    """Return every key in an answer, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("user-status", "ada"),
        ("allocate", "kim", "1g.10gb", "--until", LONG),
        ("drain", "0"),
        ("undrain", "0"),
        ("history",),
    ],
)
def test_help_names_every_key_of_the_json_in_80_columns(
    shell: Shell, lab: Lab, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("ada", "", "0:3")
    lab.wait("ada", "second", "full")
    answer = json.loads(shell.ask("gpu", *command, "--json", "--config", lab.config))
    monkeypatch.setenv("COLUMNS", "80")
    out = shell.ask("gpu", command[0], "--help")
    said = re.findall(r"\w+", out.partition("With --json")[2])
    assert keys_of(answer) - set(said) == set()
    assert max(map(len, out.splitlines())) <= 80


def test_help_needs_neither_the_hub_nor_a_table() -> None:
    program = (
        "import sys\nfrom ds01_spawner.cli import main\n"
        "try: main(['gpu', '--help'])\nexcept SystemExit: pass\n"
        "print({'jupyterhub', 'docker', 'sqlalchemy', 'traitlets', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
