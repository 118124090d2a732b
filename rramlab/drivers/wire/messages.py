"""What the frames carry: opcodes, error codes, and the layout of every payload (little-endian; docs/wire.md)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rramlab.drivers.controller import History, Identity, Status, Sums
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS, PulseKind, PulseReport
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference, Target
from rramlab.plan.limits import Limits


class Opcode(IntEnum):
    HELLO = 0x0001
    STATUS = 0x0002
    HEARTBEAT = 0x0003
    SAFE_STATE = 0x0004
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


def _layout(fields: str) -> Layout:
    return Layout(struct.Struct("<" + fields))


# HELLO ----------------------------------------------------------------------------------------------------------------

# protocol, rows, columns, boot nonce, next sequence number, temperature (°C), capability bits; then limits, then texts.
_HELLO = _layout("HHHQIdI")
CAPABILITIES = ("sl_select", "per_row_wl", "reference_resistors", "smu_route", "reference_reads", "isolated_reads")
# Doubles in SI units, NaN where the board has no opinion; an order that new limits are appended to.
LIMITS = (
    "electroform_voltage", "set_voltage", "reset_voltage", "read_voltage", "gate_voltage", "shortest_pulse",
    "longest_pulse", "line_current", "supply_current", "pulses_per_cell", "sl_minus_bl", "bl_minus_sl", "wl_minus_bl",
    "sl_minus_off_wl", "smu_voltage", "smu_current",
)  # fmt: skip
_LIMIT_COUNT = _layout("H")


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

_LENGTH = _layout("H")
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

_CODE = _layout("H")
_STATUS = _layout("BdII")  # flags, temperature (°C), frames, damaged frames; then the error queue's texts
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
_BEAT = _layout("BI")


def pack_beat(working_on: int | None) -> bytes:
    return _BEAT.pack(working_on is not None, working_on or 0)


def unpack_beat(payload: bytes) -> int | None:
    """Return the sequence number of the request that the board executes, or None."""
    (busy, sequence), rest = _BEAT.unpack(payload)
    _nothing_more(rest)
    return sequence if busy else None


# pulses ---------------------------------------------------------------------------------------------------------------

# nonce, operation id, kind, amplitude, gate (DAC codes), width (ns), cells a pulse; then the bitmap of the whole array.
_PULSE = _layout("QQBHHIH")
_REPORT = _layout("BQ")  # 0 never, 1 forgotten, 2 known, 3 known and cut short; the operation id; then the bitmap
NEVER, FORGOTTEN, KNOWN, TRUNCATED = range(4)
_ID = _layout("Q")


@dataclass(frozen=True)
class PulseRequest:
    nonce: int
    op_id: int
    kind: PulseKind
    amplitude: int
    gate: int
    width_ns: int
    cells_per_pulse: int
    cells: CellSelection


def pack_pulse(request: PulseRequest) -> bytes:
    return _PULSE.pack(
        request.nonce,
        request.op_id,
        PULSE_KINDS.index(request.kind),
        request.amplitude,
        request.gate,
        request.width_ns,
        request.cells_per_pulse,
        rest=request.cells.packed(),
    )


def unpack_pulse(payload: bytes, geometry: Geometry) -> PulseRequest:
    (nonce, op_id, kind, amplitude, gate, width_ns, together), rest = _PULSE.unpack(payload)
    if kind >= len(PULSE_KINDS):
        raise Malformed(f"pulse kind {kind}, expected 0 to {len(PULSE_KINDS) - 1}")
    cells = _bitmap(rest, geometry)
    return PulseRequest(nonce, op_id, PULSE_KINDS[kind], amplitude, gate, width_ns, together, cells)


def pack_report(op_id: int, found: PulseReport | History) -> bytes:
    if isinstance(found, History):
        return _REPORT.pack(NEVER if found is History.NEVER else FORGOTTEN, op_id)
    return _REPORT.pack(TRUNCATED if found.truncated else KNOWN, op_id, rest=found.done.packed())


def unpack_report(payload: bytes, geometry: Geometry) -> tuple[int, PulseReport | History]:
    """Return the operation id and what the board remembers of it."""
    (state, op_id), rest = _REPORT.unpack(payload)
    if state in (NEVER, FORGOTTEN):
        return op_id, History.NEVER if state == NEVER else History.FORGOTTEN
    if state > TRUNCATED:
        raise Malformed(f"a report of state {state}, expected 0 to {TRUNCATED}")
    return op_id, PulseReport(_bitmap(rest, geometry), state == TRUNCATED)


def pack_id(op_id: int) -> bytes:
    return _ID.pack(op_id)


def unpack_id(payload: bytes) -> int:
    (op_id,), rest = _ID.unpack(payload)
    _nothing_more(rest)
    return op_id


def _bitmap(data: bytes, geometry: Geometry) -> CellSelection:
    try:
        return CellSelection.from_packed(data, geometry)
    except ValueError as error:
        raise Malformed(str(error)) from None


def _nothing_more(rest: bytes) -> None:
    if rest:
        raise Malformed(f"{len(rest)} bytes too many")


# reads ----------------------------------------------------------------------------------------------------------------

# repeats, bias (DAC code), first row, rows, flags (bit 0: isolated); then the bitmap of those rows
_READ = _layout("HHHHH")


@dataclass(frozen=True, eq=False)
class ReadRequest:
    """Some rows of a read: ``bits`` is bool[rows, columns]."""

    repeats: int
    bias: int
    first_row: int
    bits: Bools
    isolated: bool = False

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.bits))

    def cells(self, geometry: Geometry) -> CellSelection:
        whole = np.zeros(geometry.shape, np.bool_)
        whole[self.first_row : self.first_row + len(self.bits)] = self.bits
        return CellSelection(whole)


def pack_read(request: ReadRequest) -> bytes:
    bitmap = np.packbits(request.bits).tobytes()
    return _READ.pack(
        request.repeats, request.bias, request.first_row, len(request.bits), request.isolated, rest=bitmap
    )


def unpack_read(payload: bytes, geometry: Geometry) -> ReadRequest:
    (repeats, bias, first, rows, flags), rest = _READ.unpack(payload)
    if flags > 1:
        raise Malformed(f"the flags {flags:#06x} of a read, expected 0 or 1")
    cells = rows * geometry.columns
    if not rows or first + rows > geometry.rows or len(rest) != -(-cells // 8):
        raise Malformed(
            f"rows {first} to {first + rows - 1} in {len(rest)} bytes, the array has {geometry.shape} cells"
        )
    bits = np.unpackbits(np.frombuffer(rest, np.uint8), count=cells).view(np.bool_)
    return ReadRequest(repeats, bias, first, bits.reshape(rows, geometry.columns), bool(flags))


def pack_codes(codes: npt.NDArray[np.uint16]) -> bytes:
    return codes.astype("<u2", copy=False).tobytes()


def unpack_codes(payload: bytes, request: ReadRequest | ReferenceRequest) -> npt.NDArray[np.uint16]:
    """Return codes, uint16[repeats, n]."""
    count = request.count
    if len(payload) != 2 * request.repeats * count:
        raise Malformed(f"{len(payload)} bytes of codes, expected {2 * request.repeats * count}")
    return np.frombuffer(payload, "<u2").astype(np.uint16, copy=False).reshape(request.repeats, count)


_REFERENCE = _layout("HHHBB")  # repeats, bias (DAC code), resistor, range (0 read, 1 multiply), padding
_OPEN = 0xFFFF  # in place of a resistor: the amplifiers' inputs are left open


@dataclass(frozen=True)
class ReferenceRequest:
    """A read of a reference resistor, None: of open inputs, by the converters of ``count`` columns."""

    repeats: int
    bias: int
    resistor: int | None
    multiply: bool
    count: int


def pack_reference(request: ReferenceRequest) -> bytes:
    resistor = _OPEN if request.resistor is None else request.resistor
    return _REFERENCE.pack(request.repeats, request.bias, resistor, request.multiply, 0)


def unpack_reference(payload: bytes, geometry: Geometry) -> ReferenceRequest:
    (repeats, bias, resistor, span, padding), rest = _REFERENCE.unpack(payload)
    _nothing_more(rest)
    if span > 1 or padding:
        raise Malformed(f"range {span} and then {padding}, expected 0 or 1 and then 0")
    return ReferenceRequest(repeats, bias, None if resistor == _OPEN else resistor, bool(span), geometry.columns)


# gates and multiplies -------------------------------------------------------------------------------------------------

_GATES = _layout("HH")  # slot, phases; then packed rows bool[K, rows], then phase int16[columns]
_MULTIPLY = _layout(
    "HBBHI"
)  # slot, bits, padding, driven rows, vectors; then packed columns bool[columns], then the codes
_SUMS = _layout("QI")  # conversions, vectors; then saturated int64[n], then sums int32[vectors, n]


@dataclass(frozen=True, eq=False)
class MultiplyRequest:
    """Some vectors of a multiply: ``columns`` bool[columns] that are asked for, ``x`` uint8[batch, driven rows]."""

    slot: int
    bits: int
    columns: Bools
    x: npt.NDArray[np.uint8]


def pack_gates(slot: int, rows: Bools, phase: npt.NDArray[np.int16]) -> bytes:
    return _GATES.pack(slot, len(rows), rest=np.packbits(rows).tobytes() + phase.astype("<i2").tobytes())


def unpack_gates(payload: bytes, geometry: Geometry) -> tuple[int, Bools, npt.NDArray[np.int16]]:
    (slot, phases), rest = _GATES.unpack(payload)
    size = -(-phases * geometry.rows // 8)
    if len(rest) != size + 2 * geometry.columns:
        raise Malformed(f"{len(rest)} bytes of a pattern of {phases} phases, expected {size + 2 * geometry.columns}")
    rows = np.unpackbits(np.frombuffer(rest[:size], np.uint8), count=phases * geometry.rows).astype(np.bool_)
    phase = np.frombuffer(rest[size:], "<i2").astype(np.int16)
    return slot, rows.reshape(phases, geometry.rows), phase


def pack_multiply(request: MultiplyRequest) -> bytes:
    x = request.x
    return _MULTIPLY.pack(
        request.slot, request.bits, 0, x.shape[1], len(x), rest=np.packbits(request.columns).tobytes() + x.tobytes()
    )


def unpack_multiply(payload: bytes, geometry: Geometry) -> MultiplyRequest:
    (slot, bits, _, driven, vectors), rest = _MULTIPLY.unpack(payload)
    size = -(-geometry.columns // 8)
    if len(rest) != size + driven * vectors:
        raise Malformed(
            f"{len(rest)} bytes for {vectors} vectors of {driven} codes, expected {size + driven * vectors}"
        )
    columns = np.unpackbits(np.frombuffer(rest[:size], np.uint8), count=geometry.columns).astype(np.bool_)
    return MultiplyRequest(slot, bits, columns, np.frombuffer(rest[size:], np.uint8).reshape(vectors, driven))


def pack_sums(sums: Sums) -> bytes:
    codes = sums.codes.astype("<i4", copy=False).tobytes()
    return _SUMS.pack(sums.conversions, len(sums.codes), rest=sums.saturated.astype("<i8").tobytes() + codes)


def unpack_sums(payload: bytes, request: MultiplyRequest) -> Sums:
    (conversions, vectors), rest = _SUMS.unpack(payload)
    count = int(np.count_nonzero(request.columns))
    if vectors != len(request.x) or len(rest) != 8 * count + 4 * vectors * count:
        raise Malformed(
            f"{len(rest)} bytes of sums of {vectors} vectors, expected {len(request.x)} vectors of {count} columns"
        )
    saturated = np.frombuffer(rest[: 8 * count], "<i8").astype(np.int64)
    codes = np.frombuffer(rest[8 * count :], "<i4").astype(np.int32).reshape(vectors, count)
    return Sums(codes, conversions, saturated)


# routes ---------------------------------------------------------------------------------------------------------------

# nonce, operation id, what (0 nothing, 1 cell by its SL, 2 cell by its BL, 3 reference, 4 DAC channel), row or index,
# column, bias (DAC code)
_ROUTE = _layout("QQBHHH")


@dataclass(frozen=True)
class RouteRequest:
    nonce: int
    op_id: int
    target: Target | None
    bias: int


def pack_route(request: RouteRequest) -> bytes:
    match request.target:
        case None:
            what = 0, 0, 0
        case RoutedCell(row, column, line):
            what = 1 if line == "sl" else 2, row, column
        case RoutedReference(index):
            what = 3, index, 0
        case RoutedDac(channel):
            what = 4, channel, 0
    return _ROUTE.pack(request.nonce, request.op_id, *what, request.bias)


def unpack_route(payload: bytes) -> RouteRequest:
    (nonce, op_id, what, first, second, bias), rest = _ROUTE.unpack(payload)
    _nothing_more(rest)
    targets: tuple[Target | None, ...] = (
        None,
        RoutedCell(first, second, "sl"),
        RoutedCell(first, second, "bl"),
        RoutedReference(first),
        RoutedDac(first),
    )
    if what >= len(targets):
        raise Malformed(f"route target {what}, expected 0 to {len(targets) - 1}")
    return RouteRequest(nonce, op_id, targets[what], bias)
