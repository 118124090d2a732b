"""Byte streams with deadlines: what every instrument is spoken to over. Serial ports and TCP here, VISA in ``visa``."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from typing import Protocol

from rramlab.base.errors import BenchLocked, InstrumentError, UsageError
from rramlab.drivers.addresses import VISA_INTERFACES, visa_socket
from rramlab.drivers.lock import kernel_holders

CHUNK = 1 << 16
KINDS = "tcp://HOST:PORT, a VISA resource such as USB0::…::INSTR, or a serial port such as /dev/ttyUSB0 or COM3"
_OPEN_S = 5.0
_TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY)  # what a port answers that another program has to itself
_NEAR_S = 0.002


class LinkLost(InstrumentError):
    """The other end is gone: nothing more will come."""


class Link(Protocol):
    """A stream of bytes in both directions. Deadlines are values of ``time.monotonic()``."""

    name: str  # its address, for errors and logs

    def read(self, deadline: float) -> bytes:
        """Return what has arrived, at least one byte, or ``b""`` when nothing had by ``deadline``.

        Raises:
            LinkLost: the other end closed it.
        """
        ...

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of ``data``.

        Raises:
            LinkLost: the other end closed it. InstrumentError: it does not take the bytes by ``deadline``.
        """
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


def open_link(address: str, baud: int, terminator: bytes) -> Link:
    """Open ``tcp://HOST:PORT``, a VISA resource, or a serial port as pyserial spells it (a path, ``COM3``, a URL).

    ``terminator``: the byte that ends a message; VISA reads up to it. ``TCPIP::HOST::PORT::SOCKET`` is a plain TCP
    connection and opened as one, unless a VISA library is named behind an ``@``.

    Raises:
        UsageError: no such kind of address. InstrumentError: it cannot be opened; what to try.
    """
    if address.startswith("tcp://"):
        return TcpLink(address)
    # pyvisa-py neither notices a socket that was refused or closed nor gives up a write by its time-out.
    if "@" not in address and (plain := visa_socket(address)):
        return TcpLink(f"tcp://{plain[0]}:{plain[1]}", address)
    if address.upper().startswith(VISA_INTERFACES):
        from rramlab.drivers.visa import VisaLink

        return VisaLink(address, baud, terminator)
    return SerialLink(address, baud)


class TcpLink:
    """``tcp://HOST:PORT``; ``name``: how its user spells it, if otherwise."""

    def __init__(self, address: str, name: str = "") -> None:
        self.name = name or address
        host, colon, port = address.removeprefix("tcp://").rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UsageError(
                f"found the address {self.name!r}, expected tcp://HOST:PORT such as tcp://192.168.1.20:5025"
            )
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), _OPEN_S)
        except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be the name of a host
            raise InstrumentError(
                f"{self.name} cannot be reached ({error}); nothing was sent. Check that the instrument is switched on, its "
                "address and port, and the cable"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout_s = -1.0

    def _until(self, deadline: float) -> None:
        """Let the next call wait as long; a change by milliseconds is not worth telling the system."""
        left = max(0.0, deadline - time.monotonic())
        if abs(left - self._timeout_s) > _NEAR_S or not left:
            self._socket.settimeout(left)
            self._timeout_s = left

    def read(self, deadline: float) -> bytes:
        try:
            self._until(deadline)
            data = self._socket.recv(CHUNK)
        except (TimeoutError, BlockingIOError):
            return b""
        except OSError as error:
            raise lost(self.name, error) from error
        if not data:
            raise lost(self.name, "closed by the other end")
        return data

    def write(self, data: bytes, deadline: float) -> None:
        try:
            self._until(deadline)
            self._socket.sendall(data)
        except (TimeoutError, BlockingIOError):
            raise stuck(self.name, len(data)) from None
        except OSError as error:
            raise lost(self.name, error) from error

    def close(self) -> None:
        self._socket.close()


class SerialLink:
    """A serial port: anything that pyserial opens by name or URL. It is this link's alone as long as that is open."""

    def __init__(self, address: str, baud: int) -> None:
        import serial

        self.name = address
        try:
            self._port = serial.serial_for_url(address, baudrate=baud, timeout=0, write_timeout=_OPEN_S, exclusive=True)
        except (serial.SerialException, OSError) as error:
            if getattr(error, "errno", None) in _TAKEN:
                raise taken(address, Path(address)) from error
            raise InstrumentError(
                f"the serial port {address!r} cannot be opened at {baud:,} baud ({error}); nothing was sent. See what there is "
                "with: rramlab bench discover. On Linux the user must be in the group dialout. If it is meant to be no serial "
                f"port: an address is {KINDS}"
            ) from error
        except ValueError as error:
            raise UsageError(f"found the address {address!r} with {baud:,} baud ({error}), expected {KINDS}") from error

    def read(self, deadline: float) -> bytes:
        import serial

        try:
            data = self._port.read(CHUNK)  # what is there: its timeout is 0. in_waiting is 1 at most on a socket URL
            if not data and deadline > time.monotonic():
                self._port.timeout = deadline - time.monotonic()
                try:
                    data = self._port.read(1)
                finally:
                    self._port.timeout = 0
                data += self._port.read(CHUNK)
        except (serial.SerialException, OSError, TypeError) as error:  # TypeError: pyserial, of a port that was closed
            raise lost(self.name, error) from error
        return bytes(data)

    def write(self, data: bytes, deadline: float) -> None:
        import serial

        try:
            self._port.write_timeout = max(0.05, deadline - time.monotonic())
            self._port.write(data)
        except serial.SerialTimeoutException:
            raise stuck(self.name, len(data)) from None
        except (serial.SerialException, OSError, TypeError) as error:
            raise lost(self.name, error) from error

    def close(self) -> None:
        self._port.close()


def taken(name: str, path: Path | None = None) -> BenchLocked:
    """Return the error of an instrument that another program has to itself; ``path``: of its serial port."""
    holders = sorted(kernel_holders([path])) if path is not None else []
    by = ", ".join(f"process {pid}" for pid in holders) or "another program"
    return BenchLocked(
        f"{name} is in use by {by}, which has it to itself; nothing was sent. Close it there, or see who uses the port (on "
        "Linux: fuser -v, with the port's path), then try again"
    )


def lost(name: str, why: object) -> LinkLost:
    """Return the error of a link whose other end is gone."""
    return LinkLost(
        f"the link to {name} is lost ({why}). A macro controller brings its lines to 0 V within its dead-man time, an SMU "
        "keeps what it was told last. Check power and cable, then resume the run"
    )


def stuck(name: str, left: int) -> InstrumentError:
    """Return the error of a link that does not take bytes."""
    return InstrumentError(
        f"{name} takes no more bytes; of {left:,} it may have taken some. Check that the instrument is "
        "switched on, and the handshake settings of the port"
    )
