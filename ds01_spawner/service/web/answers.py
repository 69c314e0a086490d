"""What the service reads and writes as JSON; times are ISO 8601 in UTC, to the second."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.servers import ServerView
from ...errors import RequestRefused
from ...model import NO_GPU, LeaseState, Notice, Slot
from .containers import ContainerView

_MOST_HOURS = 366 * 24
_LONGEST_REASON = 200
# Controls, and what ends a line or a paragraph; and halves of characters, which nothing can store.
_NO_LINE = ("Cc", "Cs", "Zl", "Zp")


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Asked(_Body):
    hours: Annotated[float, Field(gt=0, le=_MOST_HOURS)]


class _Reasoned(_Body):
    reason: str = ""


class _Start(_Body):
    options: dict[str, Any]


class _AskedWithReason(_Asked, _Reasoned):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreTime:
    """How much more time is asked for, and why."""

    time: timedelta
    reason: str


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


def read_options(body: bytes) -> dict[str, Any] | None:
    """Return the user options that `{"options": {…}}` has, None for no body: what they mean is checked later.

    Raises:
        RequestRefused: it is written otherwise.
    """
    if not body:
        return None
    try:
        return _Start.model_validate_json(body).options
    except ValidationError as exc:
        raise RequestRefused(
            'Send what the container shall be as {"options": {"profile": "small"}}, or nothing at all.'
        ) from exc


def read_reason(body: bytes, *, is_required: bool) -> str:
    """Return why something is done, as `{"reason": "it is broken"}` says it, "" for no reason.

    Raises:
        RequestRefused: it is written otherwise, or missing and required.
    """
    try:
        # Nothing at all is nothing to say.
        reason = _Reasoned.model_validate_json(body or b"{}").reason
    except ValidationError as exc:
        raise RequestRefused('Send the reason as {"reason": "it is broken"}, and nothing else.') from exc
    return _check_reason(reason, is_required=is_required)


def read_more_time(body: bytes, *, is_required: bool) -> MoreTime:
    """Return what `{"hours": 2, "reason": "a paper"}` asks for; the reason may have to be given.

    Raises:
        RequestRefused: it is written otherwise, or the reason is missing and required.
    """
    try:
        asked = _AskedWithReason.model_validate_json(body)
    except ValidationError as exc:
        raise RequestRefused(
            'Send how much more time you ask for as {"hours": 2, "reason": "a paper"}: a number above 0, at '
            f"most {_MOST_HOURS}, and nothing else."
        ) from exc
    reason = _check_reason(asked.reason, is_required=is_required)
    return MoreTime(time=timedelta(hours=asked.hours), reason=reason)


def _check_reason(text: str, *, is_required: bool) -> str:
    reason = text.strip()
    if is_required and not reason:
        raise RequestRefused("Say why: the person concerned, and the other admins, read the reason.")
    is_line = not any(unicodedata.category(character) in _NO_LINE for character in reason)
    if len(reason) > _LONGEST_REASON or not is_line:
        raise RequestRefused(f"Give the reason in one line, of {_LONGEST_REASON} characters at most.")
    return reason


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
            "warnings": write_warnings(view),
        },
        "may_extend": view.may_extend,
    }


def write_container(one: ContainerView) -> dict[str, object]:
    """Return a container for JSON; `lease` is that of `write_server`, null where there is none."""
    return {
        "name": one.name,
        "container": one.container,
        "state": one.state,
        "made_by": "aime" if one.server is None else "ds01",
        "server": one.server,
        "framework": one.framework,
        "image": one.image,
        "lease": None if one.view is None else write_server(one.view),
    }


def write_warnings(view: ServerView) -> list[dict[str, object]]:
    """Return the warnings that hold, for JSON."""
    notices = zip(view.time_left.warnings, view.warnings, strict=True)
    return [_write_notice(notice, sentence) for notice, sentence in notices]


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
