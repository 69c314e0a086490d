"""A shell at a real terminal, through the service and back: keys, signals, sizes, and how it is left."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pexpect
import pytest
from docker.models.containers import Container

from ds01_spawner.adapters.engine import DockerEngine

from ..conftest import PrivateEngine
from ..hub.waiting import wait_for
from .people import list_programs, running_container
from .shell_service import PATH, ShellService, serving_shells
from .test_shell_relay import CLIENT

pytest_plugins = ["tests.adapters.building"]
pytestmark = pytest.mark.docker

Terminal = pexpect.spawn
SIT_DOWN = 'stty -g; {client}; status=$?; echo; echo "left with $status"; stty -g'


@pytest.fixture(scope="module")
def container(engine: docker.DockerClient) -> Iterator[Container]:
    with running_container(engine) as made:
        yield made


@pytest.fixture(scope="module")
def ours(private_engine: PrivateEngine) -> DockerEngine:
    return DockerEngine(docker_host=private_engine.docker_host)


@pytest.fixture
def service(tmp_path: Path, ours: DockerEngine, container: Container) -> Iterator[ShellService]:
    with serving_shells(tmp_path / "s", ours, container) as found:
        yield found
    assert not found.threads()
    assert len(list_programs(container)) == 2


@pytest.fixture
def sit_down() -> Iterator[Callable[..., Terminal]]:
    """A function that runs the client in a terminal, between two looks at the terminal's settings."""
    terminals: list[Terminal] = []

    def run(service: ShellService, *command: str, **environment: str) -> Terminal:
        whole = [sys.executable, "-c", CLIENT, str(service.socket), PATH, *command]
        script = SIT_DOWN.format(client=shlex.join(whole))
        terminals.append(
            pexpect.spawn(
                "bash",
                ["-c", script],
                env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", **environment},
                dimensions=(37, 101),
                timeout=60,
                encoding="utf-8",
            )
        )
        return terminals[-1]

    yield run
    for terminal in terminals:
        terminal.close(force=True)


def leave(terminal: Terminal, status: int) -> str:
    """Wait for the end, with a status and the terminal as it was before; returns what was said last."""
    terminal.expect(r"left with (\d+)\r\n")
    assert terminal.match is not None
    assert int(terminal.match[1]) == status
    said = str(terminal.before)
    after = terminal.read().strip()
    assert re.fullmatch(r"[0-9a-f:]+", after)
    assert after == terminal.settings_before
    return said


def begin(terminal: Terminal) -> None:
    terminal.expect(r"([0-9a-f:]{20,})\r\n")
    assert terminal.match is not None
    terminal.settings_before = terminal.match[1]
    terminal.expect_exact("> ")


