"""Eight processes fight for fewer slots than they are, against limits; what they did is checked twice.

Half of them wait in the queue when nothing is free, the others ask anew. While they run, each leaves a
mark per slot and per user, past the ledger: a mark stands only while its lease is live, so that two on
one slot, or more than a limit allows, is a fault for certain. Afterwards the ledger's own history is
replayed, and compared with what the processes were told.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ds01_spawner import allocator
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import LeaseDraft, PoolView
from ds01_spawner.errors import LimitExceeded, NothingFree
from ds01_spawner.limits import check
from ds01_spawner.model import GpuWish, Lease, Limits, Resources, Slot

pytest_plugins = ("tests.adapters.postgres",)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
PROCESSES = 8
USERS = ("ada", "bob")
# Four processes of each user and five slots: her limit is met, and so is the end of the pool.
MOST_SLOTS = 3
MOST_HELD = 2  # by one process
# Four processes would wait.
QUEUE_LIMIT = 2
# Her slots may take 1 CPU each, but not all of them half a CPU more.
MOST_CPUS = 3.5
LIMITS = Limits(group="students", slots=MOST_SLOTS, aggregate=Resources(cpus=MOST_CPUS))
# How often one looks whether anything changed, and how soon it asks although nothing did.
LOOK_SECONDS, ASK_SECONDS = 0.005, 0.1
SLOTS = tuple(
    Slot(
        uuid=f"MIG-{number}",
        index=f"0:{number}",
        profile="1g.10gb",
        gpu_uuid="GPU-0",
        gpu_name="A100",
        memory_mib=9728,
        share=Fraction(1, 7),
    )
    for number in range(5)
)


class UnserialisedLedger(Ledger):
    """The ledger without what makes writers take turns: each statement is a transaction of its own.

    All meet at their first decision, and before they enter the queue: with turns they never would.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._each_alone = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self._have_met = False

    def reserve(
        self, draft: LeaseDraft, decide: Callable[[PoolView], tuple[Slot, ...]], **queueing: Any
    ) -> Lease:
        def decide_together(view: PoolView) -> tuple[Slot, ...]:
            if not self._have_met:
                self._have_met = True
                meet()
            return decide(view)

        return super().reserve(draft, decide_together, **queueing)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._each_alone.connect() as connection:
            yield connection


