"""Waiting for a slot: a place in the queue, told as it changes, given up when the spawn is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ..core.builds import OTHERS_FIRST
from ..core.leases import Claim, Place, Start
from ..errors import SiteBroken, WaitedTooLong
from ..metrics import SpawnStep, timed, timing_wait
from .options import StudentOptions
from .progress import BUILD, QUEUE, STEP

# How often a spawn that waits looks whether anything changed, and how often it asks although nothing did.
LOOK_SECONDS, ASK_SECONDS = 1.0, 15.0
GIVEN_UP = "the start was given up"


class Waiting(StudentOptions):
    """The part of the spawner that waits; a mixin of a Spawner."""

    def tell(
        self, message: str, percent: int | None = None, *, kind: str = STEP, step: SpawnStep | None = None
    ) -> None:
        """Add a line to the waiting page, as `Progress.tell` says; from any thread."""
        if self._progress is not None:
            self._progress.tell(message, percent=percent, kind=kind, step=step)

    def tell_build(self, sentence: str) -> None:
        """Add what a build says of itself; from any thread."""
        kind = BUILD if sentence.startswith("[") else QUEUE if sentence.startswith(OTHERS_FIRST) else STEP
        self.tell(sentence, kind=kind)

    def tell_log(self, line: str) -> None:
        """Add a line of the build's log; from any thread."""
        if self._progress is not None:
            self._progress.tell_log(line)

    @property
    def last_message(self) -> str:
        """What the waiting page said last, for a browser without scripts."""
        return self._progress.last_message if self._progress is not None else ""

    @timed(SpawnStep.QUEUE)
    async def _wait_for_claim(self, start: Start) -> Claim:
        """Return the lease as soon as it is her turn.

        Raises:
            WaitedTooLong: her turn did not come in time.
            DS01Error: as `Leases.claim` says.
        """
        core = await self._core()
        await self._call(core.upkeep.reconcile)
        try:
            answer = await self._call(core.leases.claim, start, queue_limit=self._most_waiting())
            if isinstance(answer, Claim):
                return answer
            with timing_wait(start.request.gpu_profile):
                return await self._wait(start, answer)
        except BaseException:
            # At once; a place that a cancelled claim takes after this is given up by `stop`.
            self._submit(core.leases.leave_queue, start.container_name, GIVEN_UP)
            raise

    async def _wait(self, start: Start, place: Place) -> Claim:
        core = await self._core()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.site.queue_timeout_seconds
        told, seen, asked = "", -1, loop.time()
        while True:
            words = describe(place)
            if words != told:
                self.tell(words, kind=QUEUE)
                told = words
            if loop.time() > deadline:
                raise WaitedTooLong(
                    f"Nothing came free in {self.site.queue_timeout_seconds / 60:.0f} minutes, so your start "
                    f"was given up. {place.why}"
                )
            await asyncio.sleep(LOOK_SECONDS)
            try:
                epoch = await self._call(core.leases.epoch)
                if epoch == seen and loop.time() < asked + ASK_SECONDS:
                    continue
                seen, asked = epoch, loop.time()
                answer = await self._call(core.leases.claim, start, queue_limit=self._most_waiting())
            except SiteBroken as exc:
                # Her place is worth more than a minute in which the GPUs or the ledger cannot be read.
                self.log.warning("%s waits on although: %s", start.container_name, exc.detail or exc)
                place = replace(place, why=str(exc))
                continue
            if isinstance(answer, Claim):
                return answer
            place = answer

    def _most_waiting(self) -> int:
        limit = int(self.user.settings.get("concurrent_spawn_limit") or 0)
        return most_waiting(self.site.queue_limit, limit)


def most_waiting(queue_limit: int, concurrent_spawn_limit: int) -> int:
    """Return how many spawns may wait; a `concurrent_spawn_limit` of 0 is the Hub's word for none.

    The Hub counts who waits, and past its limit it answers everybody with 429: half is left to the others.
    """
    return min(queue_limit, concurrent_spawn_limit // 2) if concurrent_spawn_limit else queue_limit


def describe(place: Place) -> str:
    """Return a place in the queue in words."""
    turn = "Nobody can say yet when your turn comes."
    if place.expected_at is not None:
        turn = f"Your turn should come by {place.expected_at.astimezone():%H:%M on %d %B}."
    if place.position == 1:
        others = f" of {place.length}" if place.length > 1 else ""
        return f"You are next in the queue{others}. {turn} {place.why}"
    return f"You wait at place {place.position} of {place.length} in the queue. {turn} {place.why}"
