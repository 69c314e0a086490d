"""Who gets which slots: choice, reservations, the queue, and what each slot is at one moment.

Pure: slots, leases and whatever bars a slot come in as values, a choice goes out. It guarantees that a
slot which is taken, marked, faulty or reserved for somebody else is never given away, and that equal
values give equal choices. That two people never get one slot is the ledger's part: it calls this inside
the transaction that inserts the lease.
"""

from .choice import LEAST_ALLOCATED, PACK, availability, choose, normalise_strategy, slot_order
from .forecast import expect
from .pool import LeaseDraft, PoolView
from .queue import barred_for, decide, place
from .reservations import next_reservation, resolve_reservations
from .status import SlotStatus, slot_states

__all__ = [
    "LEAST_ALLOCATED",
    "PACK",
    "LeaseDraft",
    "PoolView",
    "SlotStatus",
    "availability",
    "barred_for",
    "choose",
    "decide",
    "expect",
    "next_reservation",
    "normalise_strategy",
    "place",
    "resolve_reservations",
    "slot_order",
    "slot_states",
]
