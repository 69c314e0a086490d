"""The connection of a shell to the service: a WebSocket over its Unix socket, which never blocks once open.

The blocking client of `websockets` holds a lock while it sends, and receives nothing then: two sides that
both wait until the other one reads would wait for ever. So only its protocol is used here.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConnectionLost, DS01Error, ServiceUnavailable
from .local_service import AWAY, read_refusal

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.http11 import Response

_LOST = (
    "The connection to your container was lost: the service of DS01 ended, or was started anew. Your "
    "container runs on; open the shell again in a minute."
)
# To open a shell takes Docker some seconds on a machine that is busy.
_OPEN_SECONDS = 120
_PIECE_BYTES = 64 * 1024
_SERVICE_FAILED = 1011


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the command printed."""

    is_error: bool
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The command has ended with a status."""

    status: int


class Wire:
    """An open connection; `send_…` keep what the service does not take yet, `flush` passes it on."""

    def __init__(self, connection: socket.socket, protocol: ClientProtocol) -> None:
        self._socket = connection
        self._protocol = protocol
        self._outgoing = bytearray()

    def fileno(self) -> int:
        """What is waited for."""
        return self._socket.fileno()

    @property
    def waiting_bytes(self) -> int:
        """How much was not taken yet."""
        return len(self._outgoing)

    def send_input(self, data: bytes) -> None:
        """Send input to the command; nothing takes it any more when the service has said good-bye."""
        if self._is_open():
            self._protocol.send_binary(data)
            self._gather()

    def send_end(self) -> None:
        """Send the end of the input."""
        self._send_control({"eof": True})

    def send_size(self, columns: int, rows: int) -> None:
        """Send a new size of the terminal."""
        self._send_control({"resize": [columns, rows]})

    def _send_control(self, control: dict[str, object]) -> None:
        if self._is_open():
            self._protocol.send_text(json.dumps(control).encode())
            self._gather()

    def _is_open(self) -> bool:
        from websockets.protocol import State

        return self._protocol.state is State.OPEN

    def _gather(self) -> None:
        self._outgoing += b"".join(self._protocol.data_to_send())

    def flush(self) -> None:
        """Pass on as much as is taken now; that the service has gone is found when it is read from."""
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()

    def receive(self) -> list[Output | Exit]:
        """Return what has come.

        Raises:
            ConnectionLost: the connection has ended, and the command's status has not come.
        """
        try:
            data = self._socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        found = self._read_events()
        self._gather()
        if not any(isinstance(one, Exit) for one in found) and not self._is_open():
            raise self._make_loss()
        return found

    def _read_events(self) -> list[Output | Exit]:
        from websockets.frames import Frame, Opcode

        found: list[Output | Exit] = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.BINARY:
                found.append(Output(is_error=event.data[:1] == b"\x02", data=bytes(event.data[1:])))
            elif event.opcode is Opcode.TEXT:
                found.append(_read_exit(bytes(event.data)))
        return found

    def _make_loss(self) -> ConnectionLost:
        received = self._protocol.close_rcvd
        if received is not None and received.code == _SERVICE_FAILED and received.reason:
            return ConnectionLost(received.reason)
        return ConnectionLost(_LOST)

    def close(self) -> None:
        """End the connection, and with it the shell."""
        with contextlib.suppress(OSError):
            self._socket.close()


def open_wire(socket_path: str, target: str) -> Wire:
    """Connect to the service at a Unix socket, and open the WebSocket at `target`, `/path?query`.

    Raises:
        ServiceUnavailable: the service does not answer.
        NoContainer, RequestRefused, SiteBroken: what it says instead.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_OPEN_SECONDS)
        connection.connect(socket_path)
        wire = Wire(connection, _shake_hands(connection, target))
        connection.setblocking(False)
    except OSError as exc:
        connection.close()
        raise ServiceUnavailable(AWAY, detail=f"{socket_path}: {exc}") from exc
    except BaseException:
        connection.close()
        raise
    return wire


def _shake_hands(connection: socket.socket, target: str) -> ClientProtocol:
    from websockets.client import ClientProtocol
    from websockets.http11 import Response
    from websockets.uri import parse_uri

    protocol = ClientProtocol(parse_uri(f"ws://localhost{target}"))
    protocol.send_request(protocol.connect())
    connection.sendall(b"".join(protocol.data_to_send()))
    while protocol.handshake_exc is None and not protocol.events:
        # Byte by byte: what comes behind the answer belongs to the shell.
        data = connection.recv(1)
        if not data:
            protocol.receive_eof()
            break
        protocol.receive_data(data)
    answer = next((event for event in protocol.events_received() if isinstance(event, Response)), None)
    if protocol.handshake_exc is not None or answer is None:
        raise _explain(answer) from protocol.handshake_exc
    return protocol


def _read_exit(text: bytes) -> Exit:
    try:
        return Exit(status=int(json.loads(text)["exit"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise ConnectionLost(_LOST, detail=f"cannot read how the shell ended: {exc}") from exc


def _explain(answer: Response | None) -> DS01Error:
    if answer is None:
        return ServiceUnavailable(AWAY, detail="it does not speak HTTP")
    return read_refusal(answer.status_code, bytes(answer.body or b""))
