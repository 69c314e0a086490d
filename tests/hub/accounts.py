"""A person at a shell of this machine: her own account, her own UID, and the `ds01` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .hub import Hub
from .lab import Person

# The interpreter may lie where she cannot look; to read it is all that she may do besides.
_AS = "dac_read_search"
READS_ALL = (f"--inh-caps=+{_AS}", f"--ambient-caps=+{_AS}", f"--bounding-set=-all,+{_AS}")
_ASK = """
import http.client, json, socket, sys
socket_path, calls = sys.argv[1], json.load(sys.stdin)
answers = []
for method, path, headers, body in calls:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(socket_path)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answers.append([answer.status, answer.read().decode(errors="replace")])
    connection.close()
print(json.dumps(answers))
"""

Call = tuple[str, str, dict[str, str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtShell:
    """Somebody signed in to this machine; `hub` is that whose service she asks."""

    hub: Hub
    person: Person

    @property
    def name(self) -> str:
        return self.person.name

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.person.home),
            "USER": self.name,
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "DS01_SOCKET": str(self.hub.socket),
        }

    def command(self, *command: str) -> list[str]:
        """Return the command that runs `command` as her, with her groups."""
        who = [f"--reuid={self.name}", f"--regid={self.name}", "--init-groups"]
        return ["setpriv", *who, *READS_ALL, *command]

    def ds01_command(self, *arguments: str) -> list[str]:
        """Return the command that runs `ds01` as her."""
        return self.command(sys.executable, "-m", "ds01_spawner.cli", *arguments)

    def ds01(self, *arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        """Run `ds01`, with `answers` on its stdin."""
        return subprocess.run(
            self.ds01_command(*arguments),
            input=answers,
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment,
            cwd="/",
        )

    def do(self, *arguments: str) -> str:
        """Run `ds01`, which has to go well, and return its stdout."""
        done = self.ds01(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read(self, *arguments: str) -> Any:
        """Run `ds01 … --json` and return what it says."""
        return json.loads(self.do(*arguments, "--json"))

    def ask(self, calls: Sequence[Call]) -> list[tuple[int, str]]:
        """Send requests to the socket as her, and return status and body of each answer."""
        done = subprocess.run(
            self.command(sys.executable, "-I", "-S", "-c", _ASK, str(self.hub.socket)),
            input=json.dumps(list(calls)),
            capture_output=True,
            text=True,
            timeout=600,
            env=self.environment,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return [(status, body) for status, body in json.loads(done.stdout)]
