"""What an open options form asks: what is free for her, what her choices come to; each call blocks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ... import form, limits
from ...buildlog import describe_duration
from ...core.prospects import Wish
from ...errors import DS01Error
from ...model import Prospect, ServerRequest, name_gpu
from ...site import DS01
from ...spawner.starts import find_profiles, find_wished
from .answers import write_time

# So many forms are open at once whose last answers are remembered.
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Reader:
    """For whom a form is: a user as the Hub names her, her groups there, and the server that it starts."""

    user: str
    groups: tuple[str, ...]
    server: str


class Outlook:
    """Answers open forms; who asks again and again costs one short reading as long as nothing changed."""

    def __init__(self, site: DS01) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._seen: OrderedDict[object, tuple[object, str]] = OrderedDict()

    # what is free ----------------------------------------------------------------------------------

    def is_unchanged(self, reader: Reader, wishes: tuple[Wish, ...], etag: str) -> bool:
        """Whether the last answer to the same question, which had this ETag, would be the same now."""
        with self._lock:
            seen = self._seen.get((reader, wishes))
        return seen is not None and seen[1] == etag and seen[0] == self._site.core.prospects.state()

    def remember(self, reader: Reader, wishes: tuple[Wish, ...], state: object, etag: str) -> None:
        """Keep in mind that the answer had this ETag when the ledger was in that state."""
        with self._lock:
            self._seen[reader, wishes] = (state, etag)
            self._seen.move_to_end((reader, wishes))
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def availability(self, reader: Reader, wishes: tuple[Wish, ...]) -> tuple[object, dict[str, Any]]:
        """Return the ledger's state and what is free now, as the form shows it."""
        core, login = self._site.core, self._site.log_in_as(reader.user)
        # Before all else: what changes meanwhile is told at the next question.
        state = core.prospects.state()
        offer = core.offers.offer(login, reader.groups)
        prospects = core.prospects.judge(login, reader.server, wishes, offer=offer)
        return state, {
            "gpu_problem": offer.gpu_problem,
            "slots": [form.write_slots(slots) for slots in offer.availability],
            "prospects": {
                f"{wish[0]}:{wish[1]}": _write_prospect(found) for wish, found in prospects.items()
            },
        }

    # what her choices come to ----------------------------------------------------------------------

    def preview(self, reader: Reader, options: Mapping[str, object]) -> dict[str, str]:
        """Return in sentences what a start with some options would give her and cost her.

        `problem` is what would be refused, "" for nothing; the others are "" where that leaves them open.
        """
        found = dict.fromkeys(("gets", "holds", "image", "problem"), "")
        try:
            asked = find_wished(self._site, options, reader.groups).request
            found["gets"] = _describe(asked)
            found["holds"] = self._describe_holdings(reader, asked)
            found["image"] = self._describe_image(asked)
        except DS01Error as exc:
            found["problem"] = exc.message
        return found

    def write_selection(self, reader: Reader) -> dict[str, Any]:
        """Return what a person may choose for a container, and what of it is free.

        Raises:
            DS01Error: it cannot be read now.
        """
        login = self._site.log_in_as(reader.user)
        offer = self._site.core.offers.offer(login, reader.groups)
        profiles = find_profiles(self._site, reader.groups)
        return {
            "profiles": [
                {
                    "slug": one.slug,
                    "name": one.display_name,
                    "description": one.description,
                    "default": one.default,
                }
                for one in profiles
            ],
            "frameworks": [{"name": name, "versions": list(found)} for name, found in offer.frameworks],
            "slots": [form.write_slots(slots) for slots in offer.availability],
            "gpu_problem": offer.gpu_problem,
            "notices": list(offer.notices),
        }

    def write_dockerfile(self, reader: Reader, options: Mapping[str, object]) -> str:
        """Return the Dockerfile that a start with some options builds from, or would.

        Raises:
            DS01Error: it cannot be meant, or not be shown.
        """
        asked = find_wished(self._site, options, reader.groups).request
        core = self._site.core
        return core.previews.write_dockerfile(core.offers.base_of(asked), asked)

    def _describe_holdings(self, reader: Reader, asked: ServerRequest) -> str:
        core, login = self._site.core, self._site.log_in_as(reader.user)
        allowed = limits.lower(
            core.offers.limits_for(login, reader.groups),
            cpus=asked.cpus,
            memory=asked.memory,
            shm_size=asked.shm_size,
            pids_limit=asked.pids_limit,
        )
        held = core.prospects.holdings_beside(login, reader.server)
        shares = {
            slots.profile: slots.share for slots in core.offers.offer(login, reader.groups).availability
        }
        after = replace(
            held,
            containers=held.containers + 1,
            slots=held.slots + asked.gpu_count,
            gpu_share=held.gpu_share + asked.gpu_count * shares.get(asked.gpu_profile, Fraction(0)),
            takes=held.takes + allowed.per_container,
        )
        return ", ".join(form.describe_holdings(allowed, after))

    def _describe_image(self, asked: ServerRequest) -> str:
        core = self._site.core
        found = core.previews.look(core.offers.base_of(asked), asked)
        if found.is_ready:
            newer = " A newer base image is there; “Build on the newest base image” takes it."
            return f"It is there: your server starts in seconds.{newer if found.is_outdated else ''}"
        took = f", about {describe_duration(found.seconds)} by the last ones" if found.seconds else ""
        after = " No GPU is kept for you before that." if asked.gpu_count else ""
        return f"It has to be built first{took}; the next page shows how far it is.{after}"


def _write_prospect(prospect: Prospect) -> dict[str, Any]:
    return {
        "free": prospect.is_free,
        "waits": prospect.waits,
        "barred": form.is_barred(prospect),
        "reason": form.describe_prospect(prospect),
        "expected_at": write_time(prospect.expected_at),
        "instead": list(prospect.instead),
    }


def _describe(asked: ServerRequest) -> str:
    base = asked.base_image or f"{asked.framework} {asked.framework_version or '(newest)'}"
    count = len(asked.packages) + len(asked.requirements)
    parts = (
        f"{asked.gpu_count} × {name_gpu(asked.gpu_profile)}" if asked.gpu_count else "No GPU",
        base,
        f"use case {asked.use_case}" if asked.use_case != "none" else "",
        f"{count} Python package{'s' if count > 1 else ''}" if count else "",
        f"{len(asked.system_packages)} of the system" if asked.system_packages else "",
    )
    return ", ".join(part for part in parts if part)
