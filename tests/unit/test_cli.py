"""The `ds01` command, as an admin and her scripts meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.shell import BOX, LIMITS, ROOT, Shell, write_config

CATALOG = str(ROOT / "tests" / "data" / "ml_images.v2.repo")
SCRIPT = str(Path(sys.executable).with_name("ds01"))


def test_images_are_listed_by_framework_the_newest_first(shell: Shell) -> None:
    assert shell.ask("catalog", "list", "--catalog", CATALOG, "--arch", "cuda_ada") == (
        "Pytorch\n"
        " 2.8.0-aime      lab/pytorch-2.8.0-aime-cuda12.6.3    CUDA_ADA\n"
        " 2.8.0           lab/pytorch-2.8.0-cuda12.6.3         CUDA_ADA\n"
        " 2.1.0-aime      lab/pytorch-2.1.0-aime-cuda11.8      CUDA_ADA;CUDA_AMPERE\n"
        " 1.14.0a-nvidia  lab/pytorch-1.14.0a-nvidia-cuda12.0  CUDA_ADA\n"
        "\n"
        "Tensorflow\n"
        " 2.16.1        lab/tensorflow-2.16.1-cuda12.3        CUDA_ADA\n"
        " 2.9.1-nvidia  lab/tensorflow-2.9.1-nvidia-cuda11.8  CUDA_ADA\n"
    )


def test_listed_images_are_json_for_scripts(shell: Shell) -> None:
    listed = json.loads(shell.ask("catalog", "list", "--catalog", CATALOG, "--arch", "CUDA_AMPERE", "--json"))
    assert listed[0] == {
        "framework": "Pytorch",
        "version": "2.10.0-nvidia",
        "architectures": ["CUDA_AMPERE"],
        "image": "lab/pytorch-2.10.0-nvidia-cuda12.6",
    }
    assert [entry["version"] for entry in listed] == ["2.10.0-nvidia", "2.7.1", "2.1.0-aime", "1.8.0-nvidia"]


def test_architecture_without_images_is_said_and_lists_nothing(shell: Shell) -> None:
    arguments = ("catalog", "list", "--catalog", CATALOG, "--arch", "ROCM5")
    assert shell.run(*arguments) == (0, "", "ds01: Nothing in the catalog is for ROCM5.\n")
    assert shell.ask(*arguments, "--json") == "[]\n"


def test_framework_under_two_spellings_is_listed_whole(shell: Shell, tmp_path: Path) -> None:
    catalog = tmp_path / "ml_images.repo"
    catalog.write_text("Torch, 2.0, CUDA, a/b\nPytorch, 2.1, CUDA, a/c\nMxnet, 1.0, CUDA, a/d\n")
    out = shell.ask("catalog", "list", "--catalog", str(catalog), "--arch", "CUDA", "--json")
    assert sorted(entry["image"] for entry in json.loads(out)) == ["a/b", "a/c", "a/d"]


def test_resolve_prints_the_image_and_nothing_else(shell: Shell) -> None:
    out = shell.ask("catalog", "resolve", "torch", "2.8.0", "--catalog", CATALOG, "--arch", "CUDA_ADA")
    assert out == "lab/pytorch-2.8.0-cuda12.6.3\n"


def test_warning_of_a_resolution_is_kept_off_stdout(shell: Shell) -> None:
    status, out, err = shell.run(
        "catalog", "resolve", "Pytorch", "9.9", "--catalog", CATALOG, "--arch", "CUDA_ADA"
    )
    assert (status, out) == (0, "lab/pytorch-2.8.0-aime-cuda12.6.3\n")
    assert err.startswith("ds01: There is no Pytorch '9.9' for CUDA_ADA, so you get the newest, 2.8.0-aime.")


def test_resolution_is_json_for_scripts(shell: Shell) -> None:
    out = shell.ask("catalog", "resolve", "tf", "--catalog", CATALOG, "--arch", "cuda_ada", "--json")
    assert json.loads(out) == {
        "framework": "Tensorflow",
        "version": "2.16.1",
        "architecture": "CUDA_ADA",
        "image": "lab/tensorflow-2.16.1-cuda12.3",
        "warning": "",
    }


def test_files_may_be_named_before_the_command_too(shell: Shell) -> None:
    before = shell.ask("--catalog", CATALOG, "catalog", "list", "--arch", "CUDA_ADA")
    between = shell.ask("catalog", "--catalog", CATALOG, "list", "--arch", "CUDA_ADA")
    assert before == between == shell.ask("catalog", "list", "--arch", "CUDA_ADA", "--catalog", CATALOG)


def test_unknown_framework_is_a_sentence_and_status_1(shell: Shell) -> None:
    status, out, err = shell.run("catalog", "resolve", "jax", "--catalog", CATALOG, "--arch", "CUDA_ADA")
    assert (status, out) == (1, "")
    assert err.startswith(
        "ds01: There is no framework 'jax' in the catalog. Choose one of Pytorch, Tensorflow."
    )


def test_catalog_that_is_not_there_is_a_sentence_with_its_cause_below(shell: Shell, tmp_path: Path) -> None:
    status, out, err = shell.run("catalog", "list", "--catalog", str(tmp_path / "none"))
    sentence, cause = err.splitlines()
    assert (status, out) == (1, "")
    assert sentence.startswith("ds01: The catalog of frameworks cannot be read")
    assert cause.startswith("  ")
    assert str(tmp_path / "none") in cause


def test_architecture_comes_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLC_ARCH", "[CUDA_BLACKWELL]")
    assert (
        shell.ask("catalog", "resolve", "pytorch", "--catalog", CATALOG) == "lab/pytorch-2.9.1-cuda12.8.1\n"
    )


def test_config_of_the_hub_names_the_catalog_and_the_gpus(shell: Shell, tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        f"c.DS01.catalog_file = {CATALOG!r}",
        f"c.DS01.inventory = {BOX!r}",
        f"c.DS01.ledger_url = 'sqlite:///{tmp_path}/ledger.sqlite'",
        "c.JupyterHub.bind_url = 'http://127.0.0.1:8000'",
    )
    out = shell.ask("--config", config, "catalog", "resolve", "pytorch")
    assert out == "lab/pytorch-2.10.0-nvidia-cuda12.6\n"
    assert [path.name for path in tmp_path.iterdir()] == ["jupyterhub_config.py"]


def test_architecture_of_the_config_comes_before_the_environments(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLC_ARCH", "CUDA_BLACKWELL")
    config = write_config(tmp_path, "c.DS01.architecture = 'CUDA_ADA'")
    resolve = ("--config", config, "catalog", "resolve", "pytorch", "--catalog", CATALOG)
    assert shell.ask(*resolve) == "lab/pytorch-2.8.0-aime-cuda12.6.3\n"
    assert shell.ask(*resolve, "--arch", "ROCM6") == "lab/pytorch-2.0.1-rocm6.0\n"


def test_gpus_that_cannot_be_read_leave_the_architecture_open_and_say_so(
    shell: Shell, tmp_path: Path
) -> None:
    config = write_config(tmp_path, f"c.DS01.inventory = '{tmp_path}/none.box'")
    status, out, err = shell.run("--config", config, "--catalog", CATALOG, "catalog", "resolve", "mxnet")
    assert (status, out) == (0, "registry.example.org:5000/lab/mxnet:1.8.0-nvidia\n")
    assert err.startswith(
        "ds01: The GPUs cannot be read, so every architecture counts. Name one with --arch.\n"
    )
    assert "none.box" in err


def test_file_on_the_command_line_comes_before_the_configs(shell: Shell, tmp_path: Path) -> None:
    config = write_config(tmp_path, "c.DS01.limits_file = '/nowhere'")
    assert shell.ask("limits", "ada", "--docker-args", "--config", config, "--limits", LIMITS)


def test_config_that_is_not_there_is_status_2(shell: Shell, tmp_path: Path) -> None:
    missing = tmp_path / "none.py"
    assert shell.run("--config", str(missing), "limits", "ada") == (
        2,
        "",
        f"ds01: There is no file {missing}. Name the Hub's jupyterhub_config.py with --config.\n",
    )


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("import os\nos.environ['NO_SUCH']", "  line 3: KeyError: 'NO_SUCH'"),
        ("c.DS01.min_uid = 'many'", "  TraitError: "),
        ("raise SystemExit('no license')", "  line 2: SystemExit: no license"),
        ("c.DS01.min_uid =", "  SyntaxError: "),
    ],
)
def test_config_that_cannot_be_used_is_status_2_with_the_cause_below(
    shell: Shell, tmp_path: Path, line: str, cause: str
) -> None:
    config = write_config(tmp_path, line)
    status, out, err = shell.run("--config", config, "limits", "ada")
    sentence, below = err.splitlines()
    assert (status, out) == (2, "")
    assert sentence == (
        f"ds01: The settings in {config} cannot be used. Mend the file, or name another one with --config."
    )
    assert below.startswith(cause)


def test_what_a_config_prints_stays_off_stdout(shell: Shell, tmp_path: Path) -> None:
    config = write_config(tmp_path, "print('hello')", "c.DS01.architecture = 'CUDA_ADA'")
    status, out, err = shell.run("--config", config, "--catalog", CATALOG, "catalog", "resolve", "tf")
    assert (status, out, err) == (0, "lab/tensorflow-2.16.1-cuda12.3\n", "hello\n")


def test_limits_of_a_user_are_a_table(shell: Shell) -> None:
    assert shell.ask("limits", "ada", "--limits", LIMITS) == (
        "ada (group student)\n"
        "  servers                           3\n"
        "  GPU slots, all servers together   1\n"
        "  GPU share, all servers together   1\n"
        "  GPU slots of one server           1\n"
        "  full GPU                          not allowed\n"
        "  CPUs of one server                8\n"
        "  memory                            32g\n"
        "  memory and swap                   32g\n"
        "  shared memory (/dev/shm)          16g\n"
        "  processes                         4096\n"
        "  /tmp, at most half of the memory  8g\n"
        "  stopped when idle for             2h\n"
        "  stopped after                     12h\n"
        "  GPU kept after a stop             15m\n"
        "  container kept after a stop       30m\n"
        "  priority in the queue             10\n"
    )


def test_group_of_the_hub_counts_and_unlimited_is_said(shell: Shell) -> None:
    out = shell.ask("limits", "ada", "--group", "staff", "--group", "admin", "--limits", LIMITS)
    assert out.startswith("ada (group admin)\n  servers                           unlimited\n")
    assert "  stopped when idle for             unlimited\n" in out


def test_limits_are_json_for_scripts(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(
        "defaults: {max_gpu_equivalents: 0.5, memory: 1g, max_runtime: null, idle_timeout: 30m}\n"
    )
    assert json.loads(shell.ask("limits", "ada", "--json", "--limits", str(file))) == {
        "user": "ada",
        "group": "student",
        "cpus": 16.0,
        "memory_bytes": 1024**3,
        "memory_swap_bytes": 1024**3,
        "shm_size_bytes": 16 * 1024**3,
        "pids_limit": 4096,
        "storage_tmp_bytes": None,
        "slots": None,
        "gpu_share": 0.5,
        "slots_per_container": None,
        "allow_full_gpu": False,
        "containers": 3,
        "priority": 10,
        "idle_timeout_seconds": 1800.0,
        "max_runtime_seconds": None,
        "gpu_hold_after_stop_seconds": 0.0,
        "container_hold_after_stop_seconds": 0.0,
        "aggregate": {"cpus": None, "memory_bytes": None, "pids": None},
        "not_enforced": {},
    }


TOGETHER = """
defaults: {storage_data: 200G, max_tasks: 32768, max_cpus: 32, memory: 32g, pids_limit: null}
groups:
  student: {aggregate: {cpu_quota: 1600%, memory_max: 96G, memory_high: 86G, tasks_max: 12288}}
  admin: {storage_data: null}
