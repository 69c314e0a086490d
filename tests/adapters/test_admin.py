"""What an admin does to the GPUs, on a real ledger, and where Docker is asked on a real one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path, PurePosixPath

import docker
import docker.errors
import pytest

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import LeaseDraft, PoolView
from ds01_spawner.core import Admin, Leases, Offers, Upkeep
from ds01_spawner.errors import (
    AccountRefused,
    EngineUnavailable,
    InventoryUnavailable,
    LimitExceeded,
    NotAllowed,
    NothingFree,
    RequestRefused,
)
from ds01_spawner.mlc import LEASE_LABEL, image_name
from ds01_spawner.model import (
    FULL_GPU,
    Account,
    GpuWish,
    Inventory,
    Lease,
    LeaseState,
    LimitsTexts,
    Mark,
    MarkKind,
    Reservation,
    Slot,
    SlotState,
)
from tests.unit.shell import Shell, open_shell, write_config

from ..conftest import PrivateEngine, run_tool
from ..hub.docker_link import DockerLink

BASE = "ds01-test/no-python:latest"
START = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
OTHER_BOOT = "00000000-0000-4000-8000-000000000000:1:1:1"  # a process from before the machine's restart
# No container of another test can mean these: a GPU is also known by its number.
SLICES = tuple(
    Slot(
        uuid=f"MIG-admin-{place}",
        index=f"97:{place}",
        profile="1g.10gb",
        gpu_uuid="GPU-admin-97",
        gpu_name="A100",
        memory_mib=9728,
        share=Fraction(1, 7),
    )
    for place in range(3)
)
WHOLE = replace(
    SLICES[0], uuid="GPU-admin-98", gpu_uuid="GPU-admin-98", index="98", profile=FULL_GPU, share=Fraction(1)
)
LIMITS = """
defaults: {max_gpu_slots: 2, max_gpu_slots_per_container: 2, max_gpu_equivalents: 1, max_runtime_h: 2}
groups:
  staff: {max_gpu_slots: 9, max_gpu_slots_per_container: 9, max_gpu_equivalents: 9, allow_full_gpu: true}
