"""Who is at the other end of a socket: real processes, in real namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01_spawner.adapters.peers import Peer, find_peer
from ds01_spawner.errors import AccountRefused

# Connects, says who it is there, and waits until the other end closes.
_CALLER = """
import os, socket, sys
calls = socket.socket(socket.AF_UNIX)
calls.connect(sys.argv[1])
calls.sendall(b"x")
calls.recv(1)
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        os.chmod(tmp_path / "socket", 0o666)
        listening.listen()
        listening.settimeout(30)
        yield listening


def find_caller(listener: socket.socket, *command: str) -> Peer:
    """Return who connects when a program calls, behind `command`."""
    arguments = [*command, sys.executable, "-I", "-S", "-c", _CALLER, listener.getsockname()]
    with subprocess.Popen(arguments) as caller:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            assert connection.recv(1) == b"x"
            try:
                found = find_peer(connection)
            finally:
                connection.sendall(b"y")
                caller.wait(30)
    assert found.pid == caller.pid
    return found


def test_a_process_of_this_machine_is_who_the_kernel_says(listener: socket.socket) -> None:
    assert find_caller(listener).uid == 0


@pytest.mark.parametrize(
    "namespaces",
    [
        ("unshare", "--pid", "--fork"),
        ("unshare", "--user", "--map-root-user"),
        ("unshare", "--mount"),
    ],
    ids=["of other processes", "of other users", "root with mounts of its own"],
)
def test_who_runs_in_other_namespaces_is_nobody(listener: socket.socket, namespaces: tuple[str, ...]) -> None:
    with pytest.raises(AccountRefused, match="outside of your container") as caught:
        find_caller(listener, *namespaces)
    assert "namespaces" in caught.value.detail


def test_who_has_ended_is_nobody(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as calling:
        child = os.fork()
        if child == 0:
            calling.connect(listener.getsockname())
            os._exit(0)
        os.waitpid(child, 0)
        connection, _ = listener.accept()
        with connection, pytest.raises(AccountRefused):
            find_peer(connection)
