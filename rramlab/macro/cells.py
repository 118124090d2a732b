"""Which cells: a resolved selection of the array, and what is known of every cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InvalidValue
from rramlab.macro.geometry import Geometry

Bools = npt.NDArray[np.bool_]

# A cell conducts when a read says at least this much: twenty times a pristine cell (0.1 µS), a quarter of the
# lowest formed conductance seen (7.6 µS). The one threshold of the design's section 2.
CONDUCTING_THRESHOLD_S = 2e-6


@dataclass(frozen=True, eq=False, init=False)
class CellSelection:
    """A frozen set of cells of an array of ``shape``, made of bool[rows, columns].

    ``span``: the rows from the first to the last that has a cell; ``in_span``: bool[rows of the span, columns], read-only. A
    plan can have ten thousand selections, and most are a few rows.
    """

    shape: tuple[int, int]
    span: slice
    in_span: Bools

    def __init__(self, bits: npt.ArrayLike) -> None:
        try:
            found = np.asarray(bits, np.bool_)
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"found cells that are no array of truth values: {error}") from None
        if found.ndim != 2:
            raise InvalidValue(f"found {found.ndim} dimensions, expected bool[rows, columns]")
        start, stop = _ends(np.logical_or.reduce(found, axis=1))
        self._hold(found.shape, start, found[start:stop].copy())

    def _hold(self, shape: tuple[int, int], start: int, in_span: Bools) -> None:
        in_span.setflags(write=False)
        for name, value in (("shape", shape), ("span", slice(start, start + len(in_span))), ("in_span", in_span)):
            object.__setattr__(self, name, value)

    @classmethod
    def of_rows(cls, bits: Bools, first: int, rows: int) -> CellSelection:
        """Return the cells of ``bits``, whose rows are row ``first`` and on of an array of ``rows``."""
        start, stop = _ends(np.logical_or.reduce(bits, axis=1))
        found = object.__new__(cls)
        found._hold((rows, bits.shape[1]), first + start if stop else 0, bits[start:stop].copy())
        return found

    @classmethod
    def everything(cls, geometry: Geometry) -> CellSelection:
        return cls.crossing(np.ones(geometry.rows, np.bool_), np.ones(geometry.columns, np.bool_))

    @classmethod
    def crossing(cls, rows: Bools, columns: Bools) -> CellSelection:
        """Return the cells where chosen lines cross: bool[rows] and bool[columns]."""
        start, stop = _ends(rows) if columns.any() else (0, 0)
        found = object.__new__(cls)
        found._hold((rows.size, columns.size), start, rows[start:stop, None] & columns)
        return found

    @classmethod
    def from_packed(cls, data: bytes, geometry: Geometry) -> CellSelection:
        """Read the wire's form: one bit a cell, C order, most significant bit first.

        Raises:
            InvalidValue: the length is not that of the geometry.
        """
        expected = -(-geometry.cells // 8)
        if len(data) != expected:
            raise InvalidValue(f"found {len(data)} bytes, expected {expected} for {geometry.rows} × {geometry.columns}")
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=geometry.cells)
        return cls(bits.reshape(geometry.shape).astype(np.bool_))

    def packed(self) -> bytes:
        """Return one bit a cell, C order, most significant bit first (32 KiB for 512 × 512)."""
        return np.packbits(self.bits).tobytes()

    @cached_property
    def bits(self) -> Bools:
        """The whole array: bool[rows, columns], read-only."""
        if len(self.in_span) == self.shape[0]:
            return self.in_span
        found = np.zeros(self.shape, np.bool_)
        found[self.span] = self.in_span
        found.setflags(write=False)
        return found

    @property
    def geometry(self) -> Geometry:
        return Geometry(*self.shape)

    @cached_property
    def per_row(self) -> npt.NDArray[np.intp]:
        """Selected cells of each row: int[rows]."""
        found = np.zeros(self.shape[0], np.intp)
        found[self.span] = np.count_nonzero(self.in_span, axis=1)
        found.setflags(write=False)
        return found

    @cached_property
    def count(self) -> int:
        return int(np.count_nonzero(self.in_span))

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """Indices of the rows with at least one selected cell."""
        return np.flatnonzero(self.per_row)

    @property
    def first(self) -> tuple[int, int]:
        """Row and column of the first cell; there must be one."""
        return self.span.start, int(np.flatnonzero(self.in_span[0])[0])

    def within(self, start: int, stop: int) -> CellSelection:
        """Return the part of the selection in rows start … stop - 1."""
        first, stop = max(start, self.span.start), min(stop, self.span.stop)
        return self.of_rows(self._between(first, stop), first, self.shape[0])

    def _between(self, start: int, stop: int) -> Bools:
        """Return rows start … stop - 1, which lie in the span: bool[stop - start, columns]; none where stop is no larger."""
        return self.in_span[start - self.span.start : max(start, stop) - self.span.start]

    def blocks(self, block_rows: int) -> Iterator[tuple[int, int, CellSelection]]:
        """Yield (start, stop, part) for each aligned block of rows that holds a selected cell, in row order."""
        for start in range(self.span.start // block_rows * block_rows, self.span.stop, block_rows):
            part = self.within(start, start + block_rows)
            if part.count:
                yield start, min(start + block_rows, self.shape[0]), part

    def __and__(self, other: CellSelection) -> CellSelection:
        start, stop = max(self.span.start, other.span.start), min(self.span.stop, other.span.stop)
        return self.of_rows(self._between(start, stop) & other._between(start, stop), start, self.shape[0])

    def __or__(self, other: CellSelection) -> CellSelection:
        return CellSelection(self.bits | other.bits)

    def __sub__(self, other: CellSelection) -> CellSelection:
        return CellSelection(self.bits & ~other.bits)

    def __invert__(self) -> CellSelection:
        return CellSelection(~self.bits)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CellSelection)
            and (self.shape, self.span) == (other.shape, other.span)
            and np.array_equal(self.in_span, other.in_span)
        )

    __hash__ = None  # type: ignore[assignment]  # an array compares by value and has no cheap hash


def _ends(rows: Bools) -> tuple[int, int]:
    """Return the first of the chosen rows and one more than the last; twice 0 where there is none."""
    used = np.flatnonzero(rows)
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)


@dataclass(frozen=True, eq=False)
class CellState:
    """What is known of each cell when a region is resolved.

    ``pulses``: uint32[rows, columns], delivered or possibly delivered pulses, by the ledger.
    ``conductance_S``: float32[rows, columns], the last read; NaN where never read.
    ``unknown``: bool[rows, columns], cells whose last pulse could not be decided after a crash.
    """

    pulses: npt.NDArray[np.uint32]
    conductance_S: npt.NDArray[np.float32]
    unknown: Bools

    @classmethod
    def virgin(cls, geometry: Geometry) -> CellState:
        return cls(
            np.zeros(geometry.shape, np.uint32),
            np.full(geometry.shape, np.nan, np.float32),
            np.zeros(geometry.shape, np.bool_),
        )

    @property
    def pristine(self) -> Bools:
        """Never pulsed, by the ledger."""
        return np.asarray(self.pulses == 0)

    @property
    def conducting(self) -> Bools:
        return is_conducting(self.conductance_S)


def is_conducting(conductance_S: npt.NDArray[np.float32]) -> Bools:
    """Return which conductances are at or above the conducting threshold; NaN (never read) is not."""
    with np.errstate(invalid="ignore"):
        conducts: Bools = np.greater_equal(conductance_S, CONDUCTING_THRESHOLD_S)
        return conducts
