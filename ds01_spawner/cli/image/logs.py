"""`ds01 image log`: the builds that were tried, and what one of them said."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ...buildlog import describe_duration
from ...errors import RequestRefused
from ...model import BuildOutcome, BuildRecord
from ..sources import Sources, open_core
from ..tables import Cell, print_json, print_table, show
from ..times import write_time
from .parts import say
from .site import short_name

_HEADINGS = ("TIME", "IMAGE", "WHO", "TOOK", "OUTCOME", "CONTENTS", "WHY")
_STYLES = {BuildOutcome.BUILT: "green", BuildOutcome.FAILED: "red", BuildOutcome.GIVEN_UP: "yellow"}


def show_log(options: argparse.Namespace, sources: Sources) -> None:
    """Print the log of the newest build of an image, or, where none is named, which builds there were."""
    records = [
        record
        for record in open_core(sources).image_store.builds(options.name)
        if not options.failed or record.outcome is BuildOutcome.FAILED
    ]
    if options.name:
        _print_log(options, sources, records)
        return
    shown = records[: options.limit][::-1]
    if options.json:
        print_json([_as_json(record) for record in shown])
    elif shown:
        print_table(_HEADINGS, [("", [_draw(record) for record in shown])])
    else:
        say(f"No build {'failed' if options.failed else 'was tried'} of late.")


def _print_log(options: argparse.Namespace, sources: Sources, records: Sequence[BuildRecord]) -> None:
    if not records:
        raise RequestRefused(f"No build of {options.name!r} failed of late. Leave out --failed.")
    record = records[0]
    assert sources.site is not None
    text = sources.site.build_logs.read(record.log) if record.log else ""
    if options.json:
        print_json(_as_json(record) | {"text": text})
        return
    ended = f"{record.ended_at.astimezone():%Y-%m-%d %H:%M}"
    why = f": {record.why}" if record.why else ""
    print(
        show(f"{record.tag} for {record.user}, {ended}, {record.outcome.value}{why}"),
        file=sys.stderr,
    )
    if not text:
        raise RequestRefused("The log of this build is not kept, or not any more.")
    print("\n".join(show(line.expandtabs()) for line in text.splitlines()))


def _as_json(record: BuildRecord) -> dict[str, object]:
    return {
        "image": record.tag,
        "user": record.user,
        "base": record.base,
        "contents": record.summary,
        "started_at": write_time(record.started_at),
        "seconds": round(record.duration.total_seconds(), 3),
        "outcome": record.outcome.value,
        "steps": record.steps,
        "reused": record.reused,
        "why": record.why,
        "log": record.log,
    }


def _draw(record: BuildRecord) -> Sequence[Cell]:
    return (
        f"{record.started_at.astimezone():%Y-%m-%d %H:%M}",
        short_name(record.tag),
        record.user,
        describe_duration(record.duration.total_seconds()),
        (record.outcome.value, _STYLES[record.outcome]),
        record.summary,
        record.why,
    )
