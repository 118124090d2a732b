"""How payloads are laid out: little-endian fields, then whatever follows them."""

from __future__ import annotations

import struct
from dataclasses import dataclass


class Malformed(ValueError):
    """A payload that does not have the layout of its opcode."""


@dataclass(frozen=True)
class Layout:
    """A payload's fixed part."""

    fields: struct.Struct

    def pack(self, *values: int | float, rest: bytes = b"") -> bytes:
        return self.fields.pack(*values) + rest

    def unpack(self, payload: bytes) -> tuple[tuple[int, ...], bytes]:
        """Return the fixed part's values and what follows it.

        Raises:
            Malformed: it is too short.
        """
        if len(payload) < self.fields.size:
            raise Malformed(f"{len(payload)} bytes, expected at least {self.fields.size}")
        return self.fields.unpack_from(payload), payload[self.fields.size :]


def layout(fields: str) -> Layout:
    """``fields``: as :mod:`struct` spells them."""
    return Layout(struct.Struct("<" + fields))


def nothing_more(rest: bytes) -> None:
    """Refuse bytes that belong to nothing."""
    if rest:
        raise Malformed(f"{len(rest)} bytes too many")
