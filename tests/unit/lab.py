"""A machine with the GPUs of the demo, settings of a Hub, and a ledger: what `ds01 gpu` looks at."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ds01_spawner.adapters.box import read_box
from ds01_spawner.adapters.ledger import Ledger
from ds01_spawner.allocator import LeaseDraft, PoolView
from ds01_spawner.errors import NothingFree
from ds01_spawner.model import GpuWish, Lease, Resources, Slot
from tests.unit.shell import BOX, LIMITS, write_config

ACCOUNTS = "ada:x:1001:1001::/home/ada:/bin/bash\nkim:x:1002:1002::/home/kim:/bin/bash\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A machine with the GPUs of the box file, and its ledger; `now` is when they were read."""

    config: str
    ledger: Ledger
    now: datetime
    folder: Path

    def reserve(self, user: str, server: str, *indexes: str, runs_for: timedelta | None = None) -> Lease:
        """Lease slots to a server that is being started."""
        chosen = tuple(slot for slot in self.ledger.slots() if slot.index in indexes)
        return self.ledger.reserve(self.draft(user, server, runs_for), lambda _view: chosen)

    def run(self, user: str, server: str, *indexes: str, runs_for: timedelta | None = None) -> Lease:
        """Lease slots to a server that runs."""
        lease = self.reserve(user, server, *indexes, runs_for=runs_for)
        return self.ledger.activate(lease.id, f"{lease.id:064x}", self.now)

    def wait(self, user: str, server: str, profile: str, *, count: int = 1, priority: int = 0) -> None:
        """Put a spawn into the queue."""

        def refuse(_view: PoolView) -> tuple[Slot, ...]:
            raise NothingFree("Nothing is free.")

        wish = GpuWish(user=user, profile=profile, count=count, requested_at=self.now, priority=priority)
        with pytest.raises(NothingFree):
            self.ledger.reserve(self.draft(user, server, None), refuse, wish=wish, queue_limit=9)

    def draft(self, user: str, server: str, runs_for: timedelta | None) -> LeaseDraft:
        return LeaseDraft(
            user=user,
            server=server,
            container_name=f"{server or 'jupyter'}._.{user}",
            group="student",
            nonce=os.urandom(8).hex(),
            created_at=self.now,
            deadline=self.now + timedelta(minutes=5),
            runs_until=None if runs_for is None else self.now + runs_for,
            takes=Resources(cpus=8, memory=32 * 1024**3, pids=4096),
        )

    def history(self) -> list[tuple[str, str, str]]:
        return [(event.kind, event.who, event.why) for event in self.ledger.history()]


def make_config(folder: Path, ledger: Path) -> str:
    (folder / "passwd").write_text(ACCOUNTS)
    return write_config(
        folder,
        f"c.DS01.inventory = {BOX!r}",
        f"c.DS01.limits_file = {LIMITS!r}",
        f"c.DS01.ledger_url = 'sqlite:///{ledger}'",
        f"c.DS01.accounts = '{folder}/passwd'",
        f"c.DS01.socket_path = '{folder}/ds01.sock'",
        "c.JupyterHub.load_groups = {'researcher': {'users': ['kim']}}",
    )


def open_lab(folder: Path) -> Lab:
    """Return a lab whose GPUs were read just now."""
    ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
    now = datetime.now(timezone.utc)
    ledger.write_inventory(read_box(Path(BOX)), now)
    config = make_config(folder, folder / "ledger.sqlite")
    return Lab(config=config, ledger=ledger, now=now, folder=folder)


def hour(moment: datetime) -> str:
    local = moment.astimezone()
    same_day = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M}" if same_day else f"{local:%Y-%m-%d %H:%M}"


def rows(text: str) -> dict[str, str]:
    """Return the lines that begin with a slot's index, each as its words with one blank between two."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return {line.partition(" ")[0]: line for line in lines if re.match(r"\d(:\d)? ", line)}
