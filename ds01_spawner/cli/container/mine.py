"""`ds01 container list`, `stats`, `logs`, `stop`, `remove` and `cleanup`."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from typing import Any

from ...adapters.local_service import name_path
from ..questions import YesNo, open_terminal
from ..service import make_query, open_service
from ..tables import Cell, print_json, print_table, show, show_size
from ..times import show_time

_HEADINGS = ("NAME", "STATE", "GPU", "FRAMEWORK", "UNTIL", "MADE BY", "NOTE")
_USE_HEADINGS = ("NAME", "CPU", "MEMORY", "PROCESSES")
_STYLES = {"running": "green", "starting": "yellow", "stopping": "yellow", "held": "yellow", "stopped": "dim"}


def list_containers(options: argparse.Namespace) -> None:
    """Print one's own containers, by whatever they were made."""
    found = open_service(options).get("containers", make_query(options))
    shown = [one for one in found["containers"] if options.all or one["state"] != "stopped"]
    if options.json:
        print_json({**found, "containers": shown})
        return
    _tell(found["problems"])
    if shown:
        now = datetime.now(timezone.utc)
        print_table(_HEADINGS, [("", [_draw(one, now) for one in shown])])
    elif found["containers"]:
        _tell(["None of your containers runs. See them with --all."])
    else:
        _tell(["You have no containers. Make one with: ds01 container create"])


def _draw(one: dict[str, Any], now: datetime) -> list[Cell]:
    lease = one["lease"]
    slots = ", ".join(f"{slot['id']} ({slot['profile']})" for slot in lease["slots"]) if lease else ""
    left = lease["time_left"] if lease else {}
    ends = [lease["held_until"] if lease else None, left.get("run_until"), left.get("idle_until")]
    until = min((datetime.fromisoformat(end) for end in ends if end), default=None)
    warnings = left.get("warnings") or []
    return [
        one["name"],
        (one["state"], _STYLES[one["state"]]),
        slots,
        one["image"] or one["framework"],
        show_time(until, now),
        "AIME" if one["made_by"] == "aime" else "",
        warnings[0]["message"] if warnings else "",
    ]


def show_use(options: argparse.Namespace) -> None:
    """Print what one container takes now, or all that run."""
    service, query = open_service(options), make_query(options)
    names = [options.name] if options.name else _list_running(service.get("containers", query))
    found = [service.get(name_path(name, "use"), query) for name in names]
    if options.json:
        print_json(found)
    elif found:
        print_table(_USE_HEADINGS, [("", [_draw_use(one) for one in found])])
    else:
        _tell(["None of your containers runs."])


def _list_running(found: dict[str, Any]) -> list[str]:
    return [one["name"] for one in found["containers"] if one["state"] == "running" and one["lease"]]


def _draw_use(one: dict[str, Any]) -> list[Cell]:
    limit = one["memory_limit"]
    memory = show_size(one["memory_bytes"]) + (f" of {show_size(limit)}" if limit else "")
    return [one["name"], f"{one['cpu_percent']:.0f} %", memory, str(one["processes"])]


def show_log(options: argparse.Namespace) -> None:
    """Print the last lines that a container's server printed."""
    query = {**make_query(options), "lines": str(options.lines)}
    found = open_service(options).get(name_path(options.name, "log"), query)
    if options.json:
        print_json(found)
    elif sys.stdout.isatty():
        print("\n".join(show(line.replace("\t", "    ")) for line in found["log"].splitlines()))
    else:
        print(found["log"])


def stop_container(options: argparse.Namespace) -> None:
    """Stop a container as the browser does."""
    found = open_service(options).post(name_path(options.name, "stop"), make_query(options))
    if options.json:
        print_json(found)
    elif found["stopped"]:
        print(
            f"{options.name} is stopped, and its GPUs are free again. /workspace and your home are kept. "
            f"Start it again: ds01 container run {options.name}"
        )
    else:
        _tell([f"{options.name} does not run."])


def remove_container(options: argparse.Namespace) -> None:
    """Stop a container and forget it, after asking."""
    service, query = open_service(options), make_query(options)
    one = service.get(name_path(options.name), query)
    if not options.yes and one["state"] != "stopped":
        prompt = f"{options.name} is {one['state']}. End it with all programs in it?"
        if not open_terminal().ask(YesNo(prompt=prompt, default=False)):
            _tell(["Nothing was changed."])
            return
    found = service.post(name_path(options.name, "remove"), query)
    if options.json:
        print_json(found)
    else:
        print(f"{options.name} is removed. /workspace and your home are kept.")


def clean_up(options: argparse.Namespace) -> None:
    """Forget all stopped containers of one's own, after asking; those that AIME's tools made stay."""
    service, query = open_service(options), make_query(options)
    found = service.get("containers", query)
    # The default server has an empty name, and cannot be forgotten.
    names = [one["name"] for one in found["containers"] if one["state"] == "stopped" and one["server"]]
    if not options.json:
        _tell(found["problems"])
    if names and not options.yes:
        prompt = f"Remove {', '.join(names)}? /workspace and your home are kept."
        if not open_terminal().ask(YesNo(prompt=prompt, default=False)):
            _tell(["Nothing was changed."])
            return
    for name in names:
        service.post(name_path(name, "remove"), query)
        if not options.json:
            print(f"{name} is removed.")
    if options.json:
        print_json({"removed": names})
    elif not names:
        _tell(["None of your containers is stopped."])


def _tell(sentences: list[str]) -> None:
    for sentence in sentences:
        print(f"ds01: {sentence}", file=sys.stderr)