"""


def find_account(login: str) -> Account:
    if login not in ("ada", "bob"):
        raise AccountRefused(f"There is no account {login!r}.")
    return Account(name=login, uid=1001, gid=1001, home=PurePosixPath("/home") / login)


def fail_to_read() -> Inventory:
    raise InventoryUnavailable("The driver is not loaded.")


@dataclass(slots=True, kw_only=True)
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True, kw_only=True)
class Lab:
    """A ledger with four slots, and the use cases on it; `alive` are the processes that run."""

    ledger: Ledger
    clock: Clock
    admin: Admin
    leases: Leases
    upkeep: Upkeep
    alive: set[str] = field(default_factory=set)

    def reserve(
        self, user: str, server: str, *slots: Slot, owner: str = "", runs_until: datetime | None = None
    ) -> Lease:
        draft = LeaseDraft(
            user=user,
            server=server,
            container_name=f"{server}-{secrets.token_hex(4)}._.1001",
            group="student",
            nonce=secrets.token_hex(16),
            created_at=self.clock.now,
            deadline=self.clock.now + timedelta(minutes=5),
            owner=owner,
            runs_until=runs_until,
        )
        return self.ledger.reserve(draft, lambda _view: slots)

    def wait(self, user: str, profile: str, *, runs_until: datetime | None = None) -> None:
        def refuse(_view: PoolView) -> tuple[Slot, ...]:
            raise NothingFree("Nothing is free.")

        wish = GpuWish(
            user=user,
            profile=profile,
            count=1,
            requested_at=self.clock.now,
            priority=10,
            runs_until=runs_until,
        )
        draft = LeaseDraft(
            user=user,
            server="waiting",
            container_name=f"waiting._.{user}",
            group="student",
            nonce=secrets.token_hex(16),
            created_at=self.clock.now,
            deadline=self.clock.now,
        )
        with pytest.raises(NothingFree):
            self.ledger.reserve(draft, refuse, wish=wish, queue_limit=9)

    def history(self) -> list[tuple[str, str, str]]:
        return [(event.kind, event.who, event.why) for event in self.ledger.history()]

    def state(self, lease: Lease) -> LeaseState:
        found = self.ledger.lease(lease.id)
        assert found is not None
        return found.state


def open_lab(ledger: Ledger, engine: DockerEngine) -> Lab:
    clock, alive = Clock(), {""}
    ledger.write_inventory(Inventory(slots=(*SLICES, WHOLE), gpus=()), START)
    offers = Offers(
        ledger=ledger,
        read_catalog=lambda: None,
        read_limits=lambda: LimitsTexts(path="limits.yaml", text=LIMITS),
        find_account=find_account,
        open_mounts=lambda _account, _wishes: (),
        inventory_max_age=timedelta(days=30),
        clock=clock,
    )
    leases = Leases(
        ledger=ledger,
        engine=engine,
        offers=offers,
        owner="tests",
        is_alive=lambda owner: owner in alive,
        clock=clock,
    )
    upkeep = Upkeep(ledger=ledger, engine=engine, offers=offers, leases=leases, read_inventory=fail_to_read)
    admin = Admin(ledger=ledger, engine=engine, offers=offers, leases=leases)
    return Lab(ledger=ledger, clock=clock, admin=admin, leases=leases, upkeep=upkeep, alive=alive)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def lab(ledger: Ledger) -> Lab:
    """A lab whose Docker is never asked: it would fail."""
    return open_lab(ledger, DockerEngine(docker_host="unix:///nowhere/docker.sock"))


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    tags = ["--no-python", "--tag", BASE]
    ensured = run_tool("base_image", "ensure", "--docker-host", private_engine.docker_host, *tags)
    assert ensured.returncode == 0, ensured.stderr
    return private_engine.docker_host


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=docker_host, version="auto")
    yield found
    found.close()


@pytest.fixture
def docker_lab(ledger: Ledger, docker_host: str) -> Lab:
    return open_lab(ledger, DockerEngine(docker_host=docker_host))


@pytest.fixture
def run(client: docker.APIClient) -> Iterator[Callable[..., str]]:
    """A function that makes the container of a lease, running or stopped; removed at the end."""
    made: list[str] = []

    def make(lease: Lease, *, running: bool) -> str:
        made.append(
            client.create_container(
                BASE, ["sleep", "600"], name=lease.container_name, labels={LEASE_LABEL: lease.nonce}
            )["Id"]
        )
        if running:
            client.start(made[-1])
        return made[-1]

    yield make
    for container_id in made:
        try:
            client.remove_container(container_id, force=True, v=True)
        except docker.errors.NotFound:
            continue


def exists(client: docker.APIClient, container_id: str) -> bool:
    try:
        client.inspect_container(container_id)
    except docker.errors.NotFound:
        return False
    return True


# give


def test_allocated_slot_is_held_until_its_time_with_a_name_that_no_server_can_have(lab: Lab) -> None:
    made = lab.admin.allocate("ada", "1g.10gb", 1, until=START + 5 * HOUR, who="root", reason="thesis")
    assert made.lease is not None
    lease = lab.ledger.lease(made.lease.id)
    assert lease is not None
    assert (lease.state, lease.deadline, lease.container_id) == (LeaseState.HELD, START + 5 * HOUR, None)
    assert made.slots == SLICES[:1]
    # The Hub takes slugs as names; the number behind a container's name is a UID.
    assert lease.server.startswith("#allocated-")
    assert lease.container_name.endswith("._.none")
    assert image_name(lease.container_name, "ada").startswith("allocated-")
    assert lab.history() == [("pending", "ada", ""), ("held", "ada", "allocated by root: thesis")]


def test_two_allocations_never_share_a_slot(lab: Lab) -> None:
    taken = [
        slot
        for user in ("ada", "ada", "bob")
        for slot in lab.admin.allocate(user, "1g.10gb", 1, until=START + HOUR, who="root").slots
    ]
    assert set(taken) == set(SLICES)
    with pytest.raises(NothingFree):
        lab.admin.allocate("bob", "1g.10gb", 1, until=START + HOUR, who="root")


def test_her_limits_hold_but_not_those_of_run_time(lab: Lab) -> None:
    with pytest.raises(LimitExceeded):
        lab.admin.allocate("ada", "1g.10gb", 3, until=START + HOUR, who="root")
    with pytest.raises(NotAllowed):
        lab.admin.allocate("ada", FULL_GPU, 1, until=START + HOUR, who="root")
    lab.admin.allocate("ada", "1g.10gb", 2, until=START + 99 * HOUR, who="root")
    with pytest.raises(LimitExceeded):
        lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root")


def test_group_that_is_named_gives_its_limits(lab: Lab) -> None:
    made = lab.admin.allocate("ada", FULL_GPU, 1, until=START + HOUR, who="root", hub_groups=("staff",))
    assert made.slots == (WHOLE,)
    assert made.lease is not None
    assert made.lease.group == "staff"


def test_force_passes_the_limits_and_the_history_says_so(lab: Lab) -> None:
    made = lab.admin.allocate("ada", "1g.10gb", 3, until=START + HOUR, who="root", force=True)
    assert set(made.slots) == set(SLICES)
    assert lab.history()[-1] == ("held", "ada", "allocated by root, past the limits")
    lab.admin.allocate("ada", FULL_GPU, 1, until=START + HOUR, who="root", force=True)


@pytest.mark.parametrize("force", [False, True])
def test_reservation_of_somebody_else_holds_even_when_forced(lab: Lab, force: bool) -> None:
    window = Reservation(
        user="bob",
        start=START + HOUR,
        end=START + 9 * HOUR,
        gpus=("97",),
        devices=("GPU-admin-97",),
    )
    lab.ledger.write_reservations([window], START)
    with pytest.raises(NothingFree):
        lab.admin.allocate("ada", "1g.10gb", 1, until=START + 2 * HOUR, who="root", force=force)
    lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root", force=force)


def test_who_waits_longer_comes_first(lab: Lab) -> None:
    lab.admin.allocate("ada", "1g.10gb", 2, until=START + HOUR, who="root")
    lab.wait("bob", "1g.10gb")
    lab.clock.now += timedelta(minutes=1)
    with pytest.raises(NothingFree, match="1 set aside"):
        lab.admin.allocate("bob", "1g.10gb", 1, until=START + HOUR, who="root")


@pytest.mark.parametrize("until", [START, START - HOUR])
def test_time_that_is_over_is_refused(lab: Lab, until: datetime) -> None:
    with pytest.raises(RequestRefused, match="is over"):
        lab.admin.allocate("ada", "1g.10gb", 1, until=until, who="root")


def test_nothing_is_allocated_to_nobody_or_without_gpus_that_are_read(lab: Lab) -> None:
    with pytest.raises(AccountRefused):
        lab.admin.allocate("eve", "1g.10gb", 1, until=START + HOUR, who="root")
    lab.ledger.write_problem(InventoryUnavailable("The driver is not loaded."), START)
    with pytest.raises(InventoryUnavailable):
        lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root", force=True)
    assert lab.ledger.live_leases() == ()


def test_dry_run_of_an_allocation_gives_what_it_would_and_writes_nothing(lab: Lab) -> None:
    epoch = lab.ledger.epoch()
    would = lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root", dry_run=True)
    assert (would.lease, would.slots) == (None, SLICES[:1])
    with pytest.raises(LimitExceeded):
        lab.admin.allocate("ada", "1g.10gb", 3, until=START + HOUR, who="root", dry_run=True)
    assert lab.ledger.epoch() == epoch


# look and drain


def test_overview_has_every_slot_and_every_place(lab: Lab) -> None:
    lab.reserve("ada", "one", WHOLE, runs_until=START + 3 * HOUR)
    lab.wait("ada", FULL_GPU, runs_until=START + HOUR)
    lab.clock.now += timedelta(minutes=30)
    lab.wait("bob", FULL_GPU)
    seen = lab.admin.overview()
    assert [(one.slot, one.state) for one in seen.slots] == [
        *((slot, SlotState.FREE) for slot in SLICES),
        (WHOLE, SlotState.PENDING),
    ]
    assert [(one.position, one.entry.wish.user, one.expected_at) for one in seen.queue] == [
        (1, "ada", START + 3 * HOUR),
        (2, "bob", None),
    ]
    assert seen.problem is None
    hers = lab.admin.person("bob")
    assert ([one.position for one in hers.queue], hers.queue_length) == ([2], 2)


def test_time_that_somebody_waited_does_not_count_as_run_time(lab: Lab) -> None:
    lab.reserve("ada", "one", WHOLE, runs_until=START + 3 * HOUR)
    window = Reservation(
        user="ada", start=START + 4 * HOUR, end=START + 9 * HOUR, gpus=("98",), devices=(WHOLE.uuid,)
    )
    lab.ledger.write_reservations([window], START)
    lab.wait("bob", FULL_GPU, runs_until=START + 2 * HOUR)
    lab.clock.now += HOUR
    # She will run for two hours, so she cannot have it between the lease and the reservation.
    assert [one.expected_at for one in lab.admin.overview().queue] == [START + 9 * HOUR]


def test_drained_slot_is_given_to_nobody_until_it_is_undrained(lab: Lab) -> None:
    changes = lab.admin.drain("97", who="eve", reason="fan")
    assert [(change.slot, bool(change.marks)) for change in changes] == [(slot, True) for slot in SLICES]
    with pytest.raises(NothingFree):
        lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root", force=True)
    assert lab.admin.overview().slots[0].why == "drained by eve: fan"
    lab.admin.undrain("97:1", who="eve")
    made = lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root")
    assert made.slots == (SLICES[1],)


def test_slot_that_reported_an_error_is_free_again_when_it_is_undrained(lab: Lab) -> None:
    mark = Mark(slot=WHOLE.uuid, kind=MarkKind.UNHEALTHY, why="XID 79", since=START)
    lab.ledger.mark(mark)
    (change,) = lab.admin.undrain(WHOLE.uuid, who="eve")
    assert change.marks == (mark,)
    assert lab.admin.overview().slots[-1].state is SlotState.FREE
    assert lab.history()[-1][:2] == ("undrained", "eve")


# take back


@pytest.mark.docker
def test_lease_whose_container_runs_is_kept_unless_forced(
    docker_lab: Lab, client: docker.APIClient, run: Callable[..., str]
) -> None:
    lease = docker_lab.reserve("ada", "one", SLICES[0])
    container_id = run(lease, running=True)
    docker_lab.leases.activate(lease, container_id)
    with pytest.raises(RequestRefused, match="its container runs"):
        docker_lab.admin.release(lease.container_name, who="eve")
    assert docker_lab.admin.release(str(lease.id), who="eve", force=True, dry_run=True).is_over is False
    assert (docker_lab.state(lease), exists(client, container_id)) == (LeaseState.ACTIVE, True)
    done = docker_lab.admin.release(str(lease.id), who="eve", reason="the lab moves", force=True)
    assert done.is_over
    assert done.container is not None
    assert (docker_lab.state(lease), exists(client, container_id)) == (LeaseState.RELEASED, False)
    assert docker_lab.history()[-2:] == [
        ("released", "ada", "released by eve: the lab moves"),
        ("stopped", "ada", f"Your container {lease.container_name} was ended by an admin: the lab moves"),
    ]


@pytest.mark.docker
def test_lease_of_a_stopped_container_is_released_and_the_container_goes(
    docker_lab: Lab, client: docker.APIClient, run: Callable[..., str]
) -> None:
    lease = docker_lab.reserve("ada", "one", SLICES[0])
    container_id = run(lease, running=False)
    docker_lab.leases.activate(lease, container_id)
    docker_lab.ledger.hold(lease.id, START + HOUR, START, "its container exited")
    assert docker_lab.admin.release(lease.container_name, who="eve").is_over
    assert not exists(client, container_id)
    with pytest.raises(RequestRefused, match="has ended already"):
        docker_lab.admin.release(str(lease.id), who="eve")


@pytest.mark.docker
def test_server_that_is_being_started_is_released_when_forced_or_when_its_start_is_dead(
    docker_lab: Lab,
) -> None:
    docker_lab.alive.add("hub")
    first, second = (docker_lab.reserve("ada", name, owner="hub") for name in ("one", "two"))
    with pytest.raises(RequestRefused, match="just being started"):
        docker_lab.admin.release(str(first.id), who="eve")
    docker_lab.admin.release(str(first.id), who="eve", force=True)
    docker_lab.alive.remove("hub")
    docker_lab.admin.release(str(second.id), who="eve")
    assert docker_lab.ledger.live_leases() == ()


@pytest.mark.docker
def test_container_that_only_has_the_name_of_a_lease_is_left_alone(
    docker_lab: Lab, client: docker.APIClient, run: Callable[..., str]
) -> None:
    lease = docker_lab.reserve("ada", "one", SLICES[0])
    foreign = run(replace(lease, nonce="another"), running=True)
    done = docker_lab.admin.release(str(lease.id), who="eve", force=True)
    assert (done.container, docker_lab.state(lease)) == (None, LeaseState.RELEASED)
    assert exists(client, foreign)


@pytest.mark.docker
@pytest.mark.parametrize("name", ["99", "99999999999999999999", "no-such._.1001", ""])
def test_lease_that_nobody_knows_is_a_sentence(docker_lab: Lab, name: str) -> None:
    with pytest.raises(RequestRefused, match="There is no lease"):
        docker_lab.admin.release(name, who="eve")


@pytest.mark.docker
def test_allocation_outlasts_every_repair_until_its_time_is_over(docker_lab: Lab) -> None:
    made = docker_lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root")
    assert made.lease is not None
    docker_lab.clock.now = START + HOUR - timedelta(seconds=1)
    assert docker_lab.upkeep.reconcile() == ()
    assert docker_lab.state(made.lease) is LeaseState.HELD
    docker_lab.clock.now = START + HOUR
    docker_lab.upkeep.reconcile()
    assert docker_lab.state(made.lease) is LeaseState.RELEASED


@pytest.mark.docker
def test_allocation_is_taken_back_before_its_time(docker_lab: Lab) -> None:
    made = docker_lab.admin.allocate("ada", "1g.10gb", 1, until=START + HOUR, who="root")
    assert made.lease is not None
    assert docker_lab.admin.release(str(made.lease.id), who="root").is_over
    assert docker_lab.admin.overview().slots[0].state is SlotState.FREE


@pytest.mark.docker
def test_without_docker_nothing_is_released(
    ledger: Ledger, docker_host: str, tmp_path: Path, run: Callable[..., str]
) -> None:
    link = DockerLink(tmp_path / "docker.sock", docker_host)
    lab = open_lab(ledger, DockerEngine(docker_host=link.docker_host))
    lease = lab.reserve("ada", "one", SLICES[0])
    lab.leases.activate(lease, run(lease, running=True))
    epoch = ledger.epoch()
    link.cut()
    for force in (False, True):
        with pytest.raises(EngineUnavailable):
            lab.admin.release(str(lease.id), who="eve", force=force)
    assert ledger.epoch() == epoch


# the commands that ask Docker


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A Hub's settings on the private Engine, on a machine without GPUs, and its ledger."""

    shell: Shell
    config: str
    box: Path
    ledger: Ledger

    def run(self, *arguments: str) -> tuple[object, str, str]:
        return self.shell.run(*arguments, "--config", self.config)

    def reserve(self, server: str, *, owner: str = "") -> Lease:
        now = datetime.now(timezone.utc)
        draft = LeaseDraft(
            user="ada",
            server=server,
            container_name=f"{server}-{os.urandom(4).hex()}._.1001",
            group="student",
            nonce=os.urandom(16).hex(),
            created_at=now,
            deadline=now + HOUR,
            owner=owner,
        )
        return self.ledger.reserve(draft, lambda _view: ())


