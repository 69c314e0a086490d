"""Whether a server answers: what the Hub asks of each that starts."""

from __future__ import annotations

import asyncio
import contextlib

from ds01_spawner.spawner.answering import has_answered

PATH = "/user/ada/api"


def test_many_servers_that_never_answer_hold_up_no_other() -> None:
    asyncio.run(ask_one_beside_many())


async def ask_one_beside_many() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def listen(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.release()

    reached = asyncio.Semaphore(0)
    async with await start(answer) as answering, await start(listen) as silent:
        asked = [asyncio.ensure_future(has_answered(*address_of(silent), PATH)) for _ in range(20)]
        for _ in asked:
            await reached.acquire()
        assert await has_answered(*address_of(answering), PATH)
        assert not any(one.done() for one in asked)
        for one in asked:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one


def test_any_answer_counts_and_what_is_no_http_does_not() -> None:
    assert asyncio.run(ask_one_that_says(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"))
    assert not asyncio.run(ask_one_that_says(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert not asyncio.run(ask_one_that_says(b""))


async def ask_one_that_says(words: bytes) -> bool:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with await start(say) as server:
        return await has_answered(*address_of(server), PATH)


def test_nobody_listening_is_no_answer() -> None:
    assert not asyncio.run(ask_where_nobody_is())


async def ask_where_nobody_is() -> bool:
    async with await start(lambda _reader, writer: writer.close()) as server:
        host, port = address_of(server)
    return await has_answered(host, port, PATH)


async def start(serve: object) -> asyncio.Server:
    return await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]


def address_of(server: asyncio.Server) -> tuple[str, int]:
    host, port = server.sockets[0].getsockname()
    return host, port
