"""How many calls of one caller run at once, and that others do not wait for hers."""

from __future__ import annotations

import asyncio

from ds01_spawner.service.web.access import Caller, Kind
from ds01_spawner.service.web.handlers import Turns

ADA, BOB = (Caller(name=name, kind=Kind.USER, scopes=frozenset()) for name in ("ada", "bob"))
NAMESAKE = Caller(name="ada", kind=Kind.SERVICE, scopes=frozenset())


def test_what_is_more_than_her_turns_waits_and_nobody_else_does() -> None:
    async def ask() -> None:
        turns, running, go = Turns(2), list[str](), asyncio.Event()

        async def call(caller: Caller) -> None:
            async with turns.take(caller):
                running.append(caller.signature)
                await go.wait()

        calls = [asyncio.create_task(call(caller)) for caller in (ADA, ADA, ADA, BOB, NAMESAKE)]
        while len(running) < 4:
            await asyncio.sleep(0)
        assert sorted(running) == ["ada", "ada", "bob", "service ada"]
        calls[0].cancel()
        go.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert running.count("ada") == 3
        # Nothing is remembered of who asks no more.
        assert not turns._running

    asyncio.run(ask())
