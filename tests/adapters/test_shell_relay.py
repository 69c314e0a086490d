"""A shell from the person's side to her container and back, on a real engine: who gets one, and its bytes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.shell_wire import Exit, open_wire
from ds01_spawner.errors import (
    ConnectionLost,
    DS01Error,
    NoContainer,
    ServiceUnavailable,
    SiteBroken,
)

from ..conftest import PrivateEngine
from ..hub.docker_link import DockerLink
from ..hub.waiting import wait_for
from .people import list_programs, running_container
from .shell_service import PATH, ShellService, serving_shells

pytest_plugins = ["tests.adapters.building"]
pytestmark = pytest.mark.docker

BULK = os.urandom(5_000_000)
CLIENT = """
import sys
from ds01_spawner.cli.container.terminal import relay
from ds01_spawner.errors import DS01Error
try:
    sys.exit(relay(sys.argv[1], sys.argv[2], sys.argv[3:]))
except DS01Error as error:
    print(f"ds01: {error}", file=sys.stderr)
    sys.exit(99)
"""

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def container(engine: docker.DockerClient) -> Iterator[Container]:
    with running_container(engine) as made:
        yield made


@pytest.fixture(scope="module")
def ours(private_engine: PrivateEngine) -> DockerEngine:
    return DockerEngine(docker_host=private_engine.docker_host)


@pytest.fixture
def service(tmp_path: Path, ours: DockerEngine, container: Container) -> Iterator[ShellService]:
    with serving_shells(tmp_path / "s", ours, container, most=4, most_of_one=3) as found:
        yield found
    assert not found.threads()
    assert len(list_programs(container)) == 2


@pytest.fixture
def run(service: ShellService) -> Run:
    """A function that runs a command in the container through the service, without a terminal."""

    def run(*command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        whole = [sys.executable, "-c", CLIENT, str(service.socket), PATH, *command]
        chosen = {"input": b"", "capture_output": True, "timeout": 120, **options}
        return subprocess.run(whole, **chosen)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture
def connect(service: ShellService) -> Iterator[Callable[..., ClientConnection]]:
    """A function that connects as a program of somebody else's would."""
    with contextlib.ExitStack() as opened:

        def run(query: str = "", path: str = PATH, **options: object) -> ClientConnection:
            uri = f"ws://localhost{path}?{query}"
            return opened.enter_context(unix_connect(str(service.socket), uri, **options))  # type: ignore[arg-type]

        yield run


def refusal(socket: Path, target: str = PATH) -> DS01Error:
    with pytest.raises(DS01Error) as caught:
        open_wire(str(socket), target)
    return caught.value


# who gets one, and what may be asked ---------------------------------------------------------------


def test_a_container_that_she_has_not_is_refused_in_the_services_words(service: ShellService) -> None:
    error = refusal(service.socket, "/api/servers/other/shell")
    assert isinstance(error, NoContainer)
    assert (str(error), error.reason) == ("You have no container of this name.", "no-container")
    assert not service.opened


@pytest.mark.parametrize("scopes", [set(), {"admin:servers", "servers", "read:servers"}])
def test_nobody_has_a_shell_in_the_container_of_others(service: ShellService, scopes: set[str]) -> None:
    service.user, service.scopes = "root", service.scopes | scopes
    error = refusal(service.socket, f"{PATH}?user=ada")
    assert (error.status_code, error.reason) == (403, "not-allowed")
    assert not service.opened


@pytest.mark.parametrize("name", ["..%2Flab", "lab%00", "%20lab", "LAB", "lab/../lab", "%ff"])
def test_a_hostile_name_finds_nothing(service: ShellService, name: str) -> None:
    refusal(service.socket, f"/api/servers/{name}/shell")
    assert not service.opened


def test_who_may_not_enter_the_service_has_no_shell(service: ShellService) -> None:
    service.scopes = frozenset({"servers"})
    assert refusal(service.socket).reason == "scope"
    service.user = ""
    assert refusal(service.socket).reason == "sign-in"
    assert not service.opened


@pytest.mark.parametrize("origin", ["http://localhost", "https://evil.example", "null"])
def test_a_browser_has_no_shell_not_even_of_the_same_origin(
    service: ShellService, connect: Callable[..., ClientConnection], origin: str
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(origin=origin)
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body or b"")["reason"] == "origin"
    assert not service.opened


@pytest.mark.parametrize(
    "query",
    [
        "tty=2",
        "tty=1&tty=0",
        "columns=0",
        "rows=1001",
        "rows=-1",
        "columns=1e2",
        "columns=%D9%A1",
        "term=",
        "term=a%20b",
        f"term={'x' * 33}",
        "term=%24%28id%29",
        "arg=a%00b",
        "arg=%ff",
        "arg=",
        "&".join(["arg=a"] * 257),
        f"arg={'a' * 16385}",
        "privileged=1",
    ],
)
def test_what_no_shell_has_is_refused(service: ShellService, query: str) -> None:
    error = refusal(service.socket, f"{PATH}?{query}")
    assert (error.status_code, error.reason) == (400, "refused")
    assert not service.opened


