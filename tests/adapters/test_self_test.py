"""What the self-test does to lease, slots and container, on a real ledger and a real Docker."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import docker.errors
import pytest

from ds01_spawner.adapters.engine import DockerEngine
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.core import Leases, Offers, SelfTest
from ds01_spawner.errors import DS01Error, WrongDevices
from ds01_spawner.mlc import LEASE_LABEL
from ds01_spawner.model import Account, Inventory, Lease, LeaseState, MarkKind, Slot

from ..conftest import PrivateEngine, run_tool
from ..hub.docker_link import DockerLink
from .ledgers import NOW, SECOND, SMALL, draft, take

pytestmark = pytest.mark.docker

BASE = "ds01-test/no-python:latest"
# No container of this machine shows it.
ABSENT = replace(SMALL, device_nodes=("nvidia97", "nvidia-cap9712", "nvidia-cap9713"))
# Nobody could read its nodes.
UNREAD = SECOND


@pytest.fixture(scope="module")
def docker_host(private_engine: PrivateEngine) -> str:
    tags = ["--no-python", "--tag", BASE]
    ensured = run_tool("base_image", "ensure", "--docker-host", private_engine.docker_host, *tags)
    assert ensured.returncode == 0, ensured.stderr
    return private_engine.docker_host


def find_no_account(login: str) -> Account:
    raise AssertionError(f"nobody is asked for {login}")


@dataclass(slots=True, kw_only=True)
class Lab:
    """A ledger with two slots, and a server of Ada's on some of them; `link` is the way to Docker."""

    ledger: Ledger
    link: DockerLink
    client: docker.APIClient
    leases: Leases
    engine: DockerEngine
    container: str = ""

    def start(self, *slots: Slot) -> Lease:
        lease = self.ledger.reserve(draft(server=f"test-{secrets.token_hex(4)}"), take(*slots))
        made = self.client.create_container(
            BASE, ["sleep", "600"], name=lease.container_name, labels={LEASE_LABEL: lease.nonce}
        )
        self.container = made["Id"]
        self.client.start(self.container)
        return self.ledger.note_container(lease.id, self.container, NOW)

    def check(self, lease: Lease, *, device_mode: str = "cdi") -> None:
        test = SelfTest(
            ledger=self.ledger, engine=self.engine, leases=self.leases, device_mode=lambda: device_mode
        )
        test.check(lease, self.container)

    def exists(self) -> bool:
        try:
            self.client.inspect_container(self.container)
        except docker.errors.NotFound:
            return False
        return True

    def kinds(self) -> list[str]:
        return [event.kind for event in self.ledger.history()]

    def drained(self) -> list[tuple[str, str]]:
        return [(one.slot, one.who) for one in self.ledger.marks() if one.kind is MarkKind.DRAINED]


@pytest.fixture
def lab(tmp_path: Path, docker_host: str) -> Iterator[Lab]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.write_inventory(Inventory(slots=(ABSENT, UNREAD), gpus=()), NOW)
    link = DockerLink(tmp_path / "docker.sock", docker_host)
    engine = DockerEngine(docker_host=link.docker_host)
    offers = Offers(
        ledger=ledger,
        read_catalog=lambda: None,
        read_limits=lambda: None,
        find_account=find_no_account,
        open_mounts=lambda _account, _wishes: (),
    )
    leases = Leases(
        ledger=ledger,
        engine=engine,
        offers=offers,
        owner="tests",
        is_alive=lambda _owner: True,
        clock=lambda: NOW,
    )
    client = docker.APIClient(base_url=docker_host, version="auto")
    lab = Lab(ledger=ledger, link=link, client=client, leases=leases, engine=engine)
    yield lab
    if lab.container and lab.exists():
        client.remove_container(lab.container, force=True, v=True)
    link.cut()
    client.close()
    ledger.close()


@pytest.mark.parametrize(
    ("slots", "device_mode"), [((), "cdi"), ((UNREAD,), "cdi"), ((ABSENT,), "none")], ids=str
)
def test_a_server_that_passes_is_left_alone(lab: Lab, slots: tuple[Slot, ...], device_mode: str) -> None:
    lease = lab.start(*slots)
    epoch = lab.ledger.epoch()
    lab.check(lease, device_mode=device_mode)
    assert lab.ledger.epoch() == epoch
    assert lab.exists()


def test_a_server_that_has_ended_is_not_judged(lab: Lab) -> None:
    lease = lab.start(ABSENT)
    lab.client.stop(lab.container, timeout=0)
    lab.check(lease)
    assert lab.drained() == []
    lab.client.remove_container(lab.container)
    lab.check(lease)
    assert lab.ledger.lease(lease.id) == lease


def test_a_slot_is_drained_before_it_comes_free(lab: Lab) -> None:
    lease = lab.start(ABSENT, UNREAD)
    with pytest.raises(WrongDevices, match="did not see all GPUs leased for it") as caught:
        lab.check(lease)
    assert "nvidia-cap9712" in caught.value.detail
    assert lab.drained() == [(ABSENT.uuid, "self-test")]
    assert lab.kinds() == ["pending", "created", "drained", "stopped", "ending", "released"]
    assert not lab.exists()


def test_docker_goes_away_before_the_container_is_ended(lab: Lab) -> None:
    lease = lab.start(ABSENT)
    with lab.link.hold(r"GET \S+/containers/json") as hold, ThreadPoolExecutor(1) as pool:
        checked = pool.submit(lab.check, lease)
        hold.wait_until_reached()
        lab.link.cut()
        hold.release()
        # She reads what her server saw, and not that Docker has gone.
        assert isinstance(checked.exception(), WrongDevices)
    assert lab.drained() == [(ABSENT.uuid, "self-test")]
    left = lab.ledger.lease(lease.id)
    assert left is not None
    assert (left.state, left.ending[:9]) == (LeaseState.PENDING, "self-test")
    lab.link.restore()
    with pytest.raises(DS01Error, match="has ended"):
        lab.leases.activate(lease, lab.container)
    lab.leases.settle(lease.id)
    assert lab.kinds()[-1] == "released"
    assert not lab.exists()
