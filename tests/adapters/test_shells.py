"""Shells in containers of a real engine: whose they are, that no byte is lost, and how they end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from ds01_spawner.adapters.engine import DockerEngine, Shell
from ds01_spawner.adapters.engine.shells import STDERR, STDOUT
from ds01_spawner.errors import RequestRefused

from ..conftest import PrivateEngine
from ..hub.waiting import wait_for
from .people import HER, list_programs, running_container

pytest_plugins = ["tests.adapters.building"]
pytestmark = pytest.mark.docker

Open = Callable[..., Shell]
BULK = os.urandom(5_000_000)

# Opens a shell as the service does, hangs up, and says what it logged; in a PID namespace of its own.
ELSEWHERE = """
import logging, sys
from pathlib import PurePosixPath
from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.model import Account
logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
host, container, *command = sys.argv[1:]
shell = DockerEngine(docker_host=host).open_shell(
    container, account=Account(name="ada", uid=12345, gid=12346, home=PurePosixPath("/")),
    command=command, environment={}, tty=True, size=(80, 24))
shell.write(b"echo it is open\\n")
while b"it is open\\r\\n" not in shell.read()[1]:
    pass
shell.hang_up()
"""


@pytest.fixture(scope="module")
def container(engine: docker.DockerClient) -> Iterator[Container]:
    with running_container(engine) as made:
        yield made


@pytest.fixture(scope="module")
def ours(private_engine: PrivateEngine) -> DockerEngine:
    return DockerEngine(docker_host=private_engine.docker_host)


@pytest.fixture
def open_shell(ours: DockerEngine, container: Container) -> Iterator[Open]:
    """A function that opens a shell in the container; hung up at the end."""
    opened: list[Shell] = []

    def run(*command: str, tty: bool = False, **options: Any) -> Shell:
        chosen: dict[str, Any] = {"environment": {}, "size": (80, 24), **options}
        found = ours.open_shell(container.id, account=HER, command=command, tty=tty, **chosen)
        opened.append(found)
        return found

    yield run
    for shell in opened:
        shell.hang_up()


def read_all(shell: Shell) -> dict[int, bytes]:
    seen = {STDOUT: bytearray(), STDERR: bytearray()}
    while True:
        stream, data = shell.read()
        if not data:
            return {stream: bytes(found) for stream, found in seen.items()}
        seen[stream] += data


def read_until(shell: Shell, mark: str) -> str:
    seen = b""
    while not re.search(mark.encode(), seen):
        _, data = shell.read()
        assert data, seen
        seen += data
    return seen.decode()


def test_it_runs_as_the_person_and_in_the_workspace(open_shell: Open) -> None:
    shell = open_shell("bash", "-c", "id -u; id -g; pwd")
    assert read_all(shell)[STDOUT] == b"12345\n12346\n/workspace\n"
    assert shell.exit_status() == 0


def test_it_can_become_nobody_else(open_shell: Open) -> None:
    shell = open_shell("bash", "-c", "cat /etc/shadow")
    seen = read_all(shell)
    assert b"Permission denied" in seen[STDERR]
    assert seen[STDOUT] == b""


def test_arguments_and_environment_arrive_as_they_are(open_shell: Open) -> None:
    hostile = ["", " ", "$(id)", ";reboot", "'\"", "ä\n\x1b[31m", "--privileged"]
    command = ["bash", "-c", 'printf "%s|" "$TERM" "$@"', "name", *hostile]
    shell = open_shell(*command, environment={"TERM": "xterm-256color"})
    assert read_all(shell)[STDOUT].decode() == "|".join(["xterm-256color", *hostile, ""])


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_status_is_that_of_the_command(open_shell: Open, status: int) -> None:
    shell = open_shell("bash", "-c", f"exit {status}")
    read_all(shell)
    assert shell.exit_status() == status


def test_a_command_that_is_not_there_says_so(open_shell: Open) -> None:
    shell = open_shell("no-such-command")
    assert b"no-such-command" in b"".join(read_all(shell).values())
    assert shell.exit_status() in (126, 127)


def test_a_command_that_closed_its_output_is_waited_for(open_shell: Open) -> None:
    shell = open_shell("bash", "-c", "exec > /dev/null 2>&1; read line; exit 9")
    shell.write(b"go on\n")
    assert read_all(shell) == {STDOUT: b"", STDERR: b""}
    assert shell.exit_status() == 9


def test_error_output_stays_apart_without_a_terminal(open_shell: Open) -> None:
    shell = open_shell("bash", "-c", "echo out; echo err >&2; echo out again")
    assert read_all(shell) == {STDOUT: b"out\nout again\n", STDERR: b"err\n"}


def test_the_size_is_that_of_the_start_and_then_the_new_one(open_shell: Open) -> None:
    shell = open_shell("bash", tty=True, size=(101, 37))
    shell.write(b"stty size; echo ready\n")
    assert "37 101" in read_until(shell, "\nready")
    shell.resize(66, 22)
    shell.write(b"stty size; echo again\n")
    assert "22 66" in read_until(shell, "\nagain")


def test_the_size_is_there_before_the_command(open_shell: Open) -> None:
    shell = open_shell("stty", "size", tty=True, size=(101, 37))
    assert read_all(shell)[STDOUT] == b"37 101\r\n"


def test_a_size_for_a_shell_that_has_ended_is_no_error(open_shell: Open) -> None:
    shell = open_shell("true", tty=True)
    read_all(shell)
    shell.exit_status()
    shell.resize(66, 22)
    shell.write(b"too late")
    shell.close_input()


@pytest.mark.parametrize("tty", [False, True])
def test_no_byte_is_lost_of_a_command_that_prints_at_once_and_ends(open_shell: Open, tty: bool) -> None:
    open_files = []
    for number in range(100):
        open_files.append(len(os.listdir("/proc/self/fd")))
        shell = open_shell("echo", f"number {number}", tty=tty)
        assert read_all(shell)[STDOUT].split() == [b"number", str(number).encode()]
        assert shell.exit_status() == 0
        shell.hang_up()
    # Once docker-py has all the connections that it keeps.
    assert open_files[-1] <= open_files[50] + 1


def test_what_comes_in_one_piece_with_dockers_answer_is_not_lost() -> None:
    ours, dockers = socket.socketpair()
    dockers.sendall(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n\x01\0\0\0\0\0\0\x05at on")
    dockers.sendall(b"\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x03err")
    dockers.close()
    answer = HTTPResponse(ours)
    answer.begin()
    raw = SimpleNamespace(raw=SimpleNamespace(_fp=answer), close=answer.close)
    shell = Shell(docker.APIClient(version="1.41"), "0" * 64, "0" * 64, raw, tty=False, size=(80, 24))
    assert read_all(shell) == {STDOUT: b"at on", STDERR: b"err"}
    ours.close()


def test_five_megabytes_pass_both_ways_as_they_are(open_shell: Open) -> None:
    shell = open_shell("cat")

    def feed() -> None:
        shell.write(BULK)
        shell.close_input()

    feeding = threading.Thread(target=feed)
    feeding.start()
    assert read_all(shell)[STDOUT] == BULK
    feeding.join()
    assert shell.exit_status() == 0


def test_a_terminal_passes_each_byte_and_dockers_own_keys(open_shell: Open) -> None:
    shell = open_shell("bash", "-c", "stty raw -echo; echo ready; head -c 515 | od -An -v -tx1", tty=True)
    read_until(shell, "ready")
    keys = b"\x10\x11\x10" + bytes(range(256)) * 2
    # One by one, as they are typed.
    for key in keys:
        shell.write(bytes([key]))
    assert bytes.fromhex(read_all(shell)[STDOUT].decode()) == keys
    assert shell.exit_status() == 0


def test_who_types_the_keys_that_detach_a_shell_has_left_it(open_shell: Open, container: Container) -> None:
    shell = open_shell("cat", tty=True)
    shell.write(b"ready\n")
    read_until(shell, "ready")
    for key in b"\x00\x1e\x1f" * 3:
        shell.write(bytes([key]))
    read_all(shell)
    # Docker ends it, or leaves that to us.
    assert shell.exit_status() in (126, 129)
    wait_for(lambda: len(list_programs(container)) == 2, "it has ended")


def test_hanging_up_ends_the_shell_and_what_runs_in_its_foreground(
    open_shell: Open, container: Container
) -> None:
    shell = open_shell("bash", tty=True)
    shell.write(b"sleep 1234 & bash -c 'sleep 2345; true'\n")
    wait_for(lambda: "sleep 2345" in list_programs(container), "it runs")
    shell.hang_up()
    wait_for(lambda: len(list_programs(container)) == 2, "all have ended")


def test_hanging_up_ends_a_command_without_a_terminal_and_its_children(
    open_shell: Open, container: Container
) -> None:
    shell = open_shell("bash", "-c", "sleep 3456; true")
    wait_for(lambda: "sleep 3456" in list_programs(container), "it runs")
    shell.hang_up()
    wait_for(lambda: len(list_programs(container)) == 2, "all have ended")
    assert shell.read() == (STDOUT, b"")


@pytest.mark.parametrize("tty", [False, True])
def test_one_that_ignores_a_hangup_is_killed_after_the_grace(
    open_shell: Open, container: Container, tty: bool
) -> None:
    shell = open_shell("bash", "-c", "trap '' HUP; echo deaf; read line; true", tty=tty)
    read_until(shell, "deaf")
    shell.hang_up(grace_seconds=0.2)
    wait_for(lambda: len(list_programs(container)) == 2, "it has ended")


def test_one_that_is_stopped_hears_the_hangup(open_shell: Open, container: Container) -> None:
    shell = open_shell("bash", "-c", "echo $$; kill -STOP $$", tty=True)
    read_until(shell, "[0-9]")
    shell.hang_up(grace_seconds=60)
    wait_for(lambda: len(list_programs(container)) == 2, "it has ended")


def test_what_ignores_a_hangup_as_under_nohup_runs_on(open_shell: Open, container: Container) -> None:
    shell = open_shell("bash", tty=True)
    shell.write(b"nohup sleep 4567 > /dev/null 2>&1 &\n")
    wait_for(lambda: "sleep 4567" in list_programs(container), "it runs")
    shell.hang_up()
    assert "sleep 4567" in list_programs(container)
    read_all(open_shell("pkill", "-f", "sleep 4567"))
    wait_for(lambda: len(list_programs(container)) == 2, "it has ended")


def test_hanging_up_at_once_ends_what_has_not_begun(open_shell: Open, container: Container) -> None:
    for _ in range(10):
        open_shell("sleep", "5678").hang_up()
    assert len(list_programs(container)) == 2


def test_hanging_up_wakes_who_reads_and_who_writes(open_shell: Open) -> None:
    shell = open_shell("sleep", "6789")
    with ThreadPoolExecutor() as pool:
        reading, writing = pool.submit(shell.read), pool.submit(shell.write, BULK)
        shell.hang_up()
        assert reading.result() == (STDOUT, b"")
        writing.result()
    shell.hang_up()


def test_what_hangs_up_in_a_world_of_other_numbers_signals_nobody(
    private_engine: PrivateEngine, container: Container
) -> None:
    apart = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ELSEWHERE]
    command = [*apart, private_engine.docker_host, container.id, "bash"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "it is no process of this machine" in done.stdout
    # It heeds the end of its input.
    wait_for(lambda: len(list_programs(container)) == 2, "the shell has ended")


def test_a_shell_ends_with_its_container(engine: docker.DockerClient, ours: DockerEngine) -> None:
    with running_container(engine) as short_lived:
        shell = ours.open_shell(
            short_lived.id, account=HER, command=["cat"], environment={}, tty=True, size=(80, 24)
        )
        shell.write(b"ready\n")
        read_until(shell, "ready")
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(read_all, shell)
            short_lived.kill()
            reading.result()
        assert shell.exit_status() == 137
    assert shell.exit_status() == 137
    shell.hang_up()


def test_a_container_that_does_not_run_is_refused(engine: docker.DockerClient, ours: DockerEngine) -> None:
    options: dict[str, Any] = {"environment": {}, "tty": True, "size": (80, 24)}
    with running_container(engine) as stopped:
        stopped.pause()
        with pytest.raises(RequestRefused, match="does not run now"):
            ours.open_shell(stopped.id, account=HER, command=["bash"], **options)
        stopped.unpause()
        stopped.kill()
        with pytest.raises(RequestRefused, match="does not run now"):
            ours.open_shell(stopped.id, account=HER, command=["bash"], **options)
    with pytest.raises(RequestRefused, match="does not run now"):
        ours.open_shell("0" * 64, account=HER, command=["bash"], **options)
