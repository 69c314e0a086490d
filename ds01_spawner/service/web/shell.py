"""One shell in one's own container, relayed over a WebSocket; no browser gets one.

To the service go input as binary frames, and as text `{"resize": [columns, rows]}` or `{"eof": true}`. From
it come binary frames whose first byte is 1 for output, 2 for error output; at the end `{"exit": status}` as
text, and a close. A close without it says in its reason what went wrong.

It guarantees that the shell ends with the connection, that neither side's bytes pile up here when the other
does not read, and that nothing that passes through is logged.
"""

from __future__ import annotations

import asyncio
import logging
import re
import select
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ...adapters.engine import Shell
from ...errors import DS01Error, RequestRefused
from .handlers import Handler, Refused, Rooms, refuse
from .shells import Shells, ShellWish

log = logging.getLogger(__name__)

MOST_CELLS = 1000
MOST_ARGUMENTS = 256
MOST_ARGUMENT_BYTES = 16 * 1024
_MOST_BYTES = 64 * 1024
_TERM = re.compile(r"[A-Za-z0-9._+-]{1,32}", re.ASCII)
_KNOWN = frozenset({"tty", "columns", "rows", "term", "arg", "user"})
_LOOK_SECONDS = 1.0
# Of a close frame, RFC 6455: done, the service ends, what was sent is wrong, the service failed.
_DONE, _GOING_AWAY, _MISUSED, _FAILED = 1000, 1001, 1008, 1011
_MOST_REASON_BYTES = 123

_Cells = Annotated[int, Field(ge=1, le=MOST_CELLS)]


