"""The person's side of a shell in her container: her terminal, or her files and pipes, and their signals.

It guarantees that her terminal is as it was when the shell is over, however it ends (but for `kill -9`), and
that nothing here waits for one side while another has something to pass on.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote_from_bytes

from ...adapters.shell_wire import Exit, Output, Wire, open_wire

STDIN, STDOUT, STDERR = 0, 1, 2
_INTERRUPT = b"\x03"
_TERM = re.compile(r"[A-Za-z0-9._+-]{1,32}", re.ASCII)
_MOST_CELLS = 1000
_PIECE_BYTES = 32 * 1024
# A pipe or a terminal that is ready takes so much without blocking.
_READY_BYTES = 4096
_MOST_WAITING_BYTES = 128 * 1024
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def relay(socket_path: str, path: str, command: Sequence[str] = ()) -> int:
    """Run a command, or without one a shell, through the service, and return its status.

    With a terminal for input and output it has one, too. Without, its input, output and error output are
    ours; Ctrl-C ends it then. SIGTERM and SIGHUP end it, with 128 and their number as the status.
    To be called in the main thread.

    Args:
        socket_path: where the service listens.
        path: the address of the shell there, as in `/api/containers/jupyter/shell`.

    Raises:
        ServiceUnavailable: the service does not answer; ConnectionLost: no more.
        NoContainer, RequestRefused, SiteBroken: what the service says instead of opening it.
        BrokenPipeError: nobody reads our output any more.
        KeyboardInterrupt: Ctrl-C without a terminal.
    """
    has_terminal = os.isatty(STDIN) and os.isatty(STDOUT)
    wire = open_wire(socket_path, f"{path}?{_write_query(command, has_terminal)}")
    with contextlib.closing(wire), _noting_signals(has_terminal) as signals, _raw(has_terminal):
        return _Relay(wire, has_terminal, signals).run()


def _write_query(command: Sequence[str], has_terminal: bool) -> str:
    columns, rows = _read_size()
    term = os.environ.get("TERM", "")
    pairs = [
        ("tty", str(int(has_terminal))),
        ("columns", str(columns)),
        ("rows", str(rows)),
        ("term", term if _TERM.fullmatch(term) else "xterm"),
        *(("arg", argument) for argument in command),
    ]
    # As the bytes that they are: an argument need be no text.
    return "&".join(f"{key}={quote_from_bytes(os.fsencode(value), safe='')}" for key, value in pairs)


def _read_size() -> tuple[int, int]:
    try:
        found = os.get_terminal_size(STDOUT)
    except OSError:
        return 80, 24
    return min(found.columns or 80, _MOST_CELLS), min(found.lines or 24, _MOST_CELLS)


@contextmanager
def _raw(has_terminal: bool) -> Iterator[None]:
    """Let each key go to the container, for the body."""
    if not has_terminal:
        yield
        return
    before = termios.tcgetattr(STDIN)
    try:
        # What was typed ahead is for the shell.
        tty.setraw(STDIN, termios.TCSANOW)
        yield
    finally:
        # A terminal that has gone needs nothing.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


@contextmanager
def _noting_signals(has_terminal: bool) -> Iterator[int]:
    """Let signals be read as bytes from the descriptor that is given, for the body; none interrupts it."""
    noted = [signal.SIGTERM, signal.SIGHUP]
    if has_terminal:
        noted += [signal.SIGWINCH, signal.SIGINT]
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in noted}
    try:
        yield reader
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reader)
        os.close(writer)


class _Relay:
    """Passes on what comes from any side, as soon as the other takes it."""

    def __init__(self, wire: Wire, has_terminal: bool, signals: int) -> None:
        self._wire = wire
        self._has_terminal = has_terminal
        self._signals = signals
        self._output = {STDOUT: bytearray(), STDERR: bytearray()}
        self._has_input = True
        self._status: int | None = None
        self._ended_by = 0
        self._actions: dict[int, Callable[[int], None]] = {
            wire.fileno(): self._pass_wire,
            signals: self._note_signals,
            STDIN: self._read_input,
            STDOUT: lambda _events: self._write_output(STDOUT),
            STDERR: lambda _events: self._write_output(STDERR),
        }

    def run(self) -> int:
        """Return the status of the command, when all that it printed is written."""
        self._send_size()
        while not self._ended_by and (self._status is None or any(self._output.values())):
            for descriptor, events in self._wait():
                self._actions[descriptor](events)
        if self._ended_by:
            return 128 + self._ended_by
        assert self._status is not None
        return self._status

    def _wait(self) -> list[tuple[int, int]]:
        wanted = {self._signals: _READ, self._wire.fileno(): self._want_of_wire()}
        if self._has_input and self._status is None and self._wire.waiting_bytes < _MOST_WAITING_BYTES:
            wanted[STDIN] = _READ
        wanted |= {descriptor: _WRITE for descriptor, data in self._output.items() if data}
        # Not epoll: it takes no files.
        with selectors.PollSelector() as selector:
            for descriptor, events in wanted.items():
                if events:
                    selector.register(descriptor, events)
            return [(key.fd, events) for key, events in selector.select()]

    def _want_of_wire(self) -> int:
        if self._status is not None:
            return 0
        has_room = sum(map(len, self._output.values())) < _MOST_WAITING_BYTES
        return (_READ if has_room else 0) | (_WRITE if self._wire.waiting_bytes else 0)

    def _pass_wire(self, events: int) -> None:
        if events & _WRITE:
            self._wire.flush()
        if not events & _READ:
            return
        for one in self._wire.receive():
            if isinstance(one, Exit):
                self._status = one.status
            elif isinstance(one, Output):
                self._output[STDERR if one.is_error else STDOUT] += one.data

    def _note_signals(self, _events: int) -> None:
        for number in os.read(self._signals, _READY_BYTES):
            if number in (signal.SIGTERM, signal.SIGHUP):
                self._ended_by = number
            elif number == signal.SIGINT and self._has_terminal:
                self._wire.send_input(_INTERRUPT)
            elif number == signal.SIGWINCH:
                self._send_size()

    def _send_size(self) -> None:
        if self._has_terminal:
            self._wire.send_size(*_read_size())

    def _read_input(self, _events: int) -> None:
        try:
            data = os.read(STDIN, _PIECE_BYTES)
        except OSError:
            # A terminal that has gone, or no input at all.
            data = b""
        if data:
            self._wire.send_input(data)
            return
        self._has_input = False
        if self._has_terminal:
            self._ended_by = signal.SIGHUP
        else:
            self._wire.send_end()

    def _write_output(self, descriptor: int) -> None:
        waiting = self._output[descriptor]
        del waiting[: os.write(descriptor, waiting[:_READY_BYTES])]
