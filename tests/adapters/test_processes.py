"""Names of processes, and ending with one's parent, on real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ds01_spawner.adapters.processes import end_with_parent, is_alive, own_process

from ..hub.waiting import wait_for

# Says its name, then waits for the end of its input.
SAY_NAME = """
import sys
from ds01_spawner.adapters.processes import own_process
print(own_process(), flush=True)
sys.stdin.read()
"""

# A parent, and a child that ends with it. The child says its name, and whether it has a parent.
CHILD = """
import sys
from ds01_spawner.adapters.processes import end_with_parent, own_process
has_parent = end_with_parent(sys.argv[1])
print(own_process(), has_parent, flush=True)
sys.stdin.read()
"""
PARENT = f"""
import subprocess, sys
from ds01_spawner.adapters.processes import own_process
name = own_process() if sys.argv[1] == "named" else ""
subprocess.Popen([sys.executable, "-c", {CHILD!r}, name]).wait()
"""

# The child waits until its parent is gone before it asks to end with it.
LATE_CHILD = """
import os, sys, time
from ds01_spawner.adapters.processes import end_with_parent, is_alive
while is_alive(sys.argv[1]):
    time.sleep(0.01)
print(end_with_parent(sys.argv[1]), flush=True)
"""
HURRIED_PARENT = f"""
import subprocess, sys
from ds01_spawner.adapters.processes import own_process
subprocess.Popen([sys.executable, "-c", {LATE_CHILD!r}, own_process()])
"""

# A program that starts another one; both say their names.
PAIR = f"""
import subprocess, sys
from ds01_spawner.adapters.processes import own_process
print(own_process(), flush=True)
subprocess.Popen([sys.executable, "-c", {SAY_NAME!r}]).wait()
sys.exit(7)
"""
# What binds the pair to itself, and says how that ended.
BINDER = f"""
import subprocess, sys
from ds01_spawner.adapters.processes import bind
print(subprocess.call(bind([sys.executable, "-c", {PAIR!r}]), start_new_session=True), flush=True)
"""

# Another user, on a machine that shows users their own processes only.
STRANGER = """
import os, subprocess, sys
from ds01_spawner.adapters.processes import is_alive
subprocess.run(["mount", "-t", "proc", "-o", "hidepid=invisible", "proc", "/proc"], check=True)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print(os.path.exists("/proc/" + sys.argv[1].split(":")[1]), is_alive(sys.argv[1]), flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that runs Python code in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: str, program: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*(program or (sys.executable,)), "-c", code, *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_this_process_is_alive_and_keeps_its_name() -> None:
    assert own_process() == own_process()
    assert is_alive(own_process())


def test_each_process_has_a_name_of_its_own(start: Start) -> None:
    name = read_line(start(SAY_NAME))
    assert name != own_process()
    assert is_alive(name)


def test_a_process_that_ended_is_dead_reaped_or_not(start: Start) -> None:
    process = start(SAY_NAME)
    name = read_line(process)
    process.kill()
    wait_for(lambda: not is_alive(name), "the zombie counts as dead")
    assert Path(f"/proc/{process.pid}").exists()
    process.wait()
    assert not is_alive(name)


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    machine, pid, started = own_process().rsplit(":", 2)
    assert not is_alive(f"{machine}:{pid}:{int(started) - 1}")


def test_a_process_from_before_a_reboot_is_dead() -> None:
    _, process = own_process().split(":", 1)
    assert not is_alive(f"00000000-0000-4000-8000-000000000000:{process}")


def test_a_process_of_another_namespace_cannot_be_judged_and_is_alive() -> None:
    boot_id, namespace, _, started = own_process().split(":")
    assert is_alive(f"{boot_id}:{int(namespace) + 1}:4194305:{started}")


@pytest.mark.parametrize("pid", ["4194305", "99999999999999999999"])
def test_a_number_that_no_process_can_have_is_dead(pid: str) -> None:
    machine, _, started = own_process().rsplit(":", 2)
    assert not is_alive(f"{machine}:{pid}:{started}")


@pytest.mark.parametrize(
    "owner", ["", "1", "a:b:c", "{boot}:{pid}", "{boot}:0:1", "{boot}:-1:1", "{boot}:{pid}:1\n"]
)
def test_what_nobody_can_judge_is_alive(owner: str) -> None:
    machine, pid, _ = own_process().rsplit(":", 2)
    assert is_alive(owner.format(boot=machine, pid=pid))


def test_a_program_may_have_blanks_and_parentheses_in_its_name(start: Start, tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 0 (b"
    odd.symlink_to(sys.executable)
    process = start("import sys; print('up', flush=True); sys.stdin.read()", program=(str(odd),))
    assert read_line(process) == "up"
    assert b"(a) Z 0 (b)" in Path(f"/proc/{process.pid}/stat").read_bytes()
    started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    machine = own_process().rsplit(":", 2)[0]
    assert is_alive(f"{machine}:{process.pid}:{started}")


def test_a_process_that_is_hidden_from_us_is_alive(start: Start) -> None:
    judge = start(STRANGER, own_process(), program=("unshare", "--mount", sys.executable))
    assert read_line(judge) == "False True"


@pytest.mark.parametrize("how", ["named", "unnamed"])
def test_a_child_ends_when_its_parent_is_killed(start: Start, how: str) -> None:
    parent = start(PARENT, how)
    child, has_parent = read_line(parent).split()
    assert has_parent == "True"
    assert is_alive(child)
    parent.kill()
    wait_for(lambda: not is_alive(child), "the child has ended with its parent")


def test_a_child_learns_that_its_parent_ended_before_it_asked(start: Start) -> None:
    assert read_line(start(HURRIED_PARENT)) == "False"


def test_who_was_started_by_somebody_else_learns_it(start: Start) -> None:
    stranger = read_line(start(SAY_NAME))
    child = start(CHILD, stranger)
    assert read_line(child).split()[1] == "False"


def test_a_bound_command_ends_with_all_that_it_started_when_who_bound_it_is_killed(start: Start) -> None:
    binder = start(BINDER)
    pair = [read_line(binder) for _ in range(2)]
    assert all(map(is_alive, pair))
    binder.kill()
    wait_for(lambda: not any(map(is_alive, pair)), "both have ended")


def test_what_a_bound_command_started_ends_when_the_command_is_killed(start: Start) -> None:
    binder = start(BINDER)
    command, started = read_line(binder), read_line(binder)
    os.kill(int(command.split(":")[2]), signal.SIGKILL)
    assert read_line(binder) == str(-signal.SIGKILL)
    wait_for(lambda: not is_alive(started), "what it had started has ended")


def test_a_bound_command_ends_by_itself_as_it_would_unbound(start: Start) -> None:
    binder = start(BINDER)
    assert all(read_line(binder) for _ in range(2))
    assert binder.stdin is not None
    binder.stdin.close()
    assert read_line(binder) == "7"
    binder.stdin = None


def test_a_text_that_names_no_process_is_no_parent() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(int(end_with_parent("the hub")))
    assert os.waitpid(pid, 0)[1] == 0
