"""The old commands: each call form that people and their scripts have, and what it is today."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ds01_spawner.cli import build_parser, main
from ds01_spawner.cli.old_names.table import OLD_NAMES, translate
from ds01_spawner.errors import RequestRefused
from tests.unit.service_stand_in import stand_in
from tests.unit.shell import LIMITS, ROOT, Shell

Call = Callable[[str], tuple[object, str, str]]

SCRIPT = Path(sys.executable).with_name("ds01")
# As they are typed in DS01's and AIME's own papers, and what is run today.
CALL_FORMS = [
    ("image-create", "image create"),
    ("image-create my-cv-project", "image create my-cv-project"),
    ("image-create my-cv-project -f pytorch -t cv", "image create my-cv-project -f pytorch -t cv"),
    ("image-create --guided", "image create --guided"),
    ("image-list", "image list"),
    ("image-update my-cv-project", "image update my-cv-project"),
    ("image-delete my-cv-project", "image delete my-cv-project"),
    ("container-create my-cv-project", "container create my-cv-project"),
    ("container-create", "container create"),
    ("container-list", "container list"),
    ("container-run my-thesis", "container run my-thesis"),
    ("container-stats", "container stats"),
    ("container-stop my-thesis", "container stop my-thesis"),
    ("container-cleanup", "container cleanup"),
    ("user-setup", "user setup"),
    ("user-setup --guided", "user setup --guided"),
    ("project-init", "project init"),
    ("project-init my-thesis --guided", "project init my-thesis --guided"),
    ("mlc-create", "container create"),
    ("mlc-create test pytorch 2.5.1", "container create test pytorch 2.5.1"),
    (
        "mlc-create test Pytorch 2.5.1 -w=/w -d=/d",
        "container create test Pytorch 2.5.1 --workspace /w --data /d",
    ),
    (
        "mlc-create test Pytorch 2.7.1 -w /w -d /d -m /m -s",
        "container create test Pytorch 2.7.1 --workspace /w --data /d --models /m",
    ),
    (
        "mlc-create test Pytorch --workspace_dir=/w --data_dir=/d --models_dir=/m --script",
        "container create test Pytorch --workspace /w --data /d --models /m",
    ),
    ("mlc-create -w=/w test Pytorch 2.7.1", "container create test Pytorch 2.7.1 --workspace /w"),
    ("mlc-create test Pytorch -g 1g.10gb:2", "container create test Pytorch --gpu 1g.10gb:2"),
    ("mlc-create test Pytorch --gpus=full", "container create test Pytorch --gpu full"),
    ("mlc-create-patched pytorch-test Pytorch 2.5.1", "container create pytorch-test Pytorch 2.5.1"),
    (
        "mlc-create-patched test pytorch --cpus=8 --memory=16g --shm-size=16g --pids-limit=4096",
        "container create test pytorch --cpus 8 --memory 16g --shm-size 16g --pids-limit 4096",
    ),
    ("mlc-create-wrapper test-container pytorch", "container create test-container pytorch"),
    ("mlc-create-wrapper.sh test-container pytorch", "container create test-container pytorch"),
    (
        "mlc-patched.py create test-mlc-fixed Pytorch 2.7.1 -s -w /home/ada/workspace",
        "container create test-mlc-fixed Pytorch 2.7.1 --workspace /home/ada/workspace",
    ),
    ("get-resource-limits john --docker-args", "limits john --docker-args"),
    ("get_resource_limits.py john --docker-args", "limits john --docker-args"),
    ("gpu-allocator status", "gpu status"),
    ("gpu_allocator.py status", "gpu status"),
    ("gpu_allocator.py user-status john", "gpu user-status john"),
    ("gpu_allocator.py release gpu-test._.1001", "gpu release gpu-test._.1001"),
]
# Those of which something has no meaning today: what is run, and a part of each sentence about the rest.
CHANGED_FORMS = [
    ("mlc-create test Pytorch 2.5.1 -g=all", "container create test Pytorch 2.5.1", ["'all'"]),
    ("mlc-create test Pytorch 2.5.1 -g 1", "container create test Pytorch 2.5.1", ["'1'"]),
    ("mlc-create test Pytorch --gpus=device=0:1", "container create test Pytorch", ["'device=0:1'"]),
    ("mlc-create test Pytorch -arch CUDA_ADA", "container create test Pytorch", ["'CUDA_ADA' is ignored"]),
    (
        "mlc-create-patched test pytorch --image=pytorch/pytorch:2.5.1",
        "container create test --image pytorch/pytorch:2.5.1",
        ["takes the place of pytorch"],
    ),
    (
        "mlc-patched.py create my-project pytorch --image my-project-ada -s -w /w",
        "container create my-project --image my-project-ada --workspace /w",
        ["takes the place of pytorch"],
    ),
    (
        "mlc-create-patched my-cv-project pytorch --image=my-cv-project-john-image --cpus=16 --memory=32g "
        "--shm-size=16g --gpu=0:1 --cgroup-parent=ds01-student.slice",
        "container create my-cv-project --image my-cv-project-john-image --cpus 16 --memory 32g "
        "--shm-size 16g",
        ["takes the place of pytorch", "'0:1'", "'ds01-student.slice' is ignored"],
    ),
]
REFUSED_FORMS = [
    ("gpu_allocator.py allocate john my-cv-project 1 10", "ds01 container create NAME --gpu PROFILE"),
    ("gpu-allocator", "user-status USER"),
    ("get-resource-limits", "ds01 limits USER"),
    ("get-resource-limits --docker-args", "ds01 limits USER"),
    ("container-run", "ds01 container run NAME"),
    ("container-stop", "ds01 container stop NAME"),
    ("image-update --all", "ds01 image update NAME"),
    ("mlc-create test Pytorch --volume=/", "ds01 container create NAME"),
    ("mlc-create test Pytorch 2.5.1 more", "ds01 container create NAME"),
    ("mlc-create test -w", "ds01 container create NAME"),
    ("mlc-patched.py open test", "ds01 container create NAME"),
]


def split(text: str) -> tuple[str, list[str]]:
    name, *arguments = text.split()
    return name, arguments


@pytest.fixture
def call(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A function that calls `ds01` by another name, in this process."""

    def run(text: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", [f"/usr/local/bin/{text.split()[0]}", *text.split()[1:]])
        try:
            status: object = main()
        except SystemExit as left:
            status = left.code
        return status, *shell.captured.readouterr()

    return run


@pytest.mark.parametrize(("old", "today"), CALL_FORMS)
def test_an_old_call_is_one_of_today_and_there_is_nothing_to_say(old: str, today: str) -> None:
    order = translate(*split(old))
    assert (" ".join(order.arguments), order.notes) == (today, ())


@pytest.mark.parametrize(("old", "today", "said"), CHANGED_FORMS)
def test_what_has_no_meaning_today_is_left_out_and_said(old: str, today: str, said: list[str]) -> None:
    order = translate(*split(old))
    assert " ".join(order.arguments) == today
    assert len(order.notes) == len(said)
    assert all(part in note for part, note in zip(said, order.notes, strict=True))


@pytest.mark.parametrize("old", [old for old, *_ in (*CALL_FORMS, *CHANGED_FORMS)])
def test_the_command_of_today_takes_what_comes_out(old: str) -> None:
    arguments = translate(*split(old)).arguments
    assert build_parser(arguments).parse_args(arguments).run


def test_what_get_resource_limits_prints_is_what_mlc_create_takes(shell: Shell) -> None:
    printed = shell.ask("limits", "john", "--docker-args", "--limits", LIMITS)
    order = translate("mlc-create-patched", ["test", "pytorch", *printed.split()])
    assert order.arguments[:6] == ("container", "create", "test", "pytorch", "--cpus", "8")
    assert "'ds01-student.slice' is ignored" in " ".join(order.notes)


@pytest.mark.parametrize(("old", "today"), REFUSED_FORMS)
def test_a_call_that_cannot_be_says_in_a_line_what_it_is_today(call: Call, old: str, today: str) -> None:
    status, out, err = call(old)
    assert (status, out) == (2, "")
    assert err.startswith(f"ds01: {old.split()[0]}: ")
    assert err.count("\n") == 1
    assert today in err


@pytest.mark.parametrize("old", ["project-init --bogus", "image-list --bogus", "container-stats a b"])
def test_what_the_command_of_today_refuses_ends_with_its_name(call: Call, old: str) -> None:
    name = old.split()[0]
    status, out, err = call(old)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == f"ds01: {name} is an old name. Today it is: {OLD_NAMES[name].today}"


@pytest.mark.parametrize("name", OLD_NAMES)
def test_help_says_what_a_name_stands_for(call: Call, name: str) -> None:
    status, out, err = call(f"{name} --help")
    assert (status, err) == (0, "")
    assert f"Today it is: {OLD_NAMES[name].today}\n" in out


def test_help_of_a_program_in_a_container_is_that_programs() -> None:
    assert translate("container-run", ["thesis", "--", "python", "--help"]).arguments[-1] == "--help"


def test_container_exit_explains_that_leaving_stops_nothing(call: Call) -> None:
    status, _, err = call("container-exit")
    assert status == 0
    assert "`exit`" in err
    assert "runs on" in err


def test_another_name_than_an_old_one_is_ds01(call: Call) -> None:
    status, out, _ = call("ds01-of-mine --version")
    assert status == 0
    assert out.startswith("ds01 ")


def test_links_are_made_once_and_do_what_the_old_command_did(shell: Shell, tmp_path: Path) -> None:
    out = shell.ask("old-names", "install", str(tmp_path))
    assert out.count(f": linked to {SCRIPT}\n") == len(OLD_NAMES)
    assert shell.ask("old-names", "install", str(tmp_path)).count(": is there\n") == len(OLD_NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OLD_NAMES)
    called = [str(tmp_path / "get-resource-limits"), "john", "--docker-args", "--limits", LIMITS]
    done = subprocess.run(called, capture_output=True, text=True, timeout=60, check=True)
    assert "--cgroup-parent=ds01-student.slice" in done.stdout


def test_what_is_no_link_of_ours_stays_and_is_named(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mlc-create").write_text("#!/bin/bash\n")
    (tmp_path / "image-list").symlink_to("/opt/ds01-infra/scripts/user/image-list")
    status, _, err = shell.run("old-names", "install", str(tmp_path))
    assert status == 0
    assert err == "".join(
        f"ds01: {tmp_path / name} is no link to ds01, and stays as it is.\n"
        for name in ("image-list", "mlc-create")
    )
    shell.ask("old-names", "install", "--remove", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image-list", "mlc-create"]
    assert (tmp_path / "mlc-create").read_text() == "#!/bin/bash\n"


def test_a_link_to_a_ds01_that_has_moved_is_turned(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "image-list").symlink_to("/opt/gone/bin/ds01")
    shell.ask("old-names", "install", str(tmp_path))
    assert (tmp_path / "image-list").readlink() == SCRIPT


def test_a_dry_run_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    assert f"image-list: would be linked to {SCRIPT}\n" in shell.ask(
        "old-names", "install", "--dry-run", str(tmp_path)
    )
    assert list(tmp_path.iterdir()) == []
    shell.ask("old-names", "install", str(tmp_path))
    assert "image-list: would be removed\n" in shell.ask(
        "old-names", "install", "--remove", "--dry-run", str(tmp_path)
    )
    assert len(list(tmp_path.iterdir())) == len(OLD_NAMES)


def test_a_folder_that_is_not_there_is_said(shell: Shell, tmp_path: Path) -> None:
    status, _, err = shell.run("old-names", "install", str(tmp_path / "none"))
    assert (status, err) == (1, f"ds01: There is no folder {tmp_path / 'none'}.\n")


def test_the_table_is_listed_for_people_and_for_scripts(shell: Shell) -> None:
    assert "container-list" in shell.ask("old-names", "list")
    listed = json.loads(shell.ask("old-names", "list", "--json"))
    assert [one["name"] for one in listed] == list(OLD_NAMES)
    assert all(one.keys() == {"name", "old", "today"} for one in listed)


def test_the_page_has_every_old_name_and_what_it_is_today() -> None:
    page = (ROOT / "docs" / "old-names.md").read_text().partition("What `mlc-create` was told")[0]
    rows = re.findall(r"^\| `(.+?)`(.*?) \| (?:`ds01 (.+)`|.+) \|$", page, re.MULTILINE)
    examples = [(old, today) for old, _, today in rows if today]
    assert len(examples) == len(rows) - 2
    for old, today in examples:
        assert " ".join(translate(*split(old)).arguments) == today
    assert not [
        name
        for name in OLD_NAMES
        if not any(name in (*old.split(), *re.findall(r"`(.+?)`", also)) for old, also, _ in rows)
    ]


def test_cleanup_forgets_what_is_stopped_and_ours(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in(tmp_path) as service:
        service.answers["GET containers"] = (
            200,
            {
                "problems": [],
                "containers": [
                    {"name": "jupyter", "state": "stopped", "server": ""},
                    {"name": "old", "state": "stopped", "server": "old"},
                    {"name": "busy", "state": "running", "server": "busy"},
                    {"name": "kept", "state": "held", "server": "kept"},
                    {"name": "aimes", "state": "stopped", "server": None},
                ],
            },
        )
        service.answers["POST containers/old/remove"] = (200, {"name": "old", "removed": True})
        asked = ("container", "cleanup", "--socket", service.path)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
        assert shell.run(*asked)[0] == 0
        assert service.posted == []
        assert shell.ask(*asked, "--yes") == "old is removed.\n"
        assert service.posted == [("containers/old/remove", None)]
        assert json.loads(shell.ask(*asked, "--yes", "--json")) == {"removed": ["old"]}


def test_each_call_form_is_of_a_name_in_the_table_and_each_name_has_one() -> None:
    forms = (*CALL_FORMS, *CHANGED_FORMS, *REFUSED_FORMS)
    assert {old.split()[0] for old, *_ in forms} == set(OLD_NAMES) - {"container-exit"}


def test_an_unknown_verb_of_the_patched_tool_is_refused() -> None:
    with pytest.raises(RequestRefused, match="AIME's own `mlc`"):
        translate("mlc-patched.py", [])
