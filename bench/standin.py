"""Stands in for a notebook server: answers, tells the Hub that it is there, ends on SIGTERM.

A real one takes seconds of a core to start, which would hide what is measured. As `jupyterhub.singleuser`
does, it listens where the Hub says, answers with the Hub's version, asks the Hub for its own, tells of
activity, and leaves with status 0 on SIGTERM. It imports only what starts fast.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-JupyterHub-Version: {version}\r\n"
    "Content-Length: {length}\r\nConnection: close\r\n\r\n"
)
BODY = b"{}"


def split(url: str) -> tuple[int, str, str]:
    """Return (port, host, path) of an `http://host:port/path`."""
    address, _, path = url.partition("://")[2].partition("/")
    host, _, port = address.rpartition(":")
    return int(port), host, f"/{path}"


def ask_hub(method: str, url: str, body: str = "") -> bytes:
    """Send one request with the server's own token, and return how the answer begins."""
    port, host, path = split(url)
    lines = (
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: token {os.environ['JUPYTERHUB_API_TOKEN']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    with socket.create_connection((host, port), 60) as connection:
        connection.sendall("\r\n".join((*lines, "", body)).encode())
        return connection.recv(4096)


def register() -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    server = os.environ["JUPYTERHUB_SERVER_NAME"]
    body = f'{{"servers": {{"{server}": {{"last_activity": "{now}"}}}}, "last_activity": "{now}"}}'
    ask_hub("GET", f"{os.environ['JUPYTERHUB_API_URL']}/")
    ask_hub("POST", os.environ["JUPYTERHUB_ACTIVITY_URL"], body)


def serve(listener: socket.socket) -> None:
    head = HEAD.format(version=os.environ["STANDIN_VERSION"], length=len(BODY)).encode()
    while True:
        connection, _ = listener.accept()
        with connection:
            asked = connection.recv(65536)
            connection.sendall(head if asked.startswith(b"HEAD ") else head + BODY)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port, _, _ = split(os.environ["JUPYTERHUB_SERVICE_URL"])
    listener = socket.create_server(("", port), backlog=64)
    threading.Thread(target=register, daemon=True).start()
    serve(listener)


main()
