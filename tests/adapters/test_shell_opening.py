"""Whose containers the service opens shells in: as the ledger says, in real containers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from ds01_spawner.adapters.engine import Shell
from ds01_spawner.errors import AccountRefused, NoContainer, RequestRefused
from ds01_spawner.service.web.shells import Opening, ShellWish, opening
from ds01_spawner.site import DS01, read_config

from ..conftest import PrivateEngine
from ..unit.lab import Lab, open_lab
from .people import running_container

pytest_plugins = ["tests.adapters.building"]
pytestmark = pytest.mark.docker

WISH = ShellWish(tty=True, columns=101, rows=37, term="screen", command=())
SECRET = ShellWish(tty=False, columns=80, rows=24, term="xterm", command=("echo", "secret"))
ACCOUNTS = "ada:x:12345:12346::/home/ada:/bin/bash\nkim:x:1002:1002::/home/kim:/bin/bash\n"


@pytest.fixture
def container(engine: docker.DockerClient) -> Iterator[Container]:
    with running_container(engine) as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    opened = open_lab(tmp_path)
    (tmp_path / "passwd").write_text(ACCOUNTS)
    yield opened
    opened.ledger.close()


@pytest.fixture
def open_shell(lab: Lab, private_engine: PrivateEngine) -> Opening:
    config = read_config(Path(lab.config))
    config.DS01.docker_host = private_engine.docker_host
    return opening(DS01(config=config))


def read_all(shell: Shell) -> bytes:
    seen = b""
    while data := shell.read()[1]:
        seen += data
    shell.hang_up()
    return seen


def start(lab: Lab, user: str, server: str, container: Container) -> int:
    lease = lab.reserve(user, server)
    return lab.ledger.activate(lease.id, container.id, lab.now).id


def test_it_is_bash_as_the_owner_at_her_terminal(
    lab: Lab, open_shell: Opening, container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    start(lab, "ada", "thesis", container)
    with caplog.at_level(logging.INFO):
        shell = open_shell("ada", "thesis", WISH)
    shell.write(b"echo $0 $TERM; id -u; id -g; stty size; exit\n")
    assert b"bash screen\r\n12345\r\n12346\r\n37 101\r\n" in read_all(shell)
    assert caplog.messages[-1] == "ada has a shell in thesis._.ada"


def test_what_she_runs_is_not_logged(
    lab: Lab, open_shell: Opening, container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    start(lab, "ada", "thesis", container)
    with caplog.at_level(logging.INFO):
        assert read_all(open_shell("ada", "thesis", SECRET)) == b"secret\n"
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("user", "name"), [("kim", "thesis"), ("ada", "other"), ("ada", ""), ("", "thesis")])
def test_nobody_finds_a_container_but_its_owner_by_its_name(
    lab: Lab, open_shell: Opening, container: Container, user: str, name: str
) -> None:
    start(lab, "ada", "thesis", container)
    with pytest.raises(NoContainer):
        open_shell(user, name, WISH)


def test_one_that_starts_or_is_held_or_ends_has_no_shell(
    lab: Lab, open_shell: Opening, container: Container
) -> None:
    lab.reserve("ada", "starting")
    held = start(lab, "ada", "held", container)
    lab.ledger.hold(held, lab.now + timedelta(hours=1), lab.now, "stopped")
    ending = start(lab, "ada", "ending", container)
    lab.ledger.end(ending, lab.now, "stopped by ada")
    for name in ("starting", "held", "ending"):
        with pytest.raises(RequestRefused, match=f"Your container {name} does not run now"):
            open_shell("ada", name, WISH)


def test_one_whose_container_is_stopped_past_us_has_no_shell(
    lab: Lab, open_shell: Opening, container: Container
) -> None:
    start(lab, "ada", "thesis", container)
    container.kill()
    with pytest.raises(RequestRefused, match="does not run now"):
        open_shell("ada", "thesis", WISH)


def test_who_has_lost_her_account_has_no_shell(
    lab: Lab, open_shell: Opening, container: Container, tmp_path: Path
) -> None:
    start(lab, "ada", "thesis", container)
    (tmp_path / "passwd").write_text(ACCOUNTS.replace("12345", "0"))
    with pytest.raises(AccountRefused):
        open_shell("ada", "thesis", WISH)
