"""`make demo` as a newcomer uses it: from the printed address to a server, and Ctrl-C takes all away."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from ..conftest import ROOT, PrivateEngine
from ..hub.lab import Person
from ..hub.student import Student
from ..hub.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.slow]

ADDRESS = "http://127.0.0.1:8000"
PREPARE_SECONDS = 600
END_SECONDS = 120


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def demo(private_engine: PrivateEngine, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The demo, started and greeting."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / "demo.py")],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DOCKER_HOST": private_engine.docker_host},
        )
    try:
        wait_for(
            lambda: "Ctrl-C ends the demo" in output.read_text() or process.poll() is not None,
            "the demo greets",
            seconds=PREPARE_SECONDS,
        )
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(END_SECONDS)


def test_a_newcomer_starts_a_server_and_ctrl_c_leaves_nothing(
    demo: subprocess.Popen[bytes], output: Path, private_engine: PrivateEngine
) -> None:
    told = output.read_text()
    assert ADDRESS in told
    assert re.search(r"Sign in as +alice, bob, carol", told)
    alice = Student(ADDRESS, Person(name="alice", uid=64201, home=Path("/")), password="demo")
    alice.sign_in()
    assert "Simulated GPUs" in alice.form().text
    alice.post_form({"profile": "slice"})
    alice.wait_ready()
    assert alice.run("import getpass; print(getpass.getuser(), end=str())") == "alice"
    folder = Path(re.search(r"log is (\S+)/hub\.log", told)[1])

    demo.send_signal(signal.SIGINT)

    assert demo.wait(END_SECONDS) == 0, output.read_text()
    engine = docker.APIClient(base_url=private_engine.docker_host, version="auto")
    assert not engine.networks(names=["ds01-demo"])
    assert not engine.containers(all=True, filters={"label": "aime.mlc.USER=alice"})
    assert not engine.images(name="jupyter-alice-image")
    assert not folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 8000)) != 0
