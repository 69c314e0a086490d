"""`ds01 reconcile`: make ledger, Docker and GPUs agree now, as the service does all the time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InventoryUnavailable
from ..model import Lease, QueueEntry, Slot
from .parsing import add_parser
from .sources import Sources, open_core
from .tables import print_json, show
from .times import write_time

if TYPE_CHECKING:
    from ..core import Core
    from ..reconcile import Repair

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_EPILOG = """\
Reads the GPUs first, but with --dry-run. What could not be done stays as it is,
and is tried again by the service.

With --json, an object:
  dry_run   true or false
  problem   null, or a sentence: the GPUs could not be read
  repairs   list of objects, in their order:
    action          end, adopt, hold, stop, remove, release, leave, mark, unmark
    why             string
    lease           number, or null
    user, container strings, empty where there is none
    container_id, slot, mark
                    strings, empty where there is none; `slot` is a UUID
    until           string, ISO 8601 in UTC, or null
    done            true or false
"""
_PHRASES = {
    "end": "end it",
    "adopt": "take up its running container",
    "hold": "hold it",
    "stop": "stop its container",
    "remove": "remove its container",
    "release": "free its slots",
    "leave": "give up the place",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A repair, what it is about, and whether it was done."""

    repair: Repair
    lease: Lease | None
    entry: QueueEntry | None
    slot: Slot | None
    is_done: bool


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add `reconcile`; `files` are the options that every command has."""
    parser = add_parser(
        commands,
        files,
        "reconcile",
        "repairs: make ledger, Docker and GPUs agree now",
        _EPILOG,
        description="Make ledger, Docker and GPUs agree now, as the service does all the time.",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=mend, needs_hub=True)


def mend(options: argparse.Namespace, sources: Sources) -> None:
    """Print what is, or would be, done, one line each.

    Raises:
        InventoryUnavailable: the GPUs could not be read; all else was done.
    """
    core = open_core(sources)
    problem = None
    try:
        if not options.dry_run:
            core.upkeep.refresh_slots()
    except InventoryUnavailable as exc:
        problem = exc
    steps = _find_steps(core, core.upkeep.plan if options.dry_run else core.upkeep.reconcile)
    if options.json:
        said = None if problem is None else str(problem)
        print_json({"dry_run": options.dry_run, "problem": said, "repairs": [_as_json(one) for one in steps]})
    elif not steps:
        print("Nothing to mend.")
    else:
        if options.dry_run:
            print("To be done:")
        print("\n".join(_describe(step, dry_run=options.dry_run) for step in steps))
    if problem is not None:
        raise problem


def _find_steps(core: Core, repair_all: Callable[[], tuple[Repair, ...]]) -> list[_Step]:
    entries = {entry.id: entry for entry in core.admin.queue()}
    repairs = repair_all()
    left = {_name(repair) for repair in core.upkeep.plan()} if repairs else set()
    known = core.admin.known_slots()
    return [
        _Step(
            repair=repair,
            lease=None if repair.lease_id is None else core.admin.lease(repair.lease_id),
            entry=None if repair.entry_id is None else entries.get(repair.entry_id),
            slot=None if repair.mark is None else known.get(repair.mark.slot),
            is_done=_name(repair) not in left,
        )
        for repair in repairs
    ]


def _name(repair: Repair) -> tuple[object, ...]:
    """Return what a repair is, but for its times: two plans of one thing differ in these."""
    mark = None if repair.mark is None else (repair.mark.slot, repair.mark.kind)
    return repair.action, repair.lease_id, repair.container_id, repair.entry_id, mark


def _as_json(step: _Step) -> dict[str, object]:
    repair = step.repair
    return {
        "action": repair.action.value,
        "why": repair.why,
        "lease": repair.lease_id,
        "user": step.lease.user if step.lease else step.entry.wish.user if step.entry else "",
        "container": step.lease.container_name
        if step.lease
        else step.entry.container_name
        if step.entry
        else "",
        "container_id": repair.container_id,
        "slot": "" if repair.mark is None else repair.mark.slot,
        "mark": "" if repair.mark is None else repair.mark.kind.value,
        "until": write_time(repair.until),
        "done": step.is_done,
    }


def _describe(step: _Step, *, dry_run: bool) -> str:
    repair = step.repair
    action = _PHRASES.get(repair.action.value, "")
    about = ""
    if repair.mark is not None:
        about = f"Slot {step.slot.index if step.slot else repair.mark.slot}"
        action = f"{'mark it' if repair.action.value == 'mark' else 'no more'} {repair.mark.kind.value}"
    elif step.entry is not None:
        about = f"Queue, {step.entry.wish.user} ({step.entry.container_name})"
    elif step.lease is not None:
        about = f"Lease {step.lease.id} of {step.lease.user} ({step.lease.container_name})"
    missed = "" if dry_run or step.is_done else " (not done; see above)"
    return show(f"{about}: {action}, since {repair.why}{missed}")
