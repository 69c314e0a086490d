"""A throw-away PostgreSQL for tests: a pytest plugin, named in `pytest_plugins` of the modules that use it.

It listens on a socket in a folder that nobody else may enter, on no TCP port, and takes folder and
server with it at the end. It does not wait for the disk: nothing here tests a loss of power.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

SERVER_USER = "postgres"
MISSING = (
    "PostgreSQL's server programs are not installed, and the ledger is tested on them: "
    "run `python3 tools/setup.py packages test` as root."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running server: its socket and its files are in `folder`, its programs in `programs`."""

    folder: Path
    programs: Path

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs; as root, as the account that Debian's package made."""
        # The server refuses to run as root.
        account = pwd.getpwnam(SERVER_USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        log = self.folder / "commands.log"
        with log.open("a") as output:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                user=account.pw_uid if os.geteuid() == 0 else None,
                group=account.pw_gid if os.geteuid() == 0 else None,
                extra_groups=() if os.geteuid() == 0 else None,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                # Not a pipe: the server that pg_ctl starts would keep it open.
                stdout=output,
                stderr=output,
                timeout=60,
            )
        if done.returncode != 0:
            pytest.fail(f"{program} failed:\n{log.read_text()[-2000:]}")

    def start(self) -> None:
        data = str(self.folder / "data")
        how = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.run("initdb", "--pgdata", data, "--username", SERVER_USER, *how)
        settings = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        self.run("pg_ctl", "start", "--wait", "--pgdata", data, "--options", settings)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "--wait", "--mode", "immediate", "--pgdata", str(self.folder / "data"))

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL for SQLAlchemy."""
        self.run("createdb", *self._connection(), name)
        return f"postgresql:///{name}?host={self.folder}&user={SERVER_USER}"

    def drop_database(self, name: str) -> None:
        self.run("dropdb", *self._connection(), "--force", name)

    def _connection(self) -> tuple[str, ...]:
        return "--host", str(self.folder), "--username", SERVER_USER


def find_programs() -> Path | None:
    """Return the folder with `initdb`: Debian's newest version, or the one on the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    found = debian[-1] if debian else Path(on_path) if on_path else None
    return None if found is None else found.resolve().parent


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    programs = find_programs()
    if programs is None:
        pytest.fail(MISSING)
    # Not below pytest's own folder, which nobody but root may pass.
    folder = Path(tempfile.mkdtemp(prefix="ds01-postgres-", dir="/var/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, SERVER_USER, SERVER_USER)
    cluster = Cluster(folder=folder, programs=programs)
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    return (f"ledger_{number}" for number in count(1))


@pytest.fixture
def postgres_url(postgres_cluster: Cluster, database_names: Iterator[str]) -> Iterator[str]:
    """The URL of a database of this test's own."""
    name = next(database_names)
    yield postgres_cluster.create_database(name)
    postgres_cluster.drop_database(name)