def find_client(terminal: Terminal) -> int:
    children = Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def test_a_shell_has_a_terminal_of_her_kind_and_her_size(
    service: ShellService, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("tty; stty size; echo $TERM; id -u; pwd")
    terminal.expect(r"/dev/pts/\d+\r\n37 101\r\nxterm-256color\r\n12345\r\n/workspace\r\n> ")
    terminal.sendline("exit 7")
    leave(terminal, 7)


def test_colours_and_other_letters_pass(service: ShellService, sit_down: Callable[..., Terminal]) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline(r"printf '\e[1;32m%s\e[0m|\n' größer")
    terminal.expect_exact("\x1b[1;32mgrößer\x1b[0m|")
    terminal.sendline("ls --color=always -d /")
    terminal.expect(r"\x1b\[[0-9;]+m/\x1b\[0m")
    terminal.sendeof()
    leave(terminal, 0)


def test_a_kind_of_terminal_that_cannot_be_is_xterm(
    service: ShellService, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service, TERM="$(reboot)")
    begin(terminal)
    assert service.opened[-1].term == "xterm"
    terminal.sendline("exit")
    leave(terminal, 0)


def test_ctrl_c_interrupts_the_command_and_the_shell_lives(
    service: ShellService, container: Container, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("sleep 100; echo ended with $?")
    wait_for(lambda: "sleep 100" in list_programs(container), "it runs")
    terminal.sendintr()
    terminal.expect_exact("^C")
    terminal.expect_exact("> ")
    terminal.sendline("echo alive $((40 + 2))")
    terminal.expect_exact("alive 42\r\n")
    terminal.sendline("exit")
    leave(terminal, 0)


def test_a_sigint_from_elsewhere_is_ctrl_c(
    service: ShellService, container: Container, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("sleep 100")
    wait_for(lambda: "sleep 100" in list_programs(container), "it runs")
    os.kill(find_client(terminal), signal.SIGINT)
    terminal.expect_exact("^C")
    terminal.sendline("exit 4")
    leave(terminal, 4)


def test_ctrl_z_stops_a_job_in_the_container_and_fg_goes_on(
    service: ShellService, container: Container, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("sleep 100")
    wait_for(lambda: "sleep 100" in list_programs(container), "it runs")
    terminal.send("\x1a")
    terminal.expect("Stopped +sleep 100")
    terminal.sendline("fg")
    terminal.expect("fg\r\nsleep 100\r\n")
    terminal.sendintr()
    terminal.expect_exact("^C")
    terminal.sendline("exit 0")
    leave(terminal, 0)


def test_a_new_size_reaches_the_container(service: ShellService, sit_down: Callable[..., Terminal]) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("trap 'stty size' WINCH; echo trapped")
    terminal.expect_exact("\ntrapped\r\n> ")
    terminal.setwinsize(22, 66)
    terminal.sendline("")
    terminal.expect_exact("22 66\r\n")
    terminal.sendline("exit")
    leave(terminal, 0)


def test_docker_keeps_no_keys_for_itself(service: ShellService, sit_down: Callable[..., Terminal]) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("echo once")
    terminal.expect_exact("\nonce\r\n> ")
    terminal.send("\x10\r")
    terminal.expect_exact("\nonce\r\n> ")
    terminal.send("\x10\x11")
    terminal.sendline("exit 6")
    terminal.expect_exact("exit 6")
    # Ctrl-P brought `echo once` back, and `exit 6` was typed behind it.
    terminal.expect_exact("> ")
    terminal.sendline("exit 6")
    leave(terminal, 6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_client_ends_the_shell_and_restores_the_terminal(
    service: ShellService, container: Container, sit_down: Callable[..., Terminal], number: signal.Signals
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("sleep 1234")
    wait_for(lambda: "sleep 1234" in list_programs(container), "it runs")
    os.kill(find_client(terminal), number)
    leave(terminal, 128 + number)
    wait_for(lambda: len(list_programs(container)) == 2, "all has ended")


def test_a_client_that_is_killed_ends_the_shell(
    service: ShellService, container: Container, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("sleep 2345")
    wait_for(lambda: "sleep 2345" in list_programs(container), "it runs")
    os.kill(find_client(terminal), signal.SIGKILL)
    wait_for(lambda: len(list_programs(container)) == 2, "all has ended")


def test_a_terminal_that_is_closed_ends_the_shell(
    service: ShellService, container: Container, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service)
    begin(terminal)
    terminal.sendline("sleep 3456")
    wait_for(lambda: "sleep 3456" in list_programs(container), "it runs")
    terminal.close(force=True)
    wait_for(lambda: len(list_programs(container)) == 2, "all has ended")


def test_a_service_that_stops_is_one_sentence_and_the_terminal_is_restored(
    tmp_path: Path, ours: DockerEngine, container: Container, sit_down: Callable[..., Terminal]
) -> None:
    with serving_shells(tmp_path / "s", ours, container) as service:
        terminal = sit_down(service)
        begin(terminal)
        terminal.sendline("sleep 4567")
        wait_for(lambda: "sleep 4567" in list_programs(container), "it runs")
    assert len(list_programs(container)) == 2
    said = leave(terminal, 99)
    assert "ds01: The connection to your container was lost: the service of DS01 ended" in said


def test_a_refusal_leaves_the_terminal_alone(
    service: ShellService, sit_down: Callable[..., Terminal]
) -> None:
    service.user = "bob"
    terminal = sit_down(service)
    terminal.expect(r"([0-9a-f:]{20,})\r\n")
    assert terminal.match is not None
    terminal.settings_before = terminal.match[1]
    assert "ds01: You have no container of this name." in leave(terminal, 99)


def test_one_command_at_a_terminal_has_a_terminal(
    service: ShellService, sit_down: Callable[..., Terminal]
) -> None:
    terminal = sit_down(service, "bash", "-c", "test -t 0 && test -t 1 && echo '> ' && exit 5")
    begin(terminal)
    leave(terminal, 5)
