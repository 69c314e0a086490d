"""Eight processes fight for fewer slots than they are, against limits; what they did is checked twice.

While they run, each leaves a mark per slot and per user, past the ledger: a mark stands only while its
lease is live, so that two on one slot, or more than a limit allows, is a fault for certain. Afterwards
the ledger's own history is replayed, and compared with what the processes were told.
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

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import LeaseDraft, PoolView, choose
from ds01_spawner.errors import LimitExceeded, NothingFree
from ds01_spawner.limits import check
from ds01_spawner.model import Lease, Limits, Slot

pytest_plugins = ("tests.adapters.postgres",)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
PROCESSES = 8
USERS = ("ada", "bob")
# Four processes of each user and five slots: her limit is met, and so is the end of the pool.
MOST_SLOTS = 3
MOST_HELD = 2  # by one process
LIMITS = Limits(group="students", slots=MOST_SLOTS)
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

    All meet at their first decision, which with turns they never would.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._each_alone = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self._have_met = False

    def reserve(self, draft: LeaseDraft, decide: Callable[[PoolView], tuple[Slot, ...]]) -> Lease:
        def decide_together(view: PoolView) -> tuple[Slot, ...]:
            if not self._have_met:
                self._have_met = True
                _start.wait(timeout=60)
            return decide(view)

        return super().reserve(draft, decide_together)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._each_alone.connect() as connection:
            yield connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Fight:
    """What each process does: `cycles` times reserve and release, at most until `seconds` are over."""

    url: str
    marks: Path
    cycles: int
    seconds: float = 400
    ledger: type[Ledger] = Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one process was told by the ledger, and what faults it saw while it held a lease."""

    leases: tuple[int, ...]
    refusals: int
    faults: tuple[str, ...]


_start: Barrier


def share_start(start: Barrier) -> None:
    """Give a new process the barrier that all wait at, which holds each of them to one task at a time."""
    global _start
    _start = start


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    spawn = get_context("spawn")
    start = spawn.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn, initializer=share_start, initargs=(start,)) as pool:
        yield pool


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the ledger of a test is: an empty database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


def decide(view: PoolView) -> tuple[Slot, ...]:
    check(LIMITS, view.holdings, slots=1, gpu_share=Fraction(1, 7), full_gpu=False)
    return choose(view.slots, view.taken, profile="1g.10gb", count=1, allow_full_gpu=False, strategy="pack")


def take_part(fight: Fight, number: int) -> Report:
    """Reserve and release in one process; `number` makes its servers, and with others its user.

    It has one lease or two at a time, and gives one back when it is refused: so the pool stays full,
    and nobody waits for ever. The first is kept until all have asked, so that somebody is refused.
    """
    ledger = fight.ledger(fight.url)
    given: list[int] = []
    held: list[Lease] = []
    faults: list[str] = []
    refusals = 0
    _start.wait(timeout=60)
    end = time.monotonic() + fight.seconds
    while len(given) < fight.cycles and time.monotonic() < end:
        lease = ask(ledger, USERS[number % len(USERS)], f"server{number}-{len(given)}")
        if lease is None:
            refusals += 1
        else:
            given.append(lease.id)
            held.append(lease)
            set_marks(fight.marks, lease)
        if len(given) + refusals == 1:
            _start.wait(timeout=60)
        faults += [] if lease is None else look_around(ledger, fight.marks, lease)
        if held and (lease is None or len(held) == MOST_HELD):
            give_back(ledger, fight.marks, held.pop(0))
    for lease in held:
        give_back(ledger, fight.marks, lease)
    ledger.close()
    return Report(leases=tuple(given), refusals=refusals, faults=tuple(faults))


def ask(ledger: Ledger, user: str, server: str) -> Lease | None:
    draft = LeaseDraft(
        user=user,
        server=server,
        container_name=f"{server}._.{user}",
        group="students",
        nonce=os.urandom(16).hex(),
        created_at=NOW,
        deadline=NOW + timedelta(minutes=5),
    )
    try:
        return ledger.reserve(draft, decide)
    except (NothingFree, LimitExceeded):
        return None


def give_back(ledger: Ledger, marks: Path, lease: Lease) -> None:
    for place in places_of(marks, lease):
        (place / lease.server).unlink()
    ledger.release(lease.id, NOW, "stopped")


def set_marks(marks: Path, lease: Lease) -> None:
    for place in places_of(marks, lease):
        (place / lease.server).touch()


