"""What all servers of a person take together, from the limits file to the ledger; no Docker is asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import PurePosixPath
from threading import Barrier

import pytest

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.core import Admin, Leases, Offers
from ds01_spawner.core.leases import Claim, Place, Start
from ds01_spawner.errors import LimitExceeded
from ds01_spawner.limits import lower
from ds01_spawner.model import (
    NO_RESOURCES,
    UNLIMITED,
    Account,
    Inventory,
    LimitsTexts,
    Resources,
    ServerRequest,
)

from .ledgers import SECOND, SMALL, draft, take

pytest_plugins = ("tests.adapters.postgres",)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
GIB = 1024**3
CPU = ServerRequest(profile="cpu", base_image="lab/base:1")
SLICE = replace(CPU, gpu_profile="1g.10gb", gpu_count=1)
LIMITS = """
defaults: {max_gpu_slots: 9, max_containers_per_user: 9, max_cpus: 8, memory: 8g, pids_limit: 100}
groups:
  student:
    aggregate: {cpu_quota: 2000%, memory_max: 64G, tasks_max: 1000}
  open:
    max_cpus: null
    aggregate: {cpu_quota: 400%}
"""


class Lab:
    """The use cases on a ledger with two slices."""

    def __init__(self, ledger: Ledger) -> None:
        engine = DockerEngine(docker_host="unix:///nowhere/docker.sock")
        ledger.write_inventory(Inventory(slots=(SMALL, SECOND), gpus=()), NOW)
        self.ledger = ledger
        self.offers = Offers(
            ledger=ledger,
            read_catalog=lambda: None,
            read_limits=lambda: LimitsTexts(path="limits.yaml", text=LIMITS),
            find_account=lambda login: Account(name=login, uid=1001, gid=1001, home=PurePosixPath("/home")),
            open_mounts=lambda _account, _wishes: (),
            architecture="CUDA_ADA",
            clock=lambda: NOW,
        )
        self.leases = Leases(
            ledger=ledger,
            engine=engine,
            offers=self.offers,
            owner="tests",
            is_alive=lambda _owner: True,
            queue_limit=9,
            clock=lambda: NOW,
        )
        self.admin = Admin(ledger=ledger, engine=engine, offers=self.offers, leases=self.leases)

    def claim(self, server: str, request: ServerRequest = CPU, *groups: str, **asked: int) -> Claim | Place:
        effective = lower(self.offers.limits_for("ada", groups), **asked)
        return self.leases.claim(
            Start(
                user="ada",
                server=server,
                container_name=f"{server}._.1001",
                request=request,
                effective=effective,
                fingerprint="",
                requested_at=NOW + timedelta(seconds=len(self.ledger.queue())),
            )
        )


@pytest.fixture
def lab(ledger: Ledger) -> Lab:
    return Lab(ledger)


def test_starts_at_once_never_take_more_than_all_together_may(lab: Lab) -> None:
    met = Barrier(8)

    def start(number: int) -> str:
        met.wait(timeout=60)
        try:
            lab.claim(f"server{number}")
        except LimitExceeded as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        refusals = [said for said in pool.map(start, range(8)) if said]
    assert lab.ledger.holdings("ada").takes == Resources(cpus=16, memory=16 * GIB, pids=200)
    assert (
        refusals
        == [
            "You hold 16 CPUs in 2 servers and ask for 8 more; together your limit is 20. "
            "Lower this server's CPUs to 4, or stop a server that you do not need."
        ]
        * 6
    )


def test_what_she_lowers_counts_as_lowered(lab: Lab) -> None:
    for server, cpus in (("a", 8), ("b", 8), ("c", 4)):
        lab.claim(server, cpus=cpus)
    with pytest.raises(LimitExceeded, match="hold 20 CPUs in 3 servers and ask for 1 more"):
        lab.claim("d", cpus=1)


def test_what_cannot_come_true_is_refused_before_there_is_a_build(lab: Lab) -> None:
    lab.claim("a")
    lab.claim("b")
    hers = lab.offers.limits_for("ada")
    with pytest.raises(LimitExceeded, match="hold 16 CPUs in 2 servers and ask for 8 more"):
        lab.offers.check("ada", "c", CPU, hers)
    lab.offers.check("ada", "c", CPU, lower(hers, cpus=4))
    # What the server itself has still is given up, or taken over, at its start.
    lab.offers.check("ada", "b", CPU, hers)


def test_starts_of_hers_that_wait_count_too(lab: Lab) -> None:
    lab.ledger.reserve(replace(draft("bob"), takes=NO_RESOURCES), take(SMALL, SECOND))
    assert isinstance(lab.claim("a", SLICE), Place)
    assert isinstance(lab.claim("b", SLICE), Place)
    with pytest.raises(LimitExceeded) as refused:
        lab.claim("c", SLICE)
    assert "You hold 16 CPUs in 2 servers and ask for 8 more" in str(refused.value)
    assert str(refused.value).endswith("Your starts that wait in the queue count too.")
    assert isinstance(lab.claim("c", SLICE, cpus=4), Place)


def test_slots_that_an_admin_gives_take_no_cpus(lab: Lab) -> None:
    lab.claim("a")
    lab.claim("b", cpus=8)
    lab.claim("c", cpus=4)
    lab.admin.allocate("ada", "1g.10gb", 1, until=NOW + timedelta(hours=1), who="root")
    assert lab.ledger.holdings("ada").takes.cpus == 20


def test_a_server_without_a_limit_of_its_own_takes_all_and_has_that_limit(lab: Lab) -> None:
    assert lab.offers.limits_for("ada", ["open"]).cpus == 4
    lab.claim("a", CPU, "open")
    assert lab.ledger.holdings("ada").takes == Resources(cpus=4, memory=8 * GIB, pids=100)
    with pytest.raises(LimitExceeded, match="hold 4 CPUs in 1 server and ask for 4 more"):
        lab.claim("b", CPU, "open")


def test_a_lease_that_nothing_is_known_of_counts_as_all(lab: Lab) -> None:
    lab.ledger.reserve(replace(draft("ada", "old"), takes=UNLIMITED), take())
    with pytest.raises(LimitExceeded, match="Nobody knows a limit of CPUs for one of your servers"):
        lab.claim("a")
