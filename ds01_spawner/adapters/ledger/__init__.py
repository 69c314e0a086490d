"""The ledger: who holds which slot, who waits, and what happened, in one database.

All SQL of this package is here and in `migrations/`. It guarantees that a write happens whole or not
at all and is on the disk when the call returns; that writers take turns, since every write
transaction first bumps the one row of `pool`; and that a slot has at most one live lease, since a
unique index says so. It may be called from many threads and many processes at once. What the
database answers with is translated to `LedgerUnavailable`: no ledger, no lease.
"""

from .leases import Ledger

__all__ = ["Ledger"]
