"""Frames: COBS(version, kind, opcode, sequence, payload, CRC-32) and a zero byte (docs/wire.md)."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from cobs import cobs

VERSION = 1
# A bitmap of the whole array is 32 KiB. Longer than this is no frame: it bounds what a receiver holds.
MOST_PAYLOAD = 1 << 16
_HEADER = struct.Struct("<BBHI")
_CRC = struct.Struct("<I")
_PART = struct.Struct("<II")
_LEAST = _HEADER.size + _CRC.size
_MOST_ENCODED = cobs.max_encoded_length(MOST_PAYLOAD + _LEAST)


class Kind(IntEnum):
    REQUEST = 1
    REPLY = 2
    ERROR = 3
    NAK = 4  # a damaged frame came in; ``sequence``: of the last good one before it
    PART = 5  # of a reply that is longer than a frame: offset u32, total u32, data


class Frame(NamedTuple):
    """One message. ``sequence``: of the request, repeated in what answers it."""

    kind: int
    opcode: int
    sequence: int
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame, its closing zero included.

    Raises:
        ValueError: its payload is longer than a frame holds.
    """
    if len(frame.payload) > MOST_PAYLOAD:
        raise ValueError(f"a payload of {len(frame.payload):,} bytes, a frame holds {MOST_PAYLOAD:,}")
    header = _HEADER.pack(VERSION, frame.kind, frame.opcode, frame.sequence)
    check = _CRC.pack(zlib.crc32(frame.payload, zlib.crc32(header)))
    encoded: bytes = cobs.encode(b"".join((header, frame.payload, check)))
    return encoded + b"\0"


def decode(encoded: bytes) -> Frame | None:
    """Return the frame between two zeros, or None where it is damaged or of another version."""
    try:
        body = cobs.decode(encoded)
    except cobs.DecodeError:
        return None
    end = len(body) - 4
    if end < _HEADER.size or end - _HEADER.size > MOST_PAYLOAD:
        return None
    if _CRC.unpack_from(body, end)[0] != zlib.crc32(memoryview(body)[:end]):
        return None
    version, kind, opcode, sequence = _HEADER.unpack_from(body)
    return Frame(kind, opcode, sequence, body[_HEADER.size : end]) if version == VERSION else None


def reply(opcode: int, sequence: int, payload: bytes) -> bytes:
    """Return the bytes of a reply, in parts where it is longer than a frame."""
    if len(payload) <= MOST_PAYLOAD:
        return encode(Frame(Kind.REPLY, opcode, sequence, payload))
    size = MOST_PAYLOAD - _PART.size
    return b"".join(
        encode(Frame(Kind.PART, opcode, sequence, _PART.pack(start, len(payload)) + payload[start : start + size]))
        for start in range(0, len(payload), size)
    )


class Parts:
    """A reply that comes in parts, in any order and perhaps more than once."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}

    def add(self, payload: bytes) -> bytes | None:
        """Take one part; return the whole reply once it is there.

        Raises:
            ValueError: it is no part of one reply.
        """
        if len(payload) < _PART.size:
            raise ValueError(f"{len(payload)} bytes, expected at least {_PART.size}")
        start, total = _PART.unpack_from(payload)
        self._parts[start] = payload[_PART.size :]
        whole, place = [], 0
        while place < total:
            if place not in self._parts or not self._parts[place]:
                return None
            whole.append(self._parts[place])
            place += len(self._parts[place])
        return b"".join(whole)


class Decoder:
    """Cuts a stream of bytes into frames. Damage costs the frame it falls into, and is counted."""

    def __init__(self) -> None:
        self._held: list[bytes] = []  # what has come since the last zero; empty where that is too long for a frame
        self._length = 0  # of it
        self.frames = 0
        self.damaged = 0

    def feed(self, data: bytes) -> list[Frame | None]:
        """Return what ``data`` completes, in order: frames, and None for each damaged one."""
        found: list[Frame | None] = []
        *whole, rest = data.split(b"\0")
        for part in whole:
            self._hold(part)
            if self._length:  # two zeros in a row: a sender may put one first, to end whatever came before
                found.append(decode(b"".join(self._held)))
                self._held, self._length = [], 0
        self._hold(rest)
        damaged = found.count(None)
        self.damaged += damaged
        self.frames += len(found) - damaged
        return found

    def _hold(self, data: bytes) -> None:
        self._length += len(data)
        if self._length > _MOST_ENCODED:
            self._held = []
        elif data:
            self._held.append(data)
