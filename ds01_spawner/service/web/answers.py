"""What the service reads and writes as JSON; times are ISO 8601 in UTC, to the second."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.servers import ServerView
from ...errors import RequestRefused
from ...model import NO_GPU, LeaseState, Notice, Slot

_MOST_HOURS = 366 * 24


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    hours: Annotated[float, Field(gt=0, le=_MOST_HOURS)]


def read_extension(body: bytes) -> timedelta:
    """Return how much more time `{"hours": 2}` asks for.

    Raises:
        RequestRefused: it is written otherwise.
    """
    try:
        return timedelta(hours=_Asked.model_validate_json(body).hours)
    except ValidationError as exc:
        raise RequestRefused(
            'Send how much more time you ask for as {"hours": 2}: a number above 0, at most '
            f"{_MOST_HOURS}, and nothing else."
        ) from exc


def write_server(view: ServerView) -> dict[str, object]:
    """Return a server for JSON; the same as long as nothing about it changed."""
    lease, left = view.lease, view.time_left
    is_held = lease.state is LeaseState.HELD
    return {
        "id": lease.id,
        "user": lease.user,
        "server": lease.server,
        "name": view.name,
        "container": lease.container_name,
        "state": lease.state.value,
        "ending": lease.ending,
        "since": write_time(lease.created_at),
        "held_until": write_time(lease.deadline) if is_held else None,
        "profile": view.slots[0].profile if view.slots else NO_GPU,
        "slots": [_write_slot(slot) for slot in view.slots],
        "time_left": {
            "run_until": write_time(left.run_until),
            "idle_since": write_time(left.idle_since),
            "idle_until": write_time(left.idle_until),
            "warnings": [
                _write_notice(notice, sentence)
                for notice, sentence in zip(left.warnings, view.warnings, strict=True)
            ],
        },
        "may_extend": view.may_extend,
    }


def _write_slot(slot: Slot) -> dict[str, object]:
    return {"id": slot.index, "uuid": slot.uuid, "profile": slot.profile}


def _write_notice(notice: Notice, sentence: str) -> dict[str, object]:
    return {
        "cause": notice.cause.value,
        "at": write_time(notice.at),
        "ends_at": write_time(notice.ends_at),
        "message": sentence,
    }


def write_time(moment: datetime | None) -> str | None:
    """Return a moment as JSON has it."""
    return None if moment is None else moment.astimezone(timezone.utc).isoformat(timespec="seconds")
