"""What the frames carry of operations on the die: pulses, reads, gate patterns, multiplies and routes (docs/wire.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.drivers.controller import History, Sums
from rramlab.drivers.wire.layout import Malformed, layout, nothing_more
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS, PulseKind, PulseReport
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference, Target

# pulses ---------------------------------------------------------------------------------------------------------------

# nonce, operation id, kind, amplitude, gate (DAC codes), width (ns), cells a pulse; then the bitmap of the whole array.
_PULSE = layout("QQBHHIH")
_REPORT = layout("BQ")  # 0 never, 1 forgotten, 2 known, 3 known and cut short; the operation id; then the bitmap
NEVER, FORGOTTEN, KNOWN, TRUNCATED = range(4)
_ID = layout("Q")


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
    nothing_more(rest)
    return op_id


def _bitmap(data: bytes, geometry: Geometry) -> CellSelection:
    try:
        return CellSelection.from_packed(data, geometry)
    except ValueError as error:
        raise Malformed(str(error)) from None


# reads ----------------------------------------------------------------------------------------------------------------

# repeats, bias (DAC code), first row, rows, flags (bit 0: isolated); then the bitmap of those rows
_READ = layout("HHHHH")


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


_REFERENCE = layout("HHHBB")  # repeats, bias (DAC code), resistor, range (0 read, 1 multiply), padding
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
    nothing_more(rest)
    if span > 1 or padding:
        raise Malformed(f"range {span} and then {padding}, expected 0 or 1 and then 0")
    return ReferenceRequest(repeats, bias, None if resistor == _OPEN else resistor, bool(span), geometry.columns)


# gates and multiplies -------------------------------------------------------------------------------------------------

_GATES = layout("HH")  # slot, phases; then packed rows bool[K, rows], then phase int16[columns]
_MULTIPLY = layout(
    "HBBHI"
)  # slot, bits, padding, driven rows, vectors; then packed columns bool[columns], then the codes
_SUMS = layout("QI")  # conversions, vectors; then saturated int64[n], then sums int32[vectors, n]


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
_ROUTE = layout("QQBHHH")


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
    nothing_more(rest)
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