def ask(service: ShellService, query: str, *headers: str) -> bytes:
    """What a request gets that is no whole handshake."""
    command = ["curl", "-sS", "--max-time", "60", "--unix-socket", str(service.socket)]
    sent = [part for header in headers for part in ("-H", header)]
    return subprocess.run(
        [*command, *sent, f"http://localhost{PATH}?{query}"], capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("headers", [(), ("Connection: Upgrade", "Upgrade: websocket")])
def test_what_is_no_websocket_is_refused_in_json(service: ShellService, headers: tuple[str, ...]) -> None:
    assert json.loads(ask(service, "", *headers))["reason"] == "websocket"
    assert not service.opened


def test_a_handshake_that_fails_late_leaves_no_shell(service: ShellService) -> None:
    headers = ("Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    assert b"Connection" in ask(service, "tty=0&arg=sleep&arg=1234", *headers)
    assert service.opened


def test_one_person_has_so_many_shells(service: ShellService) -> None:
    first, *others = [open_wire(str(service.socket), f"{PATH}?arg=cat&tty=0") for _ in range(3)]
    error = refusal(service.socket)
    assert str(error) == "You have 3 shells open, which is the most. Leave one of them first."
    assert error.reason == "limit"
    first.close()
    wait_for(lambda: _has_place(service.socket), "there is a place again")
    for wire in others:
        wire.close()


def test_all_together_have_so_many_shells(tmp_path: Path, ours: DockerEngine, container: Container) -> None:
    with serving_shells(tmp_path / "s", ours, container, most=1) as service:
        wire = open_wire(str(service.socket), f"{PATH}?arg=cat&tty=0")
        error = refusal(service.socket)
        assert str(error) == "1 shells are open on this server, which is the most. Please try again later."
        wire.close()
        wait_for(lambda: _has_place(service.socket), "there is a place again")


def _has_place(socket: Path) -> bool:
    try:
        open_wire(str(socket), f"{PATH}?arg=true&tty=0").close()
    except DS01Error:
        return False
    return True


def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path / "none"), ServiceUnavailable)


# what passes through -------------------------------------------------------------------------------


def test_without_a_terminal_output_and_error_output_stay_apart(run: Run) -> None:
    done = run("bash", "-c", "tty; echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"not a tty\nout\n", b"err\n", 7)


def test_a_script_in_a_pipe_is_run_by_the_shell(run: Run) -> None:
    assert run(input=b"id -u\nexit 3\n").stdout == b"12345\n"


def test_five_megabytes_pass_both_ways(run: Run) -> None:
    done = run("cat", input=BULK)
    assert done.stdout == BULK
    assert done.returncode == 0


def test_a_file_is_input_and_another_one_output(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BULK)
    with source.open("rb") as reader, target.open("wb") as writer:
        done = run("cat", input=None, stdin=reader, capture_output=False, stdout=writer)
    assert done.returncode == 0
    assert target.read_bytes() == BULK


def test_no_byte_is_lost_of_commands_that_end_at_once(run: Run) -> None:
    for number in range(10):
        assert run("echo", str(number)).stdout == f"{number}\n".encode()


def test_a_command_that_does_not_read_its_input_ends_all_the_same(run: Run) -> None:
    assert run("true", input=BULK).returncode == 0


def test_arguments_arrive_as_they_are(run: Run) -> None:
    hostile = ["$(id)", "; reboot", "'\"", "ä\n\x1b[31m", "&arg=x", "%41", "--", "+"]
    assert run("printf", "%s|", *hostile).stdout.decode() == "|".join([*hostile, ""])


def test_an_argument_that_is_no_text_is_refused_and_not_altered(run: Run) -> None:
    done = run("echo", b"\xff")
    assert done.returncode == 99
    assert done.stderr == b"ds01: Write all that is sent in UTF-8.\n"


def test_a_reader_that_has_had_enough_ends_it(run: Run, service: ShellService, container: Container) -> None:
    whole = [sys.executable, "-c", CLIENT, str(service.socket), PATH, "yes"]
    process = subprocess.Popen(
        whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    process.wait(timeout=60)
    process.communicate()
    wait_for(lambda: "yes" not in list_programs(container), "what it read from has ended")


def test_output_that_nobody_reads_does_not_pile_up(service: ShellService, container: Container) -> None:
    before = _memory()
    wire = open_wire(str(service.socket), f"{PATH}?tty=0&arg=yes")
    # All that waits in between is what the sockets hold: then it is quiet.
    wait_for(lambda: _sleeps(container, "yes"), "the command waits until it is read")
    assert _memory() - before < 20_000_000
    wire.close()
    wait_for(lambda: "yes" not in list_programs(container), "it has ended")


def test_a_service_stops_though_nobody_reads_what_it_sends(
    tmp_path: Path, ours: DockerEngine, container: Container
) -> None:
    with serving_shells(tmp_path / "s", ours, container) as service:
        wire = open_wire(str(service.socket), f"{PATH}?tty=0&arg=yes")
        wait_for(lambda: _sleeps(container, "yes"), "the command waits until it is read")
    assert not service.threads()
    assert len(list_programs(container)) == 2
    wire.close()


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _sleeps(container: Container, program: str) -> bool:
    found = [
        process for process in container.top(ps_args="-eo pid,stat,cmd")["Processes"] if process[2] == program
    ]
    return bool(found) and found[0][1].startswith("S")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"resize": [0, 1]}', '{"resize": ["1", 1]}', '{"eof": 1}', '{"x": 1}', "{" * 1000]
)
def test_a_text_that_nobody_understands_ends_it(connect: Callable[..., ClientConnection], text: str) -> None:
    connection = connect("arg=cat&tty=0")
    connection.send(text)
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1008


