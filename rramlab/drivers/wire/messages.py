"""What the frames carry that is no operation on the die: opcodes, who the board is, its state, its errors (docs/wire.md)."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from rramlab.drivers.controller import Identity, Status
from rramlab.drivers.wire.layout import Malformed, layout, nothing_more
from rramlab.macro.geometry import Geometry
from rramlab.plan.limits import Limits


class Opcode(IntEnum):
    HELLO = 0x0001
    STATUS = 0x0002
    HEARTBEAT = 0x0003
    SAFE_STATE = 0x0004
    CHALLENGE = 0x0005  # these two on links that ask for a token alone
    PROVE = 0x0006
    PULSE = 0x0010
    HISTORY = 0x0011
    ACKNOWLEDGE = 0x0012
    READ = 0x0020
    READ_REFERENCE = 0x0022
    LOAD_GATES = 0x0030
    MULTIPLY = 0x0031
    ROUTE = 0x0040


# Requests that change what the board does next: executed in the order of their sequence numbers, each once.
ORDERED = frozenset({Opcode.LOAD_GATES, Opcode.ACKNOWLEDGE, Opcode.ROUTE})


class Code(IntEnum):
    """Of an ERROR frame."""

    UNKNOWN_OPCODE = 1
    BAD_PAYLOAD = 2
    REFUSED = 3  # a limit of the board's own, or something that it does not have
    WRONG_NONCE = 4  # the request is from before the board was switched on
    BUSY = 5  # an operation is in flight
    STALE = 6  # an ordered request that is older than one already executed
    LOCKED = 7  # the link has not shown that its host knows the token


# HELLO ----------------------------------------------------------------------------------------------------------------

# protocol, rows, columns, boot nonce, next sequence number, temperature (°C), capability bits; then limits, then texts.
_HELLO = layout("HHHQIdI")
CAPABILITIES = ("sl_select", "per_row_wl", "reference_resistors", "smu_route", "reference_reads", "isolated_reads")
# Doubles in SI units, NaN where the board has no opinion; an order that new limits are appended to.
LIMITS = (
    "electroform_voltage", "set_voltage", "reset_voltage", "read_voltage", "gate_voltage", "shortest_pulse",
    "longest_pulse", "line_current", "supply_current", "pulses_per_cell", "sl_minus_bl", "bl_minus_sl", "wl_minus_bl",
    "sl_minus_off_wl", "smu_voltage", "smu_current",
)  # fmt: skip
_LIMIT_COUNT = layout("H")


def pack_hello(identity: Identity, next_sequence: int) -> bytes:
    limits = [getattr(identity.limits, name) for name in LIMITS]
    bits = sum(1 << place for place, name in enumerate(CAPABILITIES) if name in identity.capabilities)
    geometry = identity.geometry
    return _HELLO.pack(
        identity.protocol, geometry.rows, geometry.columns, identity.boot_nonce, next_sequence, identity.temperature_C, bits,
        rest=_LIMIT_COUNT.pack(len(limits))
        + np.array([math.nan if value is None else value for value in limits], "<f8").tobytes()
        + pack_texts(identity.firmware, identity.board_serial),
    )  # fmt: skip


def unpack_hello(payload: bytes) -> tuple[Identity, int]:
    """Return the identity, and the sequence number that the next ordered request must at least have."""
    (protocol, rows, columns, nonce, sequence, temperature, bits), rest = _HELLO.unpack(payload)
    (count,), rest = _LIMIT_COUNT.unpack(rest)
    if count < len(LIMITS) or len(rest) < 8 * count:
        raise Malformed(f"{count} limits in {len(rest)} bytes, expected at least {len(LIMITS)}")
    values = np.frombuffer(rest[: 8 * count], "<f8").tolist()
    if any(math.isinf(value) for value in values) or nonce >= 1 << 63:
        raise Malformed(f"the limits {values} or the boot nonce {nonce}, expected finite limits and a nonce below 2⁶³")
    limits = {name: value for name, value in zip(LIMITS, values, strict=False) if not math.isnan(value)}
    if "pulses_per_cell" in limits:
        limits["pulses_per_cell"] = int(limits["pulses_per_cell"])
    texts = unpack_texts(rest[8 * count :])
    if len(texts) != 2 or not (rows and columns):
        raise Malformed(f"{len(texts)} texts and an array of {rows} × {columns}")
    capabilities = frozenset(name for place, name in enumerate(CAPABILITIES) if bits >> place & 1)
    identity = Identity(
        protocol, texts[0], texts[1], nonce, Geometry(rows, columns), Limits(**limits), capabilities, float(temperature)
    )  # fmt: skip
    return identity, sequence


# texts ----------------------------------------------------------------------------------------------------------------

_LENGTH = layout("H")
_MOST_TEXT = 1 << 12  # bytes: longer than anything that a board has to say


def pack_texts(*texts: str) -> bytes:
    encoded = [text.encode()[:_MOST_TEXT] for text in texts]
    return b"".join(_LENGTH.pack(len(each), rest=each) for each in encoded)


def unpack_texts(payload: bytes) -> tuple[str, ...]:
    texts = []
    while payload:
        (length,), payload = _LENGTH.unpack(payload)
        if len(payload) < length:
            raise Malformed(f"a text of {length} bytes in {len(payload)}")
        texts.append(payload[:length].decode(errors="replace"))
        payload = payload[length:]
    return tuple(texts)


# errors, status, heartbeat --------------------------------------------------------------------------------------------

_CODE = layout("H")
_STATUS = layout("BdII")  # flags, temperature (°C), frames, damaged frames; then the error queue's texts
_FLAGS = ("live", "routed")


def pack_error(code: Code, text: str) -> bytes:
    return _CODE.pack(code, rest=pack_texts(text))


def unpack_error(payload: bytes) -> tuple[int, str]:
    (code,), rest = _CODE.unpack(payload)
    return code, " ".join(unpack_texts(rest))


def pack_status(status: Status) -> bytes:
    flags = sum(1 << place for place, name in enumerate(_FLAGS) if getattr(status, name))
    return _STATUS.pack(
        flags, status.temperature_C, status.frames, status.damaged, rest=pack_texts(*status.errors)
    )  # fmt: skip


def unpack_status(payload: bytes) -> Status:
    (flags, temperature, frames, damaged), rest = _STATUS.unpack(payload)
    return Status(bool(flags & 1), bool(flags & 2), float(temperature), frames, damaged, unpack_texts(rest))


# What a board answers to a heartbeat: 1 and a sequence number while it executes that request, else 0 and 0.
_BEAT = layout("BI")


def pack_beat(working_on: int | None) -> bytes:
    return _BEAT.pack(working_on is not None, working_on or 0)


def unpack_beat(payload: bytes) -> int | None:
    """Return the sequence number of the request that the board executes, or None."""
    (busy, sequence), rest = _BEAT.unpack(payload)
    nothing_more(rest)
    return sequence if busy else None
