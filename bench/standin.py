"""Stands in for the notebook server: answers, tells the Hub that it is there, ends on SIGTERM.

A real one takes seconds of a core to start, which would hide what is measured. As `jupyterhub.singleuser`
does, it listens where the Hub says, answers with the Hub's version, asks the Hub for its own, tells of
activity, and leaves with status 0 on SIGTERM. It imports only what starts fast: the modules in C below
`socket`, `signal` and `threading`.
"""

import os
import sys
import time
from _signal import SIGTERM, signal
from _socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket
from _thread import start_new_thread

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
    connection = socket(AF_INET, SOCK_STREAM)
    connection.connect((host, port))
    connection.sendall("\r\n".join((*lines, "", body)).encode())
    answer = connection.recv(4096)
    connection.close()
    return answer


def register() -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    server = os.environ["JUPYTERHUB_SERVER_NAME"]
    body = f'{{"servers": {{"{server}": {{"last_activity": "{now}"}}}}, "last_activity": "{now}"}}'
    ask_hub("GET", f"{os.environ['JUPYTERHUB_API_URL']}/")
    ask_hub("POST", os.environ["JUPYTERHUB_ACTIVITY_URL"], body)


def serve(listener: socket) -> None:
    head = HEAD.format(version=os.environ["STANDIN_VERSION"], length=len(BODY)).encode()
    while True:
        descriptor, _ = listener._accept()
        connection = socket(fileno=descriptor)
        asked = connection.recv(65536)
        connection.sendall(head if asked.startswith(b"HEAD ") else head + BODY)
        connection.close()


def main() -> None:
    signal(SIGTERM, lambda *_: sys.exit(0))
    port, _, _ = split(os.environ["JUPYTERHUB_SERVICE_URL"])
    listener = socket(AF_INET, SOCK_STREAM)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(64)
    start_new_thread(register, ())
    serve(listener)
