"""Whether a server answers: what the Hub asks of each that starts."""

from __future__ import annotations

import asyncio
import contextlib

from ds01_spawner.spawner.starting import has_answered


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
        asked = [asyncio.ensure_future(has_answered(url_of(silent))) for _ in range(20)]
        for _ in asked:
            await reached.acquire()
        assert await has_answered(url_of(answering))
        assert not any(one.done() for one in asked)
        for one in asked:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one


def test_nobody_listening_is_no_answer() -> None:
    assert not asyncio.run(ask_where_nobody_is())


async def ask_where_nobody_is() -> bool:
    async with await start(lambda _reader, writer: writer.close()) as server:
        url = url_of(server)
    return await has_answered(url)


async def start(serve: object) -> asyncio.Server:
    return await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]


def url_of(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"
