"""Whether a server answers, asked often while it starts: as little as makes it say a word of HTTP."""

from __future__ import annotations

import asyncio

# How long a server that listens has for its answer.
ANSWER_SECONDS = 3.0
_BEGINNING = b"HTTP/"


async def has_answered(host: str, port: int, path: str) -> bool:
    """Whether what listens there answers a request at all, whatever it says.

    Not by the Hub's own HTTP client: that asks ten at once, so that as many servers which never answer would
    hold up everybody else's. It is the student's, so no more is read of it than the first word.
    """
    try:
        return await asyncio.wait_for(_ask(host, port, path), ANSWER_SECONDS)
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
        return False


async def _ask(host: str, port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"HEAD {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        return await reader.readexactly(len(_BEGINNING)) == _BEGINNING
    finally:
        writer.close()
