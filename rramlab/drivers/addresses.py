"""What an address leads to, under one name for all its spellings: so that two that lead to one thing are seen to."""

from __future__ import annotations

import os
import re
import socket
import sys
from contextlib import suppress
from urllib.parse import urlsplit

VISA_INTERFACES = ("ASRL", "TCPIP", "USB", "GPIB", "VXI", "PXI")
_NETWORK = ("tcp", "socket", "rfc2217")  # schemes that are followed by a host and a port
_NUMBER = re.compile(r"0x[\da-f]+|[1-9]\d*|0", re.IGNORECASE)
_PRIVATE = ("loop", "replay")  # what is behind these is nobody else's


def visa_socket(address: str) -> tuple[str, int] | None:
    """Return host and port of ``TCPIP::HOST::PORT::SOCKET``, of another kind of resource None; a library may be named."""
    found = re.fullmatch(r"TCPIP\d*::(.+)::(\d+)::SOCKET(@.*)?", address, re.IGNORECASE)
    return (found[1], int(found[2])) if found else None


def places(address: str) -> list[str]:
    """Return what ``address`` leads to: several where a host has several addresses, nothing where it is nobody else's.

    Nothing is opened. A host's name is looked up, as opening it does.
    """
    scheme = address.partition(":")[0].lower()
    if scheme in _PRIVATE:
        return []
    if scheme in _NETWORK and "://" in address:
        return _of_url(address)
    if at := visa_socket(address):
        return _of_host(*at)
    if address.upper().startswith(VISA_INTERFACES):
        return _of_resource(address.partition("@")[0])
    return [_of_port(address)]


def _of_url(address: str) -> list[str]:
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.hostname and parts.port:
            return _of_host(parts.hostname, parts.port)
    return [address]  # misspelt: opening it says so


def _of_host(host: str, port: int | str) -> list[str]:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError, ValueError):
        found = {host.lower()}
    return [f"tcp {each} {port}" for each in sorted(found)]


def _of_resource(resource: str) -> list[str]:
    words = resource.split("::")
    if words[0].upper().startswith("ASRL"):
        board = words[0][4:]
        return [_of_port(f"COM{board}" if board.isdecimal() else board)]
    if words[0].upper().startswith("TCPIP") and len(words) > 1:
        device = words[2].lower() if len(words) > 3 else "inst0"
        return [f"{each}{device}" for each in _of_host(words[1], "")]
    if words[0].upper().startswith("USB"):
        words[1:3] = [hex(int(word, 0)) if _NUMBER.fullmatch(word) else word for word in words[1:3]]
        resource = "::".join(words)
    import pyvisa

    with suppress(ValueError):  # misspelt: opening it says so
        return [f"visa {pyvisa.rname.to_canonical_name(resource).upper()}"]
    return [f"visa {resource.upper()}"]


def _of_port(name: str) -> str:
    if sys.platform == "win32":
        return f"serial {name.removeprefix(chr(92) * 2 + '.' + chr(92)).upper()}"
    return f"serial {os.path.realpath(name)}"
