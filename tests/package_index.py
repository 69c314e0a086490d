"""A package index at one of the host's addresses, whose downloads can be held half-way.

It has every package whose name begins with `PREFIX`: one version, a module of the same name that holds
nothing, and a file of zeros that takes its room only once it is installed. What a package needs is told
without a download.
"""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "ds01-fault-"
INSTALLED_BYTES = 48 * 1024**2
# What stands before the package is built as well where nobody did so before.
REACHED_SECONDS = 300

_PAGE = re.compile(rf"/simple/({PREFIX}[0-9a-f]+)/")
_WHEEL = re.compile(r"/files/(ds01_fault_[0-9a-f]+)-1\.0-py3-none-any\.whl(\.metadata)?")


class Hold:
    """Downloads that wait half-way, until `release`."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    def wait_here(self) -> None:
        """Called by a download: say that it came so far, and wait."""
        self._reached.set()
        self._released.wait()

    def wait_until_reached(self) -> None:
        """Called by the test."""
        assert self._reached.wait(REACHED_SECONDS), "nobody downloads"

    def release(self) -> None:
        """Let the download, and all after it, go on."""
        self._released.set()


class PackageIndex:
    """The index; `url` is for pip's settings."""

    def __init__(self, host: str) -> None:
        self._hold: Hold | None = None
        handler = type("Handler", (_Handler,), {"index": self})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self.host = host
        self.url = f"http://{host}:{self._server.server_port}/simple/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def hold(self) -> Iterator[Hold]:
        """Hold all downloads half-way."""
        self._hold = Hold()
        try:
            yield self._hold
        finally:
            self._hold.release()
            self._hold = None

    def wait_half_way(self) -> None:
        """Called by a download."""
        if self._hold is not None:
            self._hold.wait_here()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    index: PackageIndex

    def do_GET(self) -> None:
        page, wheel = _PAGE.fullmatch(self.path), _WHEEL.fullmatch(self.path)
        if page is not None:
            name = f"{find_module(page[1])}-1.0-py3-none-any.whl"
            link = f'<a href="/files/{name}" data-dist-info-metadata="true">{name}</a>'
            self._answer("text/html", link.encode())
        elif wheel is not None and wheel[2]:
            self._answer("text/plain", _make_metadata(wheel[1]))
        elif wheel is not None:
            self._answer("application/zip", _make_wheel(wheel[1]))
        else:
            self.send_error(404)

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        # Who asked may be gone by then.
        with contextlib.suppress(OSError):
            self.wfile.write(body[:half])
            if kind == "application/zip":
                self.index.wait_half_way()
            self.wfile.write(body[half:])

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def name_package() -> str:
    """Return the name of a package that nobody has asked for before."""
    return f"{PREFIX}{secrets.token_hex(4)}"


def find_module(package: str) -> str:
    """Return the name by which the module of a package is imported."""
    return package.replace("-", "_")


def _make_metadata(module: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n".encode()


def _make_wheel(module: str) -> bytes:
    information = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": b"",
        f"{module}.zeros": bytes(INSTALLED_BYTES),
        f"{information}/METADATA": _make_metadata(module),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": b"",
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return archive.getvalue()
