"""What is asked at the socket alone: one's own containers, from their start to their end.

Everything is about who asks, or for an admin about `?user=`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from ...errors import DS01Error, HubUnavailable, RequestRefused
from .access import Caller
from .answers import read_options, write_container
from .containers import Containers
from .handlers import Handler, Refused, Rooms, refuse
from .outlook import Reader

_MOST_LINES = 10_000
_STREAMS_AT_ONCE = 512


class ContainerHandler(Handler):
    """Knows whose containers are meant."""

    def initialize(self, rooms: Rooms, containers: Containers) -> None:  # type: ignore[override]
        """Take what is shared."""
        super().initialize(rooms)
        self.containers = containers

    def require_user(self, *, changes: bool = False) -> str:
        """Return whose containers are meant; an admin that is no user of the Hub has to say it."""
        user = self.find_user(Caller.may_change if changes else Caller.may_see)
        if user is None:
            raise Refused(400, "Name whose containers are meant: --user NAME.", "refused")
        return user

    def require_reader(self, server: str = "") -> Reader:
        """Return for whom something is looked up, with her groups if they are the caller's own."""
        user, caller = self.require_user(), self.require_caller()
        return Reader(user, caller.groups if caller.is_self(user) else (), server)

    def read_options(self) -> Mapping[str, object] | None:
        """Return the options that the body has, None for none."""
        try:
            return read_options(self.request.body)
        except DS01Error as exc:
            raise refuse(exc) from exc


class Status(ContainerHandler):
    """`/api/status`: what a shell shows at login; asks the ledger alone."""

    async def get(self) -> None:
        """Answer with servers, time left and place in the queue."""
        user = self.find_user(Caller.may_see)
        self.write(await self.call(self.rooms.desk.write_status, user))


class Limits(ContainerHandler):
    """`/api/limits`: what she may have and holds."""

    needs_groups = True

    async def get(self) -> None:
        """Answer with limits and holdings."""
        reader = self.require_reader()
        self.write(await self.call(self.rooms.desk.write_limits, reader.user, reader.groups))


class Selection(ContainerHandler):
    """`/api/selection`: what a container can be made of: profiles, frameworks, and what is free."""

    needs_groups = True

    async def get(self) -> None:
        """Answer with what she may choose."""
        reader = self.require_reader()
        found = await self.call(self.rooms.outlook.write_selection, reader)
        self.write({**found, "images": await self.call(self.containers.list_images, reader.user)})


class Check(ContainerHandler):
    """`/api/check`: what a start with some options would give and cost, and change nothing."""

    needs_groups = True

    async def post(self) -> None:
        """Answer with sentences."""
        reader = self.require_reader(self.get_query_argument("server", "")[:200])
        options = self.read_options() or {}
        self.write(await self.call(self.rooms.outlook.preview, reader, options))


class AllContainers(ContainerHandler):
    """`/api/containers`."""

    async def get(self) -> None:
        """Answer with all of hers, also those of AIME's tools and those that are stopped."""
        found, problems = await self.call(self.containers.list, self.require_user())
        self.write({"containers": [write_container(one) for one in found], "problems": list(problems)})


class OneContainer(ContainerHandler):
    """`/api/containers/NAME`."""

    async def get(self, name: str) -> None:
        """Answer with one of hers."""
        self.write(write_container(await self.call(self.containers.find, self.require_user(), name)))


class Start(ContainerHandler):
    """`/api/containers/NAME/start`."""

    async def post(self, name: str) -> None:
        """Make a container by `{"options": {…}}`, or start one as it was the last time."""
        user, options = self.require_user(changes=True), self.read_options()
        begun = await self.call_long(self.containers.start, user, name, options)
        self.set_status(202 if begun else 200)
        self.write({"name": name, "started": begun})


class Progress(ContainerHandler):
    """`/api/containers/NAME/progress`: the Hub's own events about a start, as they come."""

    async def get(self, name: str) -> None:
        """Pass the Hub's stream on until it ends, or until nobody listens."""
        url, headers = await self.call(self.containers.locate_progress, self.require_user(), name)
        self.set_header("Content-Type", "text/event-stream")
        client = SimpleAsyncHTTPClient(force_instance=True, max_clients=_STREAMS_AT_ONCE)
        request = HTTPRequest(
            url,
            headers=headers,
            streaming_callback=self._pass_on,
            request_timeout=0,
            decompress_response=False,
        )
        try:
            await client.fetch(request)
        except StreamClosedError:
            # Either end has gone.
            return
        except (HTTPClientError, OSError) as exc:
            if not self._headers_written:
                raise refuse(
                    HubUnavailable("The Hub does not tell how the start goes.", detail=str(exc))
                ) from exc
        finally:
            client.close()

    async def _pass_on(self, chunk: bytes) -> None:
        self.write(chunk)
        await self.flush()


class Adoption(ContainerHandler):
    """`/api/containers/NAME/adopt`."""

    async def post(self, name: str) -> None:
        """Take one of AIME's containers over; answers with the image to make a server from."""
        user, caller = self.require_user(changes=True), self.require_caller()
        self.write({"image": await self.call_long(self.containers.adopt, user, name, caller)})


class GivingBack(ContainerHandler):
    """`/api/containers/NAME/give-back`."""

    async def post(self, name: str) -> None:
        """Undo the above, where no server came of it."""
        user, caller = self.require_user(changes=True), self.require_caller()
        await self.call_long(self.containers.give_back, user, name, caller)
        self.write({"name": name, "given_back": True})


class Stop(ContainerHandler):
    """`/api/containers/NAME/stop`."""

    async def post(self, name: str) -> None:
        """Stop it, as the Hub's own page does."""
        stopped = await self.call_long(self.containers.stop, self.require_user(changes=True), name)
        self.write({"name": name, "stopped": stopped})


class Removal(ContainerHandler):
    """`/api/containers/NAME/remove`."""

    async def post(self, name: str) -> None:
        """Stop it and forget its server."""
        removed = await self.call_long(self.containers.remove, self.require_user(changes=True), name)
        self.write({"name": name, "removed": removed})


class Log(ContainerHandler):
    """`/api/containers/NAME/log?lines=100`."""

    async def get(self, name: str) -> None:
        """Answer with the last lines that its server printed."""
        text = self.get_query_argument("lines", "100")
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST_LINES:
            raise refuse(RequestRefused(f"Ask for 1 to {_MOST_LINES} lines."))
        user = self.require_user()
        self.write({"log": await self.call_long(self.containers.read_log, user, name, int(text))})


class Use(ContainerHandler):
    """`/api/containers/NAME/use`."""

    async def get(self, name: str) -> None:
        """Answer with what it takes now; looked at for a second."""
        use = await self.call_long(self.containers.measure, self.require_user(), name)
        self.write(
            {
                "name": name,
                "cpu_percent": round(use.cpu_percent, 1),
                "memory_bytes": use.memory_bytes,
                "memory_limit": use.memory_limit,
                "processes": use.processes,
            }
        )
