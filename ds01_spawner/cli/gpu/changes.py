"""`ds01 gpu allocate`, `release`, `drain` and `undrain`: what an admin changes, in her name."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import LimitExceeded, NotAllowed
from ...model import Slot, name_gpu
from ..sources import Sources, open_core
from ..tables import align, print_json, show
from ..times import show_time, write_time

if TYPE_CHECKING:
    from ...core.admin import Allocation, MarkChange, Release


def allocate(options: argparse.Namespace, sources: Sources) -> None:
    """Give a user slots for a time, and print how to use them."""
    profile, count = options.wish
    try:
        made = open_core(sources).admin.allocate(
            options.user,
            profile,
            count,
            until=options.until,
            who=find_who(),
            reason=options.reason,
            hub_groups=options.group or sources.groups_of(options.user),
            force=options.force,
            dry_run=options.dry_run,
        )
    except (LimitExceeded, NotAllowed) as exc:
        raise type(exc)(
            f"{options.user} would be told: {exc}", detail="--force gives it all the same"
        ) from exc
    if options.json:
        print_json(_allocation_as_json(made, dry_run=options.dry_run))
    else:
        _print_allocation(made)


def find_who() -> str:
    """Return the login of the person who runs this: behind sudo hers, not root's."""
    behind = os.environ.get("SUDO_USER", "")
    if behind and os.geteuid() == 0:
        return behind
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def release(options: argparse.Namespace, sources: Sources) -> None:
    """End a lease, and its container with it."""
    done = open_core(sources).admin.release(
        options.name,
        who=find_who(),
        reason=options.reason,
        force=options.force,
        dry_run=options.dry_run,
    )
    if options.json:
        print_json(_release_as_json(done, dry_run=options.dry_run))
    else:
        print(_describe_release(done, dry_run=options.dry_run))


def drain(options: argparse.Namespace, sources: Sources) -> None:
    """Hand out slots no more."""
    admin = open_core(sources).admin
    done = admin.drain(options.slot, who=find_who(), reason=options.reason, dry_run=options.dry_run)
    for change in _print_or_list(done, options):
        state = "would be drained" if options.dry_run else "is drained"
        if not change.marks:
            state = "was drained before"
        lease = change.lease
        still = (
            "" if lease is None else f"; lease {lease.id} of {lease.user} ({lease.container_name}) keeps it"
        )
        print(show(f"{change.slot.index} {state}{still}."))


def undrain(options: argparse.Namespace, sources: Sources) -> None:
    """Hand out slots again."""
    done = open_core(sources).admin.undrain(options.slot, who=find_who(), dry_run=options.dry_run)
    for change in _print_or_list(done, options):
        reasons = ", ".join(
            f"{mark.kind.value}{f' ({mark.why})' if mark.why else ''}" for mark in change.marks
        )
        state = f"{'would be' if options.dry_run else 'is'} in use again, it was {reasons}"
        if not change.marks:
            state = "was not drained"
        fault = f"; it stays out of use, since {change.fault}" if change.fault else ""
        print(show(f"{change.slot.index} {state}{fault}".rstrip(".") + "."))


def _print_or_list(done: Sequence[MarkChange], options: argparse.Namespace) -> Sequence[MarkChange]:
    """Return what is to be said to a person: nothing where the answer is JSON, which is printed."""
    if not options.json:
        return done
    slots = [
        {
            "id": change.slot.index,
            "uuid": change.slot.uuid,
            "changed": bool(change.marks),
            "lease": None if change.lease is None else change.lease.id,
            "fault": change.fault,
        }
        for change in done
    ]
    print_json({"slots": slots, "dry_run": options.dry_run})
    return ()


def _allocation_as_json(made: Allocation, *, dry_run: bool) -> dict[str, object]:
    return {
        "lease": None if made.lease is None else made.lease.id,
        "user": made.user,
        "until": write_time(made.until),
        "slots": [{"id": slot.index, "uuid": slot.uuid, "profile": slot.profile} for slot in made.slots],
        "dry_run": dry_run,
    }


def _print_allocation(made: Allocation) -> None:
    until = show_time(made.until, made.at)
    names = ", ".join(slot.index for slot in made.slots)
    if made.lease is None:
        print(f"{made.user} would get {names} until {until}.")
        return
    print(f"{made.user} has {names} until {until}: lease {made.lease.id}.")
    print(align([(slot.index, name_gpu(slot.profile), slot.uuid) for slot in made.slots], indent="  "))
    devices = _device_option(made.slots)
    print(f"To use it:\n  docker run --gpus {devices} …\n  mlc-create … -g={devices}")


def _device_option(slots: Sequence[Slot]) -> str:
    """Return the value of Docker's `--gpus` as a shell takes it; several ids need quotes that Docker sees."""
    devices = ",".join(slot.uuid for slot in slots)
    return f"device={devices}" if len(slots) == 1 else f"'\"device={devices}\"'"


def _release_as_json(done: Release, *, dry_run: bool) -> dict[str, object]:
    return {
        "lease": done.lease.id,
        "user": done.lease.user,
        "server": done.lease.server,
        "container": done.lease.container_name,
        "container_removed": done.is_over and done.container is not None,
        "released": done.is_over,
        "dry_run": dry_run,
    }


def _describe_release(done: Release, *, dry_run: bool) -> str:
    lease, container = done.lease, done.container
    whose = show(f"Lease {lease.id} of {lease.user} ({lease.container_name})")
    rest = "" if container is None else f", and its container, {container.state} now, be removed"
    if dry_run:
        return f"{whose} would be ended{rest}."
    if not done.is_over:
        return f"{whose} is being ended by another process."
    return f"{whose} is ended{', its container is removed' if container is not None else ''}."
