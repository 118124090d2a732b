"""What serial ports and VISA offer on this computer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

from rramlab.drivers.addresses import places
from rramlab.drivers.lock import HostLock


def serial_ports() -> list[dict[str, str]]:
    """Return the serial ports: address for bench.yaml, and what the system says of each."""
    from serial.tools.list_ports import comports

    return [{"address": port.device, "description": port.description or ""} for port in sorted(comports())]


def visa_resources() -> tuple[list[str], list[str]]:
    """Return the resources that the default VISA backend lists, and what it has to say, such as missing packages."""
    import pyvisa

    from rramlab.drivers.visa import BACKEND

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            manager = pyvisa.ResourceManager(BACKEND)
            resources = [str(name) for name in manager.list_resources("?*")]
        except (ValueError, OSError, pyvisa.errors.VisaIOError) as error:
            return [], [f"VISA ({BACKEND}) cannot list its resources: {error}"]
    return resources, [str(each.message) for each in said if each.category is not ResourceWarning]


def held(addresses: Iterable[str]) -> Iterator[str]:
    """Say of each address that a bench on this computer works with who does; nothing is opened."""
    for address in addresses:
        for place in places(address):
            who = HostLock("links", place, address).holder()
            if who is not None:
                yield f"{address} is in use by process {who.get('pid', 'unknown')} ({who.get('command', 'unknown command')})"
                break
