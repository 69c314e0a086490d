"""`ds01 status`: one's own servers in a few lines, for a shell's login.

At a login it is silent and does no harm where the service is away: that is told only to who asks for more.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..adapters.local_service import LocalService
from ..errors import ServiceUnavailable
from .parsing import add_parser
from .service import add_socket, add_user, find_socket, make_query

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# So long a login waits for a service that hangs.
_LOGIN_SECONDS = 1.0
_EPILOG = """\
In a login shell: put `ds01 status` into ~/.profile, or an admin into /etc/profile.d.
It prints nothing where you have no server, or where the service is away.

With --json, an object; times are ISO 8601 in UTC, null where there is none:
  user      string, null for root
  servers   list of objects, as the service has them (docs/service.md)
  queue     list of objects: name, profile, count, position, length, expected_at
and with --all also:
  limits    object: group, containers and slots (used and allowed), holdings
            (list of sentences)
  slots     list of objects: profile, free, total, label
  problem   string, why no GPU can be had at all, or empty
"""


def add_commands(commands: Commands, files: argparse.ArgumentParser) -> None:
    """Add `status`."""
    about = "your servers, how long they have, and with --all what is free"
    parser = add_parser(commands, files, "status", about, _EPILOG)
    parser.add_argument(
        "--all", action="store_true", help="also your limits and what is free; says what fails"
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    add_socket(parser)
    add_user(parser)
    parser.set_defaults(run=show_status, asks_service=True)


def show_status(options: argparse.Namespace) -> None:
    """Print one's own servers; nothing is printed where nobody answers, unless more was asked for."""
    query = make_query(options)
    try:
        service = LocalService(find_socket(options), seconds=_LOGIN_SECONDS)
        found = service.get("status", query)
    except ServiceUnavailable:
        if options.all or options.json:
            raise
        return
    if options.all and found["user"] is not None:
        patient = LocalService(find_socket(options))
        selection = patient.get("selection", query)
        found["limits"] = patient.get("limits", query)
        found["slots"], found["problem"] = selection["slots"], selection["gpu_problem"]
    if options.json:
        from .tables import print_json

        print_json(found)
        return
    for line in _describe(found, datetime.now(timezone.utc)):
        print(line)


def _describe(found: dict[str, Any], now: datetime) -> list[str]:
    lines = [_describe_server(one, now) for one in found["servers"]]
    lines += [
        f"{one['name']} waits for {one['count']} × {one['profile']}: place {one['position']} of "
        f"{one['length']}{_show(one['expected_at'], now, ', expected at {}')}"
        for one in found["queue"]
    ]
    if "limits" in found:
        lines += [f"You (group {found['limits']['group']}): {', '.join(found['limits']['holdings'])}"]
        lines += [found["problem"]] if found["problem"] else []
        lines += [one["label"] for one in found["slots"]]
    return [_printable(line) for line in lines]


def _describe_server(one: dict[str, Any], now: datetime) -> str:
    left = one["time_left"]
    parts = [
        one["state"] if one["state"] != "active" else "running",
        ", ".join(f"GPU {slot['id']} ({slot['profile']})" for slot in one["slots"]) or "no GPU",
        _show(one["held_until"], now, "held until {}"),
        _show(left["run_until"], now, "runs until {}"),
        _show(left["idle_until"], now, "idle, stops at {}"),
    ]
    return f"{one['name']}: {', '.join(part for part in parts if part)}"


def _show(text: str | None, now: datetime, words: str) -> str:
    """Return a moment in words, in local time; "" for none."""
    if text is None:
        return ""
    moment = datetime.fromisoformat(text)
    here = moment.astimezone()
    is_near = abs((moment - now).total_seconds()) < 12 * 3600
    return words.format(f"{here:%H:%M}" if is_near else f"{here:%a %d %b %H:%M}")


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