class _Control(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    resize: tuple[_Cells, _Cells] | None = None
    eof: bool = False


def read_wish(query: Mapping[str, Sequence[bytes]]) -> ShellWish:
    """Return what shell the query of a request asks for.

    Raises:
        RequestRefused: it is written otherwise than we know, or goes beyond a bound.
    """
    if unknown := sorted(query.keys() - _KNOWN):
        raise RequestRefused(
            f"A shell has no option {unknown[0][:40]!r}: it has {', '.join(sorted(_KNOWN))}."
        )
    tty, term = _read_one(query, "tty", "1"), _read_one(query, "term", "xterm")
    if tty not in ("0", "1"):
        raise RequestRefused("Write tty=1 for a terminal, and tty=0 for none.")
    if _TERM.fullmatch(term) is None:
        raise RequestRefused("The kind of your terminal, TERM, is none that can be: set TERM=xterm.")
    return ShellWish(
        tty=tty == "1",
        columns=_read_cells(query, "columns", "80"),
        rows=_read_cells(query, "rows", "24"),
        term=term,
        command=_read_command(query.get("arg", ())),
    )


def _read_command(values: Sequence[bytes]) -> tuple[str, ...]:
    if len(values) > MOST_ARGUMENTS or sum(map(len, values)) > MOST_ARGUMENT_BYTES:
        raise RequestRefused(
            f"This command is too long: it may have {MOST_ARGUMENTS} words, and {MOST_ARGUMENT_BYTES} bytes "
            "in all. Write it into a script in your workspace, and run that."
        )
    command = tuple(map(_decode, values))
    if command and not command[0]:
        raise RequestRefused("The command has no name.")
    return command


def _read_one(query: Mapping[str, Sequence[bytes]], key: str, otherwise: str) -> str:
    values = query.get(key, ())
    if len(values) > 1:
        raise RequestRefused(f"Give {key} once only.")
    return _decode(values[0]) if values else otherwise


def _decode(value: bytes) -> str:
    if b"\0" in value:
        raise RequestRefused("A command cannot have a NUL in it.")
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise RequestRefused("Write all that is sent in UTF-8.") from exc


def _read_cells(query: Mapping[str, Sequence[bytes]], key: str, otherwise: str) -> int:
    text = _read_one(query, key, otherwise)
    if re.fullmatch("[0-9]{1,4}", text, re.ASCII) is None or not 1 <= int(text) <= MOST_CELLS:
        raise RequestRefused(f"The {key} of a terminal are a number from 1 to {MOST_CELLS}.")
    return int(text)


class ShellRelay(Handler, WebSocketHandler):
    """`/api/containers/NAME/shell`."""

    _shell: Shell | None = None
    _passing: asyncio.Task[None] | None = None

    def initialize(self, rooms: Rooms, shells: Shells) -> None:  # type: ignore[override]
        """Take what is shared."""
        super().initialize(rooms)
        self._shells = shells

    @property
    def max_message_size(self) -> int:
        """How many bytes one message may have."""
        return _MOST_BYTES

    async def get(self, name: str) -> None:
        """Open a shell, and relay it until either side ends it."""
        user = self._find_owner()
        try:
            wish = read_wish(self.request.query_arguments)
            with self._shells.seat(user, self._end):
                self._shell = await self._shells.open(user, name, wish)
                await self._stay(self._shell)
        except DS01Error as exc:
            raise refuse(exc) from exc

    def _find_owner(self) -> str:
        """Return whose container is meant: nobody gets a shell in that of others, and no browser any."""
        caller = self.require_caller()
        if "Origin" in self.request.headers:
            raise Refused(403, "A shell is not for browsers: use ds01 container run.", "origin")
        if not self._asks_for_websocket():
            raise Refused(400, "A shell needs a WebSocket: use ds01 container run.", "websocket")
        user = self.get_query_argument("user", caller.name)
        if not caller.is_self(user):
            raise Refused(
                403, "A shell is for your own containers only, also if you are admin.", "not-allowed"
            )
        return user

    def _asks_for_websocket(self) -> bool:
        # Tornado asks too, but when the shell is open already.
        headers = self.request.headers
        is_upgrade = headers.get("Upgrade", "").lower() == "websocket"
        return is_upgrade and "Sec-WebSocket-Key" in headers and headers.get("Sec-WebSocket-Version") == "13"

    async def _stay(self, shell: Shell) -> None:
        try:
            # It lasts as long as the connection.
            await super().get()
        finally:
            await self._shells.run(shell.hang_up)
            if self._passing is not None:
                await self._passing

    def _end(self) -> None:
        """End the connection from here, and so the shell."""
        self.close(_GOING_AWAY, "The service of DS01 is being stopped.")
        if self._shell is not None:
            self._hanging_up = asyncio.ensure_future(self._shells.run(self._shell.hang_up))

    async def open(self) -> None:
        """Begin to pass output on."""
        assert self._shell is not None
        self._passing = asyncio.create_task(self._pass_output(self._shell))

    async def _pass_output(self, shell: Shell) -> None:
        try:
            while True:
                stream, data = await self._shells.run(shell.read)
                if not data:
                    break
                # The next piece is read when this one is on its way.
                await self.write_message(bytes([stream]) + data, binary=True)
            await self.write_message({"exit": await self._shells.run(shell.exit_status)})
            self.close(_DONE)
        except WebSocketClosedError:
            log.debug("who had a shell has gone")
        except DS01Error as exc:
            log.warning("how a shell ended is not known: %s", exc.detail or exc)
            self.close(_FAILED, _shorten(exc.message))
        finally:
            # Not even what nobody foresaw leaves somebody at a terminal that is dead.
            self.close(_FAILED)

    async def on_message(self, message: str | bytes) -> None:
        """Take input, a new size, or the end of the input; nothing more is read before it is passed on."""
        shell = self._shell
        assert shell is not None
        if isinstance(message, bytes):
            await self._wait_for(shell, lambda: shell.write(message))
            return
        try:
            control = _Control.model_validate_json(message)
        except ValidationError:
            self.close(_MISUSED, "A text is a new size or the end of the input.")
            return
        if control.resize is not None:
            columns, rows = control.resize
            await self._wait_for(shell, lambda: shell.resize(columns, rows))
        if control.eof:
            await self._wait_for(shell, shell.close_input)

    async def _wait_for(self, shell: Shell, function: Callable[[], None]) -> None:
        """Run what waits until the shell reads, but no longer than there is somebody who wrote."""
        running = asyncio.ensure_future(self._shells.run(function))
        while not (await asyncio.wait({running}, timeout=_LOOK_SECONDS))[0]:
            # Tornado does not see it while it has something left to read.
            if self._has_gone():
                await self._shells.run(shell.hang_up)
        await running

    def _has_gone(self) -> bool:
        connection = self.ws_connection
        if connection is None or connection.stream is None or connection.stream.closed():
            return True
        poll = select.poll()
        poll.register(connection.stream.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))


def _shorten(text: str) -> str:
    return text.encode()[:_MOST_REASON_BYTES].decode(errors="ignore")