class UnserialisedQueue(UnserialisedLedger):
    """All meet again when each has counted who waits, and before it enters the queue."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        sa.event.listen(self._each_alone, "before_cursor_execute", self._meet_at_the_queue)

    def _meet_at_the_queue(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO queue"):
            meet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fight:
    """What each process does: `cycles` times reserve and release.

    One that gets nothing for `patience_seconds` ends, so that a deadlock is a fault and no standstill.
    """

    url: str
    marks: Path
    cycles: int
    patience_seconds: float = 120
    ledger: type[Ledger] = Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one process was told by the ledger, and what faults it saw while it held a lease or waited.

    `waits` are its places in the queue, `left` those of them that it gave up, `in_vain` is how often it
    asked when it seemed to be its turn, and it was not.
    """

    leases: tuple[int, ...]
    refusals: int
    waits: int
    left: int
    in_vain: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for, and the decision about it."""

    draft: LeaseDraft
    wish: GpuWish

    def decide(self, view: PoolView) -> tuple[Slot, ...]:
        takes = self.draft.takes
        check(LIMITS, view.holdings, slots=1, gpu_share=Fraction(1, 7), full_gpu=False, takes=takes)
        return allocator.decide(
            view,
            self.wish,
            datetime.now(timezone.utc),
            strategy="pack",
            patience=timedelta(0),
            container_name=self.draft.container_name,
        )


_start: Barrier


def share_start(start: Barrier) -> None:
    """Give a new process the barrier that all wait at, which holds each of them to one task at a time."""
    global _start
    _start = start


def meet() -> None:
    _start.wait(timeout=60)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    spawn = get_context("spawn")
    start = spawn.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn, initializer=share_start, initargs=(start,)) as pool:
        yield pool


def ask_for(user: str, server: str, *, cpus: float = 1) -> Asked:
    now, takes = datetime.now(timezone.utc), Resources(cpus=cpus)
    draft = LeaseDraft(
        user=user,
        server=server,
        container_name=f"{server}._.{user}",
        group="students",
        nonce=os.urandom(16).hex(),
        created_at=now,
        deadline=now + timedelta(minutes=5),
        takes=takes,
    )
    wish = GpuWish(user=user, profile="1g.10gb", count=1, requested_at=now, takes=takes)
    return Asked(draft=draft, wish=wish)


class Fighter:
    """One of the processes; its `number` makes its servers, and with others its user.

    It has one lease or two at a time, and gives one back when it gets no other: so the pool stays full,
    and nobody waits for ever. Who waits in the queue holds nothing, or all could wait for each other.
    """

    def __init__(self, fight: Fight, number: int) -> None:
        self._fight = fight
        self._number = number
        self._user = USERS[number % len(USERS)]
        # Of the processes of each user one half.
        self._queues = number // len(USERS) % 2 == 1
        self._ledger = fight.ledger(fight.url)
        self._given: list[int] = []
        self._held: list[Lease] = []
        self._faults: list[str] = []
        self._refusals = self._waits = self._left = self._in_vain = 0
        self._end = 0.0

    def run(self) -> Report:
        meet()
        self._end = time.monotonic() + self._fight.patience_seconds
        self._take_turn(is_first=True)
        while len(self._given) < self._fight.cycles and time.monotonic() < self._end:
            self._take_turn()
        while self._held:
            self._give_back()
        self._ledger.close()
        return Report(
            leases=tuple(self._given),
            refusals=self._refusals,
            waits=self._waits,
            left=self._left,
            in_vain=self._in_vain,
            faults=tuple(self._faults),
        )

    def _take_turn(self, *, is_first: bool = False) -> None:
        """Ask, wait if need be, look around, and give back what is too much.

        In the first turn those that would wait ask when the others hold four of the five slots, and all
        keep theirs until each has asked: so two wait for certain, and one meets a limit.
        """
        if is_first and self._queues:
            meet()
        had = len(self._given)
        asked = ask_for(self._user, f"server{self._number}-{had}", cpus=1 + had % 2 / 2)
        waits = self._ask(asked)
        if is_first and not self._queues:
            meet()
        if is_first:
            meet()
        if waits:
            self._wait(asked)
        if len(self._given) > had:
            self._look_around(self._held[-1])
        if not self._held:
            self._await_change()
        elif len(self._given) == had or len(self._held) == MOST_HELD:
            self._give_back()

    def _ask(self, asked: Asked) -> bool:
        """Ask once, and return whether there is a place in the queue now."""
        wish = asked.wish if self._queues else None
        try:
            lease = self._ledger.reserve(asked.draft, asked.decide, wish=wish, queue_limit=QUEUE_LIMIT)
        except (NothingFree, LimitExceeded) as error:
            if self._queues and isinstance(error, NothingFree) and error.can_wait:
                return True
            self._refusals += 1
            return False
        self._end = time.monotonic() + self._fight.patience_seconds
        self._given.append(lease.id)
        self._held.append(lease)
        for place in places_of(self._fight.marks, lease):
            (place / lease.server).touch()
        return False

    def _wait(self, asked: Asked) -> None:
        """Wait in the queue until it is served, or refused for its limits; every fourth time give up."""
        self._waits += 1
        while self._held:
            self._give_back()
        while self._waits % 4 and time.monotonic() < self._end:
            if not self._seems_possible(asked):
                self._await_change()
            elif self._ask(asked):
                self._in_vain += 1
            else:
                return
        if self._ledger.leave_queue(asked.draft.container_name, NOW, "the start was given up"):
            self._left += 1
        else:
            self._faults.append(f"{asked.draft.container_name} had no place to leave")

    def _seems_possible(self, asked: Asked) -> bool:
        """Look at the pool as it is, and note what is wrong: it lost its place, or too many wait."""
        view = self._ledger.view(self._user)
        if asked.draft.container_name not in {entry.container_name for entry in view.queue}:
            self._faults.append(f"{asked.draft.container_name} lost its place")
        if len(view.queue) > QUEUE_LIMIT:
            self._faults.append(f"seen: queue, {len(view.queue)} at once")
        try:
            asked.decide(view)
        except NothingFree:
            return False
        except LimitExceeded:
            # That is for the ledger to say.
            return True
        return True

    def _await_change(self) -> None:
        """Return when anybody has written something, or after a while all the same."""
        seen, end = self._ledger.epoch(), time.monotonic() + ASK_SECONDS
        while self._ledger.epoch() == seen and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)

    def _give_back(self) -> None:
        lease = self._held.pop(0)
        for place in places_of(self._fight.marks, lease):
            (place / lease.server).unlink()
        self._ledger.release(lease.id, NOW, "stopped")

    def _look_around(self, lease: Lease) -> None:
        """Note what is wrong while the lease is held: too many beside it, or it is not what was given."""
        if self._ledger.lease(lease.id) != lease:
            self._faults.append(f"lease {lease.id} is not what was given")
        for place, most in places_of(self._fight.marks, lease).items():
            present = len(os.listdir(place))
            if present > most:
                self._faults.append(f"seen: {place.name}, {present} at once")


def places_of(marks: Path, lease: Lease) -> dict[Path, int]:
    """Return where the lease has its marks, and how many there may be at once."""
    return {marks / f"slot {slot}": 1 for slot in lease.slots} | {marks / f"user {lease.user}": MOST_SLOTS}


def take_part(fight: Fight, number: int) -> Report:
    return Fighter(fight, number).run()


def run_fight(processes: ProcessPoolExecutor, fight: Fight) -> list[Report]:
    for name in [*(f"slot {slot.uuid}" for slot in SLOTS), *(f"user {user}" for user in USERS)]:
        (fight.marks / name).mkdir(parents=True)
    running = [processes.submit(take_part, fight, number) for number in range(PROCESSES)]
    return [one.result() for one in running]


def find_faults(sql: sa.Connection, reports: Sequence[Report], cycles: int) -> list[str]:
    """Return all that is wrong with what the processes saw and with what was recorded; best is none."""
    seen = [fault for report in reports for fault in report.faults]
    return seen + replay_history(sql) + find_losses(sql, reports, cycles)


def replay_history(sql: sa.Connection) -> list[str]:
    """Go through the events in their order and return where a slot was doubled or a limit exceeded."""
    history = sql.execute(
        sa.text(
            "SELECT lease_events.kind, leases.user_name, leases.cpus, lease_slots.slot_uuid FROM lease_events"
            " JOIN leases ON leases.id = lease_events.lease_id"
            " JOIN lease_slots ON lease_slots.lease_id = leases.id ORDER BY lease_events.id"
        )
    )
    held: Counter[str] = Counter()
    taken = dict.fromkeys(USERS, 0.0)
    faults = []
    for kind, user, cpus, slot in history:
        change = {"pending": 1, "released": -1}[kind]
        held.update({f"slot {slot}": change, f"user {user}": change})
        taken[user] += change * cpus
        if taken[user] > MOST_CPUS:
            faults.append(f"recorded: CPUs of {user}, {taken[user]} at once")
        if held[f"slot {slot}"] not in (0, 1):
            faults.append(f"recorded: slot {slot} has {held[f'slot {slot}']} leases")
        if held[f"user {user}"] > MOST_SLOTS:
            faults.append(f"recorded: user {user} has {held[f'user {user}']} slots")
    return faults


def find_losses(sql: sa.Connection, reports: Sequence[Report], cycles: int) -> list[str]:
    """Compare what the processes were told with what is in the tables."""
    told = sorted(lease for report in reports for lease in report.leases)
    refusals, waits, left, in_vain = (
        sum(getattr(report, name) for report in reports) for name in ("refusals", "waits", "left", "in_vain")
    )
    released = sql.scalars(sa.text("SELECT id FROM leases WHERE state = 'released' ORDER BY id")).all()
    kinds = dict(sql.execute(sa.text("SELECT kind, count(*) FROM lease_events GROUP BY kind")).all())
    expected = {
        "cycles": (cycles, len(told)),
        "leases": (told, list(released)),
        "pending events": (cycles, kinds.get("pending", 0)),
        "released events": (cycles, kinds.get("released", 0)),
        "refused events": (refusals, kinds.get("refused", 0)),
        "queued events": (waits, kinds.get("queued", 0)),
        "left events": (left, kinds.get("left", 0)),
        "live slots": (0, sql.scalar(sa.text("SELECT count(*) FROM lease_slots WHERE live"))),
        # All slots are free now: whoever is in the queue still could be served.
        "places in the queue": (0, sql.scalar(sa.text("SELECT count(*) FROM queue"))),
        # One write for the slots; an epoch that was bumped from an old value would be less.
        "epoch": (
            1 + 2 * cycles + refusals + waits + left + in_vain,
            sql.scalar(sa.text("SELECT epoch FROM pool")),
        ),
    }
    return [f"{name}: {want} expected, {got} found" for name, (want, got) in expected.items() if want != got]


@contextmanager
def past_the_ledger(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize(
    "cycles", [pytest.param(400, id="400"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)]
)
def test_eight_processes_never_share_a_slot_exceed_a_limit_or_lose_a_lease_or_a_place(
    url: str, tmp_path: Path, processes: ProcessPoolExecutor, cycles: int
) -> None:
    ledger = Ledger(url)
    ledger.write_slots(SLOTS, NOW)
    fight = Fight(url=url, marks=tmp_path / "marks", cycles=cycles // PROCESSES)
    reports = run_fight(processes, fight)
    with past_the_ledger(url) as sql:
        assert find_faults(sql, reports, cycles) == []
    assert sum(report.waits for report in reports) >= QUEUE_LIMIT
    assert sum(report.refusals for report in reports) >= 1
    assert ledger.live_leases() == ()
    ledger.close()


def queue_up(url: str, kind: type[Ledger], number: int) -> str:
    """Ask for a slot, where there is none, at the same time as the others, and return what was said."""
    ledger = kind(url)
    asked = ask_for(f"user{number}", "")
    meet()
    try:
        ledger.reserve(asked.draft, asked.decide, wish=asked.wish, queue_limit=QUEUE_LIMIT)
    except NothingFree as error:
        return error.reason
    finally:
        ledger.close()
    return "served"


def queue_up_at_once(url: str, processes: ProcessPoolExecutor, kind: type[Ledger]) -> Counter[str]:
    """Let all ask at once where every slot is leased, and return how often each answer was given."""
    ledger = Ledger(url)
    ledger.write_slots(SLOTS, NOW)
    ledger.reserve(ask_for("ada", "").draft, lambda view: view.slots)
    running = [processes.submit(queue_up, url, kind, number) for number in range(PROCESSES)]
    told = Counter(one.result() for one in running)
    assert len(ledger.queue()) == told["nothing-free"]
    ledger.close()
    return told


def test_eight_processes_ask_at_once_and_no_more_wait_than_may(
    url: str, processes: ProcessPoolExecutor
) -> None:
    told = queue_up_at_once(url, processes, Ledger)
    assert told == {"nothing-free": QUEUE_LIMIT, "queue-full": PROCESSES - QUEUE_LIMIT}


class TestNothingSerialises:
    def test_the_same_check_finds_doubled_slots_and_exceeded_limits(
        self, url: str, tmp_path: Path, processes: ProcessPoolExecutor
    ) -> None:
        ledger = Ledger(url)
        ledger.write_slots(SLOTS, NOW)
        with past_the_ledger(url) as sql:
            sql.execute(sa.text("DROP INDEX one_live_lease_per_slot"))
        fight = Fight(url=url, marks=tmp_path / "marks", cycles=10, ledger=UnserialisedLedger)
        reports = run_fight(processes, fight)
        with past_the_ledger(url) as sql:
            faults = find_faults(sql, reports, 10 * PROCESSES)
        for kind in (
            "seen: slot",
            "seen: user",
            "recorded: slot",
            "recorded: user",
            "recorded: CPUs",
            "epoch",
        ):
            assert any(fault.startswith(kind) for fault in faults), (kind, faults[:20])
        ledger.close()

    def test_more_wait_than_may(self, url: str, processes: ProcessPoolExecutor) -> None:
        assert queue_up_at_once(url, processes, UnserialisedQueue) == {"nothing-free": PROCESSES}
