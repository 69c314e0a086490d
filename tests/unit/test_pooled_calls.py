"""The pools of a Hub's calls: what is short does not wait for what takes its time."""

from __future__ import annotations

import asyncio
import threading

from traitlets.config import Config

from ds01_spawner.spawner.pools import PooledCalls

SECONDS = 30


def test_starts_and_ends_that_hang_hold_up_no_short_call() -> None:
    class OneOfEach(PooledCalls):
        """A Hub with one thread in each pool."""

    calls = OneOfEach(config=Config({"DS01": {"docker_pool_size": 1}}))
    begun, let_go = threading.Event(), threading.Event()

    def hang() -> str:
        begun.set()
        assert let_go.wait(SECONDS)
        return "ended"

    async def call_both() -> None:
        hanging = asyncio.ensure_future(calls._call_long(hang))
        try:
            assert await asyncio.to_thread(begun.wait, SECONDS)
            assert await asyncio.wait_for(calls._call(lambda: "short"), SECONDS) == "short"
            assert not hanging.done()
        finally:
            let_go.set()
        assert await hanging == "ended"

    asyncio.run(call_both())
