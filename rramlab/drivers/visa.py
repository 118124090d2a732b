"""Any VISA resource as a link."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rramlab.base.errors import InstrumentError
from rramlab.base.trust import require_installed
from rramlab.drivers.links import CHUNK, lost, stuck, taken

BACKEND = "@py"  # pyvisa-py; another one by a resource that ends in '@ivi', a library's path after '@', …
_POLL_S = 0.05


class VisaLink:
    """``TCPIP::HOST::PORT::SOCKET``, ``ASRL/dev/ttyUSB0::INSTR``, ``USB…::INSTR``, ``GPIB0::24::INSTR``.

    The backend is pyvisa-py; ``RESOURCE@ivi`` takes the installed vendor's library.
    """

    def __init__(self, address: str, baud: int, terminator: bytes) -> None:
        import pyvisa
        from pyvisa import constants

        self.name = address
        resource, at, backend = address.partition("@")
        if at:
            require_installed(f"pyvisa_{backend}", f"the address {address!r}")
        self._error = pyvisa.errors.VisaIOError
        self._codes = constants.StatusCode
        try:
            manager = pyvisa.ResourceManager(f"@{backend}" if at else BACKEND)
            opened: Any = manager.open_resource(resource, open_timeout=5000)
        except Exception as error:  # backends raise what they like: the one thing to say is that it did not open
            raise InstrumentError(
                f"the VISA resource {address!r} cannot be opened ({error}); nothing was sent. See what there is with: rramlab "
                "bench discover; check address, power and cable"
            ) from error
        self._resource = opened
        self._serial = resource.upper().startswith("ASRL")
        self._closed = False
        try:
            self._have_to_itself()
        except BaseException:
            self.close()
            raise
        if self._serial:
            self._resource.baud_rate = baud
            # What ends a message is the reader's business: the port hands over bytes.
            self._resource.set_visa_attribute(constants.ResourceAttribute.asrl_end_in, constants.SerialTermination.none)
        elif resource.upper().endswith("SOCKET"):
            self._resource.set_visa_attribute(constants.ResourceAttribute.termchar, terminator[0])
            self._resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, True)
            # So that a time-out hands over what has come instead of losing it.
            self._resource.set_visa_attribute(constants.ResourceAttribute.suppress_end_enabled, False)

    def _have_to_itself(self) -> None:
        """Lock the resource for others, where its kind and the library can: VXI-11, and what a vendor's library locks.

        Raises:
            BenchLocked: another session has locked it.
        """
        import serial

        port = getattr(getattr(self._resource.visalib, "sessions", {}).get(self._resource.session), "interface", None)
        try:
            if isinstance(port, serial.Serial):  # of pyvisa-py, which has no lock of its own for it
                port.exclusive = True
            else:
                self._resource.lock_excl(timeout=0)
        except serial.SerialException as error:
            raise taken(self.name, Path(str(getattr(port, "port", "")))) from error
        except self._error as error:
            if error.error_code == self._codes.error_resource_locked:
                raise taken(self.name) from error
        except NotImplementedError:
            pass

    def read(self, deadline: float) -> bytes:
        while True:
            left = deadline - time.monotonic()
            data = self._read(1 if self._serial else CHUNK, min(max(left, 0.001), _POLL_S if self._serial else left))
            if data and self._serial and (more := min(int(self._resource.bytes_in_buffer), CHUNK >> 4)):
                data += self._read(more, 1.0)  # they are there: no time-out cuts them short
            if data or left <= 0:
                return data

    def _read(self, count: int, wait_s: float) -> bytes:
        from pyvisa.errors import InvalidSession

        resource = self._resource
        try:
            resource.timeout = max(1, round(wait_s * 1000))
            with resource.ignore_warning(self._codes.success_max_count_read):
                return bytes(resource.visalib.read(resource.session, count)[0])
        except self._error as error:
            if error.error_code == self._codes.error_timeout:
                return b""
            raise lost(self.name, error) from error
        except (OSError, InvalidSession) as error:
            raise lost(self.name, error) from error

    def write(self, data: bytes, deadline: float) -> None:
        from pyvisa.errors import InvalidSession

        try:
            self._resource.timeout = max(1, round((deadline - time.monotonic()) * 1000))
            self._resource.write_raw(data)
        except self._error as error:
            if error.error_code == self._codes.error_timeout:
                raise stuck(self.name, len(data)) from error
            raise lost(self.name, error) from error
        except (OSError, InvalidSession) as error:
            raise lost(self.name, error) from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            # The manager stays: pyvisa has one for every link, and closes it when the program ends.
            self._resource.close()
