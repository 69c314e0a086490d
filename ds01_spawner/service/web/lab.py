"""The lab over HTTP: all GPUs as JSON, and what is done to leases and slots, each with its reason.

It guarantees that a lease is changed by its owner or by who may stop everybody's servers at the Hub, and a
slot by the latter alone; and that what is done to others has a reason, which stands in the history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...core.admin import MarkChange
from ...errors import DS01Error
from ...model import Lease
from .access import Caller
from .answers import read_more_time, read_reason
from .handlers import Handler, Refused, refuse

T = TypeVar("T")


class AllGpus(Handler):
    """`/api/gpus`: every slot and what it is now, with all that who asks may see of it."""

    async def get(self) -> None:
        """Answer with the lab; with the same ETag as long as nothing changed."""
        caller = self.require_caller()
        self.write(await self.call(self.rooms.desk.look, caller))


class Changing(Handler):
    """What all changing requests share."""

    def read(self, read: Callable[[], T]) -> T:
        """Return what the body asks for; what is wrong with it is the answer."""
        try:
            return read()
        except DS01Error as exc:
            raise refuse(exc) from exc

    async def find_lease(self, number: str) -> tuple[Lease, Caller, bool]:
        """Return a live lease that may be changed, by whom, and whether it is her own."""
        caller, desk = self.require_caller(), self.rooms.desk
        lease = await self.call(desk.find_lease, int(number))
        is_own = lease is not None and (await self.call(desk.sight, caller)).owns(lease.user)
        if not is_own and not caller.may_manage():
            # Whether there is such a lease is not hers to know, either.
            raise Refused(403, "The leases of others are for admins.", "not-allowed")
        if lease is None:
            raise Refused(404, "This lease has ended already, or never was.", "no-lease")
        return lease, caller, is_own


class LeaseStop(Changing):
    """`/api/leases/ID/stop`."""

    async def post(self, number: str) -> None:
        """End a lease and what runs in it; answers when that is done."""
        lease, caller, is_own = await self.find_lease(number)
        reason = self.read(lambda: read_reason(self.request.body, is_required=not is_own))
        is_over = await self.call_long(self.rooms.desk.stop, lease, caller, reason)
        self.write({"lease": lease.id, "released": is_over})


class LeaseExtension(Changing):
    """`/api/leases/ID/extend`."""

    async def post(self, number: str) -> None:
        """Give the server of a lease more run time."""
        lease, caller, is_own = await self.find_lease(number)
        asked = self.read(lambda: read_more_time(self.request.body, is_required=not is_own))
        await self.call(self.rooms.desk.extend_lease, lease, caller, asked)
        self.write({"lease": lease.id, "extended": True})


class _SlotChange(Changing):
    def require_manager(self) -> Caller:
        caller = self.require_caller()
        if not caller.may_manage():
            raise Refused(403, "To take GPUs out of use, and back, is for admins.", "not-allowed")
        return caller

    def answer_with(self, changes: tuple[MarkChange, ...]) -> None:
        self.write(
            {
                "slots": [
                    {
                        "id": change.slot.index,
                        "uuid": change.slot.uuid,
                        "changed": bool(change.marks),
                        "lease": None if change.lease is None else change.lease.id,
                    }
                    for change in changes
                ]
            }
        )


class SlotDrain(_SlotChange):
    """`/api/slots/NAME/drain`; a name is an index (`0:1`, or `0` for all of a GPU) or a UUID."""

    async def post(self, name: str) -> None:
        """Hand it out no more; who has it keeps it."""
        caller = self.require_manager()
        reason = self.read(lambda: read_reason(self.request.body, is_required=True))
        self.answer_with(await self.call(self.rooms.desk.drain, name, caller, reason))


class SlotUndrain(_SlotChange):
    """`/api/slots/NAME/undrain`."""

    async def post(self, name: str) -> None:
        """Hand it out again."""
        caller = self.require_manager()
        reason = self.read(lambda: read_reason(self.request.body, is_required=True))
        self.answer_with(await self.call(self.rooms.desk.undrain, name, caller, reason))
