"""Which cells: a resolved selection of the array, and what is known of every cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rramlab.macro.geometry import Geometry

Bools = npt.NDArray[np.bool_]

# A cell conducts when a read says at least this much: twenty times a pristine cell (0.1 µS), a quarter of the
# lowest formed conductance seen (7.6 µS). The one threshold of the design's section 2.
CONDUCTING_THRESHOLD_S = 2e-6


@dataclass(frozen=True, eq=False)
class CellSelection:
    """A frozen set of cells: ``bits`` is bool[rows, columns] and read-only."""

    bits: Bools

    def __post_init__(self) -> None:
        bits = np.array(self.bits, dtype=np.bool_)
        if bits.ndim != 2:
            raise ValueError(f"found {bits.ndim} dimensions, expected bool[rows, columns]")
        bits.setflags(write=False)
        object.__setattr__(self, "bits", bits)

    @classmethod
    def everything(cls, geometry: Geometry) -> CellSelection:
        return cls(np.ones(geometry.shape, dtype=np.bool_))

    @classmethod
    def from_packed(cls, data: bytes, geometry: Geometry) -> CellSelection:
        """Read the wire's form: one bit a cell, C order, most significant bit first.

        Raises:
            ValueError: the length is not that of the geometry.
        """
        expected = -(-geometry.cells // 8)
        if len(data) != expected:
            raise ValueError(f"found {len(data)} bytes, expected {expected} for {geometry.rows} × {geometry.columns}")
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=geometry.cells)
        return cls(bits.reshape(geometry.shape).astype(np.bool_))

    def packed(self) -> bytes:
        """Return one bit a cell, C order, most significant bit first (32 KiB for 512 × 512)."""
        return np.packbits(self.bits).tobytes()

    @property
    def geometry(self) -> Geometry:
        return Geometry(*self.bits.shape)

    @cached_property
    def per_row(self) -> npt.NDArray[np.intp]:
        """Selected cells of each row: int[rows]."""
        found: npt.NDArray[np.intp] = np.count_nonzero(self.bits, axis=1)
        found.setflags(write=False)
        return found

    @cached_property
    def count(self) -> int:
        return int(np.count_nonzero(self.bits))

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """Indices of the rows with at least one selected cell."""
        return np.flatnonzero(self.per_row)

    def within(self, start: int, stop: int) -> CellSelection:
        """Return the part of the selection in rows start … stop - 1."""
        bits = np.zeros_like(self.bits)
        bits[start:stop] = self.bits[start:stop]
        return CellSelection(bits)

    def blocks(self, block_rows: int) -> Iterator[tuple[int, int, CellSelection]]:
        """Yield (start, stop, part) for each aligned block of rows that holds a selected cell, in row order."""
        for start in range(0, self.bits.shape[0], block_rows):
            stop = min(start + block_rows, self.bits.shape[0])
            if self.bits[start:stop].any():
                yield start, stop, self.within(start, stop)

    def __and__(self, other: CellSelection) -> CellSelection:
        return CellSelection(self.bits & other.bits)

    def __or__(self, other: CellSelection) -> CellSelection:
        return CellSelection(self.bits | other.bits)

    def __sub__(self, other: CellSelection) -> CellSelection:
        return CellSelection(self.bits & ~other.bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CellSelection) and np.array_equal(self.bits, other.bits)

    __hash__ = None  # type: ignore[assignment]  # an array compares by value and has no cheap hash


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
