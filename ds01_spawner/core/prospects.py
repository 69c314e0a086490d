"""What starts would meet now, asked of the very rules that decide them; nothing is reserved or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from .. import allocator
from ..allocator import PoolView
from ..errors import DS01Error, NothingFree
from ..model import NO_GPU, Availability, GpuWish, Holdings, Limits, Prospect
from .leases import Leases, make_wish
from .offers import Offer, sum_up

if TYPE_CHECKING:
    from ..adapters.ledger import Ledger

Wish = tuple[str, int]
"""A GPU profile, and how many of its slots."""

# Whatever another one would be called, it has no place in the queue yet.
_NEW = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    user: str
    limits: Limits
    view: PoolView
    availability: tuple[Availability, ...]


class Prospects:
    """Judges what somebody may wish for; `queues` is whether a start may wait for a slot at all."""

    def __init__(self, *, ledger: Ledger, leases: Leases, queues: bool) -> None:
        self._ledger = ledger
        self._leases = leases
        self._queues = queues

    def state(self) -> tuple[int, int]:
        """Return a value that is another one whenever answers may be other ones: a short reading.

        It changes with each change of the ledger, and with each minute.
        """
        return self._ledger.epoch(), int(self._leases.now().timestamp()) // 60

    def judge(
        self,
        user: str,
        server: str,
        wishes: Iterable[Wish],
        *,
        offer: Offer,
    ) -> Mapping[Wish, Prospect]:
        """Return what each wish would meet, as a start of `server`; what that still holds does not count.

        `offer` is what there is for the same person now.

        Raises:
            LedgerUnavailable, LimitsBroken: nothing can be said.
        """
        person = _Person(
            user=user,
            limits=offer.limits,
            view=self._find_view(user, server, offer),
            availability=offer.availability,
        )
        known: dict[Wish, Prospect] = {}

        def judge_one(wish: Wish) -> Prospect:
            if wish not in known:
                known[wish] = self._judge(person, wish, offer.gpu_problem)
            return known[wish]

        return {wish: self._with_instead(judge_one(wish), person, judge_one) for wish in set(wishes)}

    def holdings_beside(self, user: str, server: str) -> Holdings:
        """Return what her other servers hold."""
        return sum_up([lease for lease in self._ledger.live_leases(user) if lease.server != server])

    def _find_view(self, user: str, server: str, offer: Offer) -> PoolView:
        view, leases = offer.view or self._ledger.view(user), self._ledger.live_leases(user)
        own = {slot for lease in leases if lease.server == server for slot in lease.slots}
        others = sum_up([lease for lease in leases if lease.server != server])
        return replace(view, taken=view.taken - own, holdings=others)

    def _judge(self, person: _Person, wish: Wish, problem: str) -> Prospect:
        profile, count = wish
        if count and problem:
            return Prospect(profile=profile, count=count, why=problem)
        now = self._leases.now()
        gpus = make_wish(person.user, profile, count, person.limits, requested_at=now, now=now)
        try:
            self._leases.decider(gpus, person.limits, _NEW)(person.view)
        except NothingFree as exc:
            return Prospect(
                profile=profile,
                count=count,
                why=str(exc),
                is_taken=exc.can_wait,
                waits=self._queues and exc.can_wait,
                expected_at=self._expect(person, gpus) if exc.can_wait else None,
            )
        except DS01Error as exc:
            return Prospect(profile=profile, count=count, why=str(exc))
        return Prospect(profile=profile, count=count)

    def _expect(self, person: _Person, wish: GpuWish) -> datetime | None:
        return allocator.expect(person.view, wish, self._leases.now(), _NEW)

    def _with_instead(
        self, prospect: Prospect, person: _Person, judge: Callable[[Wish], Prospect]
    ) -> Prospect:
        if prospect.is_free:
            return prospect
        shares = {one.profile: one.share for one in person.availability}
        wanted = shares.get(prospect.profile)
        nearest = sorted(
            (profile for profile in shares if profile != prospect.profile),
            key=lambda profile: (abs(shares[profile] - wanted) if wanted is not None else 0, profile),
        )
        wishes = [(profile, 1) for profile in nearest] + ([(NO_GPU, 0)] if prospect.count else [])
        return replace(prospect, instead=tuple(wish[0] for wish in wishes if judge(wish).is_free))