def look_around(ledger: Ledger, marks: Path, lease: Lease) -> list[str]:
    """Return what is wrong while the lease is held: too many beside it, or it is not what was given."""
    faults = [] if ledger.lease(lease.id) == lease else [f"lease {lease.id} is not what was given"]
    for place, most in places_of(marks, lease).items():
        present = len(os.listdir(place))
        if present > most:
            faults.append(f"seen: {place.name}, {present} at once")
    return faults


def places_of(marks: Path, lease: Lease) -> dict[Path, int]:
    """Return where the lease has its marks, and how many there may be at once."""
    return {marks / f"slot {slot}": 1 for slot in lease.slots} | {marks / f"user {lease.user}": MOST_SLOTS}


def run_fight(processes: ProcessPoolExecutor, fight: Fight) -> list[Report]:
    for name in [*(f"slot {slot.uuid}" for slot in SLOTS), *(f"user {user}" for user in USERS)]:
        (fight.marks / name).mkdir(parents=True)
    running = [processes.submit(take_part, fight, number) for number in range(PROCESSES)]
    return [one.result(timeout=fight.seconds + 120) for one in running]


def find_faults(sql: sa.Connection, reports: Sequence[Report], cycles: int) -> list[str]:
    """Return all that is wrong with what the processes saw and with what was recorded; best is none."""
    seen = [fault for report in reports for fault in report.faults]
    return seen + replay_history(sql) + find_losses(sql, reports, cycles)


def replay_history(sql: sa.Connection) -> list[str]:
    """Go through the events in their order and return where a slot was doubled or a limit exceeded."""
    history = sql.execute(
        sa.text(
            "SELECT lease_events.kind, leases.user_name, lease_slots.slot_uuid FROM lease_events"
            " JOIN leases ON leases.id = lease_events.lease_id"
            " JOIN lease_slots ON lease_slots.lease_id = leases.id ORDER BY lease_events.id"
        )
    )
    held: Counter[str] = Counter()
    faults = []
    for kind, user, slot in history:
        change = {"pending": 1, "released": -1}[kind]
        held.update({f"slot {slot}": change, f"user {user}": change})
        if held[f"slot {slot}"] not in (0, 1):
            faults.append(f"recorded: slot {slot} has {held[f'slot {slot}']} leases")
        if held[f"user {user}"] > MOST_SLOTS:
            faults.append(f"recorded: user {user} has {held[f'user {user}']} slots")
    return faults


def find_losses(sql: sa.Connection, reports: Sequence[Report], cycles: int) -> list[str]:
    """Compare what the processes were told with what is in the tables."""
    told = sorted(lease for report in reports for lease in report.leases)
    refusals = sum(report.refusals for report in reports)
    released = sql.scalars(sa.text("SELECT id FROM leases WHERE state = 'released' ORDER BY id")).all()
    kinds = dict(sql.execute(sa.text("SELECT kind, count(*) FROM lease_events GROUP BY kind")).all())
    live = sql.scalar(sa.text("SELECT count(*) FROM lease_slots WHERE live"))
    expected = {
        "cycles": (cycles, len(told)),
        "leases": (told, list(released)),
        "pending events": (cycles, kinds.get("pending", 0)),
        "released events": (cycles, kinds.get("released", 0)),
        "refused events": (refusals, kinds.get("refused", 0)),
        "live slots": (0, live),
        # One write for the slots; an epoch that was bumped from an old value would be less.
        "epoch": (1 + 2 * cycles + refusals, sql.scalar(sa.text("SELECT epoch FROM pool"))),
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
def test_eight_processes_never_share_a_slot_exceed_a_limit_or_lose_a_lease(
    url: str, tmp_path: Path, processes: ProcessPoolExecutor, cycles: int
) -> None:
    ledger = Ledger(url)
    ledger.write_slots(SLOTS, NOW)
    fight = Fight(url=url, marks=tmp_path / "marks", cycles=cycles // PROCESSES)
    reports = run_fight(processes, fight)
    with past_the_ledger(url) as sql:
        assert find_faults(sql, reports, cycles) == []
    assert sum(report.refusals for report in reports) >= PROCESSES - len(SLOTS)
    assert ledger.live_leases() == ()
    ledger.close()


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
        for kind in ("seen: slot", "seen: user", "recorded: slot", "recorded: user", "epoch"):
            assert any(fault.startswith(kind) for fault in faults), (kind, faults[:20])
        ledger.close()