"""


def test_what_all_servers_take_together_and_what_is_not_enforced_is_said(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(TOGETHER)
    out = shell.ask("limits", "ada", "--limits", str(file))
    assert [line for line in out.splitlines() if "together" in line or "CPUs of" in line] == [
        "  GPU slots, all servers together   1",
        "  GPU share, all servers together   unlimited",
        "  CPUs, all servers together        16",
        "  memory, all servers together      96g",
        "  processes, all servers together   12288",
        # What the section of one server says is more than all may have.
        "  CPUs of one server                16",
    ]
    assert out.endswith(
        "\nNot enforced by DS01 Spawner; docs/limits.md has the commands\n"
        "  storage_data                     200G\n"
        "  max_tasks                        32768\n"
        "  aggregate.memory_high            86G\n"
        "  aggregate in a slice of systemd  so what runs past the Hub is not counted\n"
    )
    out = shell.ask("limits", "ada", "--group", "admin", "--limits", str(file))
    assert out.endswith("docs/limits.md has the commands\n  max_tasks  32768\n")


def test_json_has_what_is_limited_together_and_what_is_not_enforced(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(TOGETHER)
    found = json.loads(shell.ask("limits", "ada", "--json", "--limits", str(file)))
    assert found["aggregate"] == {"cpus": 16.0, "memory_bytes": 96 * 1024**3, "pids": 12288}
    assert found["not_enforced"] == {
        "storage_data": "200G",
        "max_tasks": "32768",
        "aggregate.memory_high": "86G",
    }
    assert (found["cpus"], found["memory_bytes"], found["pids_limit"]) == (16.0, 32 * 1024**3, 12288)


def test_docker_args_are_those_of_ds01_whatever_is_limited_together(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(TOGETHER)
    assert shell.ask("limits", "ada", "--docker-args", "--limits", str(file)) == (
        "--cpus=32 --memory=32g --memory-swap=32g --shm-size=16g --cgroup-parent=ds01-student.slice\n"
    )


def test_docker_args_are_one_line_in_the_slice_that_the_config_says(shell: Shell, tmp_path: Path) -> None:
    line = (
        "--cpus=8 --memory=32g --memory-swap=32g --shm-size=16g --pids-limit=4096 --tmpfs=/tmp:size=8g "
        "--cgroup-parent=ds01-student.slice\n"
    )
    asked = ("limits", "ada", "--docker-args", "--limits", LIMITS)
    assert shell.ask(*asked) == line
    config = write_config(tmp_path, "c.DS01.slice_pattern = 'ds01-{group}-{user}.slice'")
    assert shell.ask(*asked, "--config", config) == line.replace("student", "student-ada")


def test_files_beside_the_limits_count(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("groups: {lab: {}}\n")
    (tmp_path / "user-overrides.yaml").write_text("eve: {}\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "lab.members").write_text("ada  # since May\n")
    for user, group in (("ada", "lab"), ("eve", "override"), ("bob", "student")):
        out = shell.ask("limits", user, "--limits", str(tmp_path / "limits.yaml"))
        assert out.startswith(f"{user} (group {group})\n")


def test_unused_keys_are_listed_one_a_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("defaults: {storage_data: 1t}\nwizard: {}\n")
    arguments = ("limits", "--unused", "--limits", str(file))
    assert shell.ask(*arguments) == "wizard\ndefaults.storage_data\n"
    assert json.loads(shell.ask(*arguments, "--json")) == ["wizard", "defaults.storage_data"]


def test_file_without_unused_keys_lists_nothing(shell: Shell) -> None:
    arguments = ("limits", "--unused", "--limits", LIMITS)
    assert shell.run(*arguments) == (0, "", "ds01: The limits file has no key that means nothing here.\n")
    assert shell.ask(*arguments, "--json") == "[]\n"


def test_broken_limits_are_a_sentence_and_status_1(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("defaults: {memroy: 1g}\n")
    status, out, err = shell.run("limits", "ada", "--limits", str(file))
    assert (status, out) == (1, "")
    assert "there is no key `memroy` in defaults; the nearest one is `memory`" in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("limits",),
        ("limits", "ada", "--unused"),
        ("limits", "--unused", "--docker-args"),
        ("limits", "--unused", "--group", "lab"),
        ("limits", "ada", "--docker-args", "--json"),
        ("limits", "ada", "--dock"),
        ("catalog",),
        ("catalog", "resolve"),
        ("catalog", "drop"),
        ("images",),
    ],
)
def test_wrong_arguments_are_status_2_with_the_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    status, out, err = shell.run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: ds01")


def test_version_is_printed(shell: Shell) -> None:
    assert shell.ask("--version").startswith("ds01 0.")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (("catalog", "list"), ("--catalog", CATALOG, "--arch", "CUDA_ADA")),
        (("catalog", "resolve"), ("tf", "--catalog", CATALOG, "--arch", "CUDA_ADA")),
        (("limits",), ("ada", "--limits", LIMITS)),
    ],
)
def test_help_names_every_key_of_the_json_in_80_columns(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = shell.ask(*command, "--help")
    answer = json.loads(shell.ask(*command, *arguments, "--json"))
    keys = answer[0] if isinstance(answer, list) else answer
    assert not [key for key in keys if key not in out.partition("With --json")[2]]
    assert max(map(len, out.splitlines())) <= 80


def test_reader_that_goes_away_leaves_no_traceback(tmp_path: Path) -> None:
    catalog = tmp_path / "ml_images.repo"
    catalog.write_text("".join(f"Pytorch, 2.{minor}, CUDA, lab/p:{minor}\n" for minor in range(9999)))
    command = [SCRIPT, "catalog", "list", "--catalog", str(catalog), "--arch", "CUDA"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.close()
        assert ran.stderr.read() == b""
    assert ran.returncode == 141


def test_named_files_need_neither_jupyterhub_nor_docker() -> None:
    program = (
        "import sys\nfrom ds01_spawner.cli import main\n"
        f"main(['catalog', 'list', '--catalog', {CATALOG!r}, '--arch', 'CUDA'])\n"
        f"main(['limits', 'ada', '--limits', {LIMITS!r}])\n"
        "print({'jupyterhub', 'docker', 'sqlalchemy', 'traitlets', 'pynvml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_groups_of_the_hub_come_from_its_config(shell: Shell, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, "c.JupyterHub.load_groups = {'admin': {'users': ['ada']}, 'researcher': ['eve']}"
    )
    for user, group in (("ada", "admin"), ("eve", "researcher"), ("bob", "student")):
        out = shell.ask("limits", user, "--config", config, "--limits", LIMITS)
        assert out.startswith(f"{user} (group {group})\n")
