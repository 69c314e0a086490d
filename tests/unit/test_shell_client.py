"""What the client of a shell loads, and asks the service for."""

from __future__ import annotations

import subprocess
import sys


def test_it_is_loaded_without_what_only_an_open_shell_needs() -> None:
    program = (
        "import sys; import ds01_spawner.cli.container.terminal; "
        "print({'websockets', 'asyncio', 'jupyterhub', 'docker', 'tornado'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