@pytest.fixture
def site(
    tmp_path: Path,
    docker_host: str,
    ledger: Ledger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    box = tmp_path / "empty.box"
    box.write_text("driver 570.86.10\ncuda 12080\n")
    config = write_config(
        tmp_path,
        f"c.DS01.inventory = '{box}'",
        f"c.DS01.ledger_url = 'sqlite:///{tmp_path}/ledger.sqlite'",
        f"c.DS01.docker_host = {docker_host!r}",
    )
    return Site(shell=open_shell(capsys, monkeypatch), config=config, box=box, ledger=ledger)


@pytest.mark.docker
def test_released_lease_is_said_in_words_and_in_json(
    site: Site, client: docker.APIClient, run: Callable[..., str]
) -> None:
    lease = site.reserve("one")
    container_id = run(lease, running=True)
    site.ledger.activate(lease.id, container_id, datetime.now(timezone.utc))
    name = f"Lease 1 of ada ({lease.container_name})"
    assert site.run("gpu", "release", "1") == (
        1,
        "",
        f"ds01: {name} is in use: its container runs. Stop the server in the Hub, or force its end.\n",
    )
    assert site.run("gpu", "release", "1", "--force", "--dry-run") == (
        0,
        f"{name} would be ended, and its container, running now, be removed.\n",
        "",
    )
    status, out, err = site.run("gpu", "release", lease.container_name, "--force", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "lease": 1,
        "user": "ada",
        "server": "one",
        "container": lease.container_name,
        "container_removed": True,
        "released": True,
        "dry_run": False,
    }
    assert not exists(client, container_id)


@pytest.mark.docker
def test_what_is_mended_is_a_line_each_and_nothing_is_left(
    site: Site, client: docker.APIClient, run: Callable[..., str]
) -> None:
    gone, exited = site.reserve("gone"), site.reserve("exited")
    now = datetime.now(timezone.utc)
    site.ledger.activate(gone.id, "0" * 64, now)
    site.ledger.activate(exited.id, run(exited, running=False), now)
    first, second = (f"Lease {one.id} of ada ({one.container_name}): " for one in (gone, exited))
    lines = [
        f"{first}end it, since its container is gone",
        f"{first}free its slots, since its container is gone",
        f"{second}end it, since its container exited",
        f"{second}remove its container, since its container exited",
        f"{second}free its slots, since its container exited",
    ]
    epoch = site.ledger.epoch()
    status, out, err = site.run("reconcile", "--dry-run")
    assert (status, out.splitlines(), err) == (0, ["To be done:", *lines], "")
    assert site.ledger.epoch() == epoch
    status, out, err = site.run("reconcile")
    assert (status, out.splitlines(), err) == (0, lines, "")
    assert site.ledger.live_leases() == ()
    assert site.run("reconcile") == (0, "Nothing to mend.\n", "")


@pytest.mark.docker
def test_repairs_are_json_for_scripts(site: Site) -> None:
    gone = site.reserve("gone")
    site.ledger.activate(gone.id, "0" * 64, datetime.now(timezone.utc))
    for arguments, done in ((("--dry-run",), False), ((), True)):
        status, out, err = site.run("reconcile", "--json", *arguments)
        assert (status, err) == (0, "")
        answer = json.loads(out)
        assert (answer["dry_run"], answer["problem"]) == (not done, None)
        assert answer["repairs"][0] == {
            "action": "end",
            "why": "its container is gone",
            "lease": 1,
            "user": "ada",
            "container": gone.container_name,
            "container_id": "",
            "slot": "",
            "mark": "",
            "until": None,
            "done": done,
        }
    _, said, _ = site.run("reconcile", "--help")
    assert not [
        key for key in (*answer, *answer["repairs"][0]) if key not in said.partition("With --json")[2]
    ]


@pytest.mark.docker
def test_spawn_whose_hub_has_gone_leaves_the_queue(site: Site) -> None:
    def refuse(_view: PoolView) -> tuple[Slot, ...]:
        raise NothingFree("Nothing is free.")

    now = datetime.now(timezone.utc)
    wish = GpuWish(user="ada", profile=FULL_GPU, count=1, requested_at=now)
    draft = LeaseDraft(
        user="ada",
        server="",
        container_name="jupyter._.1001",
        group="student",
        nonce="n",
        created_at=now,
        deadline=now,
        owner=OTHER_BOOT,
    )
    with pytest.raises(NothingFree):
        site.ledger.reserve(draft, refuse, wish=wish, queue_limit=1)
    assert site.run("reconcile") == (
        0,
        "Queue, ada (jupyter._.1001): give up the place, since the Hub went while it waited\n",
        "",
    )
    assert site.ledger.queue() == ()


@pytest.mark.docker
def test_gpus_that_cannot_be_read_are_status_1_and_all_else_is_mended(site: Site) -> None:
    gone = site.reserve("gone")
    site.ledger.activate(gone.id, "0" * 64, datetime.now(timezone.utc))
    site.box.unlink()
    status, out, err = site.run("reconcile")
    assert (status, len(out.splitlines())) == (1, 2)
    assert err.startswith("ds01: ")
    assert site.ledger.live_leases() == ()
    status, out, _ = site.run("reconcile", "--json")
    assert status == 1
    assert json.loads(out)["problem"] in err
    assert json.loads(out)["repairs"] == []


@pytest.mark.docker
def test_gpus_are_read_before_anything_is_mended(site: Site) -> None:
    site.box.write_text(
        "driver 570.86.10\ncuda 12080\ngpu 0 uuid=GPU-new name=A100 memory_mib=81920 cc=8.0 mig=off\n"
    )
    site.run("reconcile", "--dry-run")
    assert site.ledger.slots() == ()
    site.run("reconcile")
    assert [slot.uuid for slot in site.ledger.slots()] == ["GPU-new"]


@pytest.mark.docker
def test_without_docker_nothing_is_mended_and_it_is_said(site: Site, tmp_path: Path) -> None:
    site.reserve("gone", owner=OTHER_BOOT)
    text = Path(site.config).read_text()
    Path(site.config).write_text(text + "c.DS01.docker_host = 'unix:///nowhere/docker.sock'\n")
    status, out, err = site.run("reconcile")
    assert (status, out) == (1, "")
    assert err.startswith("ds01: Docker on the server did not do what was asked")
    assert len(site.ledger.live_leases()) == 1
