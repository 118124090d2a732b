"""Links as the emulator sees them: sockets and pseudo-terminals, with what goes wrong on them."""

from __future__ import annotations

import os
import random
import socket
import time
from typing import Protocol

from rramlab.sim.emulator.faults import Line, WireFaults

_CHUNK = 1 << 16
_MOST_HELD = 1 << 17
_MOST_UNSENT = 1 << 26  # a host that never reads is cut off


class Stream(Protocol):
    """One end that bytes come from and go to, without blocking."""

    def fileno(self) -> int: ...

    def take(self) -> bytes | None:
        """Return what has come; None once the other end is gone."""
        ...

    def give(self, data: bytes) -> int:
        """Send as much as goes without waiting; return how many bytes."""
        ...

    def close(self) -> None: ...


class SocketStream:
    """A TCP connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection

    def fileno(self) -> int:
        return self._connection.fileno()

    def take(self) -> bytes | None:
        try:
            return self._connection.recv(_CHUNK) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def give(self, data: bytes) -> int:
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._connection.close()


class TerminalStream:
    """A pseudo-terminal, raw; a serial port as far as the host can tell. It stays while hosts come and go."""

    def __init__(self) -> None:
        import pty
        import tty

        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.path = os.ttyname(self._theirs)

    def fileno(self) -> int:
        return self._ours

    def take(self) -> bytes | None:
        try:
            return os.read(self._ours, _CHUNK)
        except BlockingIOError:
            return b""

    def give(self, data: bytes) -> int:
        try:
            return os.write(self._ours, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._theirs)


class Channel:
    """A stream with its faults, its delays and its speed.

    ``bytes_per_s``: of what is sent, 0 for as fast as the machine goes. ``framed``: faults befall what lies between two
    zeros; otherwise there are none.
    """

    def __init__(
        self, stream: Stream, faults: WireFaults, chance: random.Random, bytes_per_s: float = 0.0, framed: bool = True
    ) -> None:
        self.stream, self.framed = stream, framed
        self._line = Line(faults, chance)
        self._bytes_per_s = bytes_per_s
        self._partial = bytearray()  # of a frame that is coming in
        self._late_in: list[tuple[float, bytes]] = []
        self._late_out: list[tuple[float, bytes]] = []
        self._unsent = bytearray()
        self._free_at = 0.0  # when the line has sent what it was given
        self.gone = False

    def event(self) -> str | None:
        """Return what befalls the board with the frame that has come."""
        return None if self._line.clean else self._line.event()

    def take(self) -> list[bytes]:
        """Return the pieces that have come in, faults and all."""
        data = self.stream.take()
        if data is None:
            self.gone = True
            return []
        if not self.framed or self._line.clean:
            return [data] if data else []
        self._partial += data
        *whole, rest = self._partial.split(b"\0")
        self._partial = bytearray(rest[:_MOST_HELD])  # longer is no frame: its end will be found damaged
        now, came = time.monotonic(), []
        for frame in whole:
            for delay, piece in self._line.carry(bytes(frame) + b"\0") if frame else [(0.0, b"\0")]:
                if delay:
                    self._late_in.append((now + delay, piece))
                else:
                    came.append(piece)
        return came

    def send(self, data: bytes) -> None:
        """Send frames, or plain bytes, faults and all."""
        if not self.framed or self._line.clean:
            if self._unsent or self._bytes_per_s:
                self._unsent += data
            elif (sent := self._give(data)) < len(data):
                self._unsent += data[sent:]
                return
        else:
            now = time.monotonic()
            for frame in data.split(b"\0")[:-1]:
                for delay, piece in self._line.carry(frame + b"\0"):
                    if delay:
                        self._late_out.append((now + delay, piece))
                    else:
                        self._unsent += piece
        self.flush()

    def after(self, delay_s: float, data: bytes) -> None:
        """Send ``data`` later, whatever is sent before."""
        self._late_out.append((time.monotonic() + delay_s, data))

    def due(self) -> list[bytes]:
        """Return late pieces whose time has come; send those that go out."""
        now = time.monotonic()
        came = [piece for at, piece in self._late_in if at <= now]
        self._late_in = [each for each in self._late_in if each[0] > now]
        for at, piece in self._late_out:
            if at <= now:
                self._unsent += piece
        self._late_out = [each for each in self._late_out if each[0] > now]
        self.flush()
        return came

    @property
    def blocked(self) -> bool:
        """Whether what is to be sent waits for the other end alone, and not for its time."""
        return bool(self._unsent) and not self._bytes_per_s

    @property
    def pending(self) -> bool:
        """Whether something waits for its time, or for room on the line."""
        return bool(self._late_in or self._late_out or self._unsent)

    def flush(self) -> None:
        """Send what the line takes now."""
        while self._unsent and not self.gone:
            count = len(self._unsent)
            if self._bytes_per_s:
                now = time.monotonic()
                self._free_at = max(self._free_at, now - 0.001)
                count = min(count, int((now - self._free_at) * self._bytes_per_s))
                if not count:
                    return
            sent = self._give(bytes(self._unsent[:count]))
            if not sent:
                self.gone |= len(self._unsent) > _MOST_UNSENT
                return
            if self._bytes_per_s:
                self._free_at += sent / self._bytes_per_s
            del self._unsent[:sent]

    def _give(self, data: bytes) -> int:
        try:
            return self.stream.give(data)
        except OSError:
            self.gone = True
            return 0

    def close(self) -> None:
        self.stream.close()