def test_a_message_that_is_too_long_ends_it(connect: Callable[..., ClientConnection]) -> None:
    connection = connect("arg=cat&tty=0")
    connection.send(b"x" * 65537)
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=60)


def test_who_is_gone_is_noticed_while_her_input_is_not_read(
    service: ShellService, container: Container
) -> None:
    wire = open_wire(str(service.socket), f"{PATH}?tty=0&arg=sleep&arg=1234")
    sent = 0
    while sent < 5_000_000 and not wire.waiting_bytes:
        wire.send_input(b"x" * 32768)
        wire.flush()
        sent += 32768
        select.select([], [wire], [], 0.5)
    wire.close()
    wait_for(lambda: "sleep 1234" not in list_programs(container), "it has ended")


def test_many_that_come_and_go_at_once_leave_nothing(service: ShellService, container: Container) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_wire(str(service.socket), f"{PATH}?tty=1").close()
        wait_for(lambda: len(list_programs(container)) == 2, "the shell has ended")
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before + 2, "all is closed")


def test_a_service_that_stops_ends_the_shells_and_says_so(
    tmp_path: Path, ours: DockerEngine, container: Container
) -> None:
    with serving_shells(tmp_path / "s", ours, container) as service:
        whole = [
            sys.executable,
            "-c",
            CLIENT,
            str(service.socket),
            PATH,
            "bash",
            "-c",
            "echo up; sleep 2345; true",
        ]
        pipe = subprocess.PIPE
        process = subprocess.Popen(whole, stdin=pipe, stdout=pipe, stderr=pipe)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
    assert len(list_programs(container)) == 2
    _, said = process.communicate(timeout=60)
    assert process.returncode == 99
    assert said.startswith(b"ds01: The connection to your container was lost")
    assert said.count(b"\n") == 1
    assert isinstance(refusal(service.socket), SiteBroken)


def test_the_status_is_told_when_the_container_ends(
    tmp_path: Path, engine: docker.DockerClient, ours: DockerEngine
) -> None:
    with (
        running_container(engine) as short_lived,
        serving_shells(tmp_path / "s", ours, short_lived) as service,
    ):
        wire = open_wire(str(service.socket), f"{PATH}?tty=0&arg=bash&arg=-c&arg=echo%20up;sleep%201234")
        select.select([wire], [], [], 60)
        wire.receive()
        short_lived.kill()
        found: list[object] = []
        while Exit(status=137) not in found:
            assert select.select([wire], [], [], 60)[0]
            found += wire.receive()
        wire.close()


def test_a_docker_that_goes_away_is_said(
    tmp_path: Path, private_engine: PrivateEngine, container: Container
) -> None:
    link = DockerLink(tmp_path / "docker", private_engine.docker_host)
    through = DockerEngine(docker_host=link.docker_host)
    with serving_shells(tmp_path / "s", through, container) as service:
        wire = open_wire(str(service.socket), f"{PATH}?tty=0&arg=cat")
        link.cut()
        assert select.select([wire], [], [], 60)[0]
        with pytest.raises(ConnectionLost, match="Docker on the server did not do what was asked"):
            wire.receive()
        wire.close()
    # Its input ended with the connection.
    wait_for(lambda: "cat" not in list_programs(container), "it has ended")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_for_the_client_ends_the_command(
    service: ShellService, container: Container, number: signal.Signals
) -> None:
    whole = [sys.executable, "-c", CLIENT, str(service.socket), PATH, "sleep", "3456"]
    process = subprocess.Popen(whole, stdin=subprocess.PIPE)
    wait_for(lambda: "sleep 3456" in list_programs(container), "it runs")
    process.send_signal(number)
    expected = -number if number is signal.SIGKILL else 128 + number
    assert process.wait(timeout=60) == expected
    process.communicate()
    wait_for(lambda: "sleep 3456" not in list_programs(container), "it has ended")
