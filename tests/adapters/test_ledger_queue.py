"""The queue in the ledger: who gets a place in it, keeps it and leaves it, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import PoolView
from ds01_spawner.errors import DS01Error, LimitExceeded, NothingFree, QueueFull, RequestRefused
from ds01_spawner.model import GpuWish, QueueEntry, Slot

from .ledgers import BERLIN, LATER, NOW, SMALL, TAKES, draft, events, kinds, nothing_free, refuse, take

pytest_plugins = ("tests.adapters.postgres",)

MINUTE = timedelta(minutes=1)


def nothing_ever(_view: PoolView) -> tuple[Slot, ...]:
    raise NothingFree("This machine has none.", can_wait=False)


def wish(user: str, *, asked: datetime = NOW, priority: int = 0) -> GpuWish:
    return GpuWish(user=user, profile="1g.10gb", count=1, requested_at=asked, priority=priority)


def wait(
    ledger: Ledger,
    user: str = "ada",
    server: str = "",
    *,
    wanted: GpuWish | None = None,
    limit: int = 10,
    now: datetime = NOW,
    node: str = "local",
) -> str:
    """Ask for a slot where none is free, and return the name of the container that waits."""
    asked = replace(draft(user, server, node=node), created_at=now)
    with pytest.raises(NothingFree) as caught:
        ledger.reserve(asked, nothing_free, wish=wanted or wish(user), queue_limit=limit)
    assert caught.value.can_wait
    return asked.container_name


def ask(
    ledger: Ledger,
    user: str,
    decide: Callable[[PoolView], tuple[Slot, ...]],
    *,
    limit: int = 10,
    node: str = "local",
) -> DS01Error:
    """Ask with a wish, and return what is refused."""
    with pytest.raises(DS01Error) as caught:
        ledger.reserve(draft(user, node=node), decide, wish=wish(user), queue_limit=limit)
    return caught.value


def names(ledger: Ledger) -> list[str]:
    return [entry.container_name for entry in ledger.queue()]


# A place


def test_where_nothing_is_free_a_wish_gets_a_place_and_comes_back_whole(ledger: Ledger) -> None:
    wanted = GpuWish(
        user="ada",
        profile="3g.40gb",
        count=2,
        requested_at=(NOW - MINUTE).astimezone(BERLIN),
        allow_full_gpu=False,
        priority=-3,
        runs_until=LATER,
        takes=TAKES,
    )
    asked = replace(draft("ada", "thesis"), owner="hub 17")
    with pytest.raises(NothingFree, match="All of them are taken"):
        ledger.reserve(asked, nothing_free, wish=wanted, queue_limit=1)
    (entry,) = ledger.queue()
    assert entry == QueueEntry(
        id=entry.id,
        wish=wanted,
        server="thesis",
        container_name="thesis._.ada",
        entered_at=NOW,
        owner="hub 17",
    )
    assert ledger.live_leases() == ()


def test_a_place_and_its_reason_are_written_in_one_transaction(ledger: Ledger, sql: sa.Connection) -> None:
    epoch = ledger.epoch()
    wait(ledger)
    assert ledger.epoch() == epoch + 1
    assert events(sql) == [("queued", "ada", "jupyter._.ada: All of them are taken.")]


def test_a_decision_sees_who_waits(ledger: Ledger) -> None:
    wait(ledger)
    seen: list[tuple[QueueEntry, ...]] = []

    def look(view: PoolView) -> tuple[Slot, ...]:
        seen.append(view.queue)
        return ()

    ledger.reserve(draft("bob"), look)
    assert seen == [ledger.queue()]
    assert ledger.view("bob").queue == ledger.queue()


def test_what_can_never_be_had_is_not_waited_for(ledger: Ledger, sql: sa.Connection) -> None:
    assert isinstance(ask(ledger, "ada", nothing_ever), NothingFree)
    assert ledger.queue() == ()
    assert events(sql) == [("refused", "ada", "This machine has none.")]


def test_nobody_waits_for_her_limits(ledger: Ledger) -> None:
    assert isinstance(ask(ledger, "ada", refuse), LimitExceeded)
    assert ledger.queue() == ()


def test_who_does_not_want_to_wait_gets_no_place(ledger: Ledger, sql: sa.Connection) -> None:
    with pytest.raises(NothingFree):
        ledger.reserve(draft(), nothing_free, queue_limit=10)
    assert ledger.queue() == ()
    assert kinds(sql) == ["refused"]


def test_where_the_queue_is_full_nobody_is_added(ledger: Ledger, sql: sa.Connection) -> None:
    waiting = [wait(ledger, "ada", limit=2), wait(ledger, "bob", limit=2)]
    error = ask(ledger, "cleo", nothing_free, limit=2)
    assert isinstance(error, QueueFull)
    assert not error.can_wait
    assert str(error) == "All of them are taken. The queue is full as well: 2 others wait."
    assert names(ledger) == waiting
    assert events(sql)[2:] == [("refused", "cleo", str(error))]


def test_a_queue_that_holds_nobody_is_always_full(ledger: Ledger) -> None:
    assert isinstance(ask(ledger, "ada", nothing_free, limit=0), QueueFull)
    assert ledger.queue() == ()


def test_asking_again_keeps_the_place_and_its_time(ledger: Ledger, sql: sa.Connection) -> None:
    wait(ledger, "ada")
    wait(ledger, "bob")
    before = ledger.queue()
    later = wish("ada", asked=LATER, priority=5)
    # Not even a limit that was lowered meanwhile takes it away.
    wait(ledger, "ada", wanted=later, now=LATER, limit=1)
    assert ledger.queue() == before
    assert kinds(sql) == ["queued", "queued"]


def test_a_place_outlives_the_process_that_left_it(url: str) -> None:
    before = Ledger(url)
    wait(before)
    waiting = before.queue()
    before.close()
    after = Ledger(url)
    assert after.queue() == waiting != ()
    after.close()


def test_the_database_itself_refuses_a_second_place_for_a_container(
    ledger: Ledger, sql: sa.Connection
) -> None:
    wait(ledger)
    columns = (
        "node, container_name, user_name, server_name, gpu_profile, gpu_count, allow_full_gpu,"
        " priority, requested_at, runs_until, entered_at, owner"
    )
    with pytest.raises(sa.exc.IntegrityError):
        sql.execute(sa.text(f"INSERT INTO queue ({columns}) SELECT {columns} FROM queue"))


# The order


def test_the_higher_priority_is_first_then_who_asked_sooner_then_the_name(ledger: Ledger) -> None:
    wait(ledger, "eve", wanted=wish("eve", asked=NOW + MINUTE))
    wait(ledger, "dan", wanted=wish("dan"))
    wait(ledger, "bob", wanted=wish("bob", asked=LATER, priority=2))
    wait(ledger, "ada", wanted=wish("ada", asked=LATER, priority=1))
    wait(ledger, "cleo", wanted=wish("cleo", asked=NOW.astimezone(BERLIN)))
    wait(ledger, "fay", wanted=wish("fay", priority=-1))
    assert [entry.wish.user for entry in ledger.queue()] == ["bob", "ada", "cleo", "dan", "eve", "fay"]


def test_who_built_longer_is_not_behind_who_asked_later(ledger: Ledger) -> None:
    wait(ledger, "bob", wanted=wish("bob", asked=NOW + MINUTE), now=NOW + MINUTE)
    wait(ledger, "ada", wanted=wish("ada", asked=NOW), now=LATER)
    assert [entry.wish.user for entry in ledger.queue()] == ["ada", "bob"]


def test_each_node_has_a_queue_of_its_own(ledger: Ledger) -> None:
    wait(ledger, "ada", limit=1)
    wait(ledger, "bob", node="gpu2", limit=1)
    assert names(ledger) == ["jupyter._.ada"]
    assert [(entry.node, entry.wish.user) for entry in ledger.queue(node="gpu2")] == [("gpu2", "bob")]
    assert isinstance(ask(ledger, "cleo", nothing_free, node="gpu2", limit=1), QueueFull)


# The end of a wait


def test_a_lease_takes_the_place_away(ledger: Ledger, sql: sa.Connection) -> None:
    ledger.write_slots([SMALL], NOW)
    wait(ledger, "ada")
    other = wait(ledger, "bob")
    epoch = ledger.epoch()
    lease = ledger.reserve(draft("ada"), take(SMALL), wish=wish("ada"), queue_limit=10)
    assert lease.slots == ("MIG-0",)
    assert names(ledger) == [other]
    assert ledger.epoch() == epoch + 1
    assert kinds(sql) == ["queued", "queued", "pending"]


def test_a_lease_of_another_server_leaves_the_place(ledger: Ledger) -> None:
    waiting = wait(ledger, "ada", "thesis")
    ledger.reserve(draft("ada"), take())
    assert names(ledger) == [waiting]


@pytest.mark.parametrize("decide", [nothing_ever, refuse])
def test_who_may_not_wait_any_more_loses_her_place(
    ledger: Ledger, sql: sa.Connection, decide: Callable[[PoolView], tuple[Slot, ...]]
) -> None:
    wait(ledger, "ada")
    ask(ledger, "ada", decide)
    assert ledger.queue() == ()
    assert kinds(sql) == ["queued", "refused"]


def test_who_does_not_want_to_wait_any_more_loses_her_place(ledger: Ledger) -> None:
    wait(ledger, "ada")
    with pytest.raises(NothingFree):
        ledger.reserve(draft("ada"), nothing_free)
    assert ledger.queue() == ()


def test_a_server_that_has_a_lease_does_not_wait(ledger: Ledger) -> None:
    ledger.reserve(draft("ada"), take())
    assert isinstance(ask(ledger, "ada", nothing_free), RequestRefused)
    assert ledger.queue() == ()


def test_a_decision_that_fails_in_another_way_leaves_the_place(ledger: Ledger, sql: sa.Connection) -> None:
    def stumble(_view: PoolView) -> tuple[Slot, ...]:
        raise ZeroDivisionError

    waiting = wait(ledger, "ada")
    for user in ("ada", "bob"):
        with pytest.raises(ZeroDivisionError):
            ledger.reserve(draft(user), stumble, wish=wish(user), queue_limit=10)
    assert names(ledger) == [waiting]
    assert kinds(sql) == ["queued"]


def test_leaving_takes_the_place_away_and_says_why_once(ledger: Ledger, sql: sa.Connection) -> None:
    waiting, other = wait(ledger, "ada"), wait(ledger, "bob")
    assert ledger.leave_queue(waiting, LATER, "the start was cancelled") is True
    assert ledger.leave_queue(waiting, LATER, "the start was cancelled") is False
    assert names(ledger) == [other]
    assert events(sql)[2:] == [("left", "ada", "jupyter._.ada: the start was cancelled")]


def test_leaving_without_a_place_writes_nothing(ledger: Ledger, sql: sa.Connection) -> None:
    wait(ledger, "ada", node="gpu2")
    epoch = ledger.epoch()
    assert ledger.leave_queue("jupyter._.ada", NOW, "cancelled") is False
    assert ledger.epoch() == epoch
    assert ledger.leave_queue("jupyter._.ada", NOW, "cancelled", node="gpu2") is True


def test_a_place_is_left_by_its_id_whoever_has_it(ledger: Ledger, sql: sa.Connection) -> None:
    wait(ledger, "ada")
    (entry,) = ledger.queue()
    assert ledger.leave_queue_by_id(entry.id, LATER, "its process is gone") is True
    assert ledger.leave_queue_by_id(entry.id, LATER, "its process is gone") is False
    assert ledger.queue() == ()
    assert kinds(sql) == ["queued", "left"]


def test_the_id_of_a_place_never_comes_back(ledger: Ledger) -> None:
    wait(ledger, "ada")
    (first,) = ledger.queue()
    ledger.leave_queue_by_id(first.id, NOW, "its process is gone")
    waiting = wait(ledger, "ada")
    assert ledger.leave_queue_by_id(first.id, NOW, "its process is gone") is False
    assert names(ledger) == [waiting]


def test_many_threads_ask_at_once_and_no_more_wait_than_may(ledger: Ledger) -> None:
    users = [f"user{number}" for number in range(6)]
    barrier = threading.Barrier(len(users))
    told: list[str] = []

    def queue_up(user: str) -> None:
        barrier.wait()
        try:
            ledger.reserve(draft(user), nothing_free, wish=wish(user), queue_limit=2)
        except NothingFree as error:
            told.append(error.reason)

    threads = [threading.Thread(target=queue_up, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["nothing-free"] * 2 + ["queue-full"] * 4
    assert len(ledger.queue()) == 2
