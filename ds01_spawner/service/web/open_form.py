"""The addresses that an open options form asks, so that it need not be loaded anew."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ... import form
from ...core.prospects import Wish
from ...model import MOST_GPUS
from .access import Caller
from .handlers import Handler, Refused
from .outlook import Reader

_WISH = re.compile(r"([a-z0-9.+-]{1,40}):([0-9]{1,3})")
_MOST_WISHES = 100


class FormHandler(Handler):
    """Knows for whom the form is."""

    needs_groups = True

    def find_reader(self) -> Reader:
        """Return whose form it is: one's own, or for an admin that of `?user=`."""
        user, caller = self.find_user(Caller.may_see), self.require_caller()
        if user is None:
            raise Refused(400, "Name whose form it is: ?user=NAME.", "refused")
        groups = caller.groups if caller.is_self(user) else ()
        return Reader(user, groups, self.get_query_argument("server", "")[:200])

    def read_fields(self) -> Mapping[str, object]:
        """Return the options that the fields of the form ask for as they are now."""
        return form.parse(
            {
                name: [value.decode(errors="replace") for value in values]
                for name, values in self.request.body_arguments.items()
            }
        )


class Availability(FormHandler):
    """`/api/availability?want=PROFILE:COUNT&…`: what is free, and what starts with those would meet."""

    async def get(self) -> None:
        """Answer; with 304, at the cost of a short reading, to who knows it already."""
        reader, wishes = self.find_reader(), tuple(sorted({self._read_wish(x) for x in self._list_wants()}))
        known = self.request.headers.get("If-None-Match", "")
        is_known = await self.call(self.rooms.outlook.is_unchanged, reader, wishes, known)
        if is_known:
            self.set_header("Etag", known)
            self.set_status(304)
            return
        state, found = await self.call(self.rooms.outlook.availability, reader, wishes)
        self.write(found)
        etag = self.compute_etag()
        if etag is not None:
            self.rooms.outlook.remember(reader, wishes, state, etag)

    def _list_wants(self) -> list[str]:
        wants = self.get_query_arguments("want")
        if len(wants) > _MOST_WISHES:
            raise Refused(400, f"Ask for {_MOST_WISHES} at most.", "refused")
        return wants

    def _read_wish(self, text: str) -> Wish:
        found = _WISH.fullmatch(text)
        if found is None or int(found[2]) > MOST_GPUS:
            raise Refused(
                400, "Write what you want as PROFILE:COUNT, such as 1g.10gb:1 or none:0.", "refused"
            )
        return found[1], int(found[2])


class Preview(FormHandler):
    """`/api/preview`: what a start with the posted fields of the form would give and cost."""

    async def post(self) -> None:
        """Answer with sentences."""
        self.write(await self.call(self.rooms.outlook.preview, self.find_reader(), self.read_fields()))


class Dockerfile(FormHandler):
    """`/api/dockerfile`: from what a start with the posted fields of the form would build its image."""

    async def post(self) -> None:
        """Answer `{"dockerfile": text}`."""
        text = await self.call(self.rooms.outlook.write_dockerfile, self.find_reader(), self.read_fields())
        self.write({"dockerfile": text})
