"""What a ledger's rows add up to, cell by cell: kept beside them, so that opening a ledger replays nothing."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseKind
from rramlab.runs.ledger.events import KINDS, Damaged, Entry, summed


class Counts:
    """Arrays [rows, columns] of a die.

    ``by_kind``: uint32[kinds, rows, columns], pulses delivered, possibly delivered or intended. ``pulses``: uint32, of all
    kinds. ``last``: int64, the newest operation that was meant for each cell. ``unknown``: its last pulse could not be decided.
    ``doubtful``: its last operation was decided by reading.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.by_kind = np.zeros((len(KINDS), *geometry.shape), np.uint32)
        self.pulses = np.zeros(geometry.shape, np.uint32)
        self.last = np.zeros(geometry.shape, np.int64)
        self.unknown = np.zeros(geometry.shape, np.bool_)
        self.doubtful = np.zeros(geometry.shape, np.bool_)

    def intend(self, op_id: int, kind: PulseKind, cells: CellSelection) -> range:
        """Count an intent as spent; return the rows that changed."""
        span, meant = cells.span, cells.in_span
        self.by_kind[KINDS.index(kind)][span] += meant
        self.pulses[span] += meant
        np.copyto(self.last[span], op_id, where=meant)
        return range(span.start, span.stop)

    def end(self, entry: Entry, done: CellSelection, unknown: CellSelection) -> range:
        """Count what came of an intent; return the rows that changed.

        A cell whose last pulse is decided is no longer unknown, whatever was before. Of an operation that reading decided,
        the cells known to have had their pulse are known because they conduct: they say nothing of how many do.
        """
        span, meant = entry.cells.span, entry.cells.in_span
        delivered, undecided = done.bits[span], unknown.bits[span]
        not_spent = meant & ~(delivered | undecided)
        self.by_kind[KINDS.index(entry.kind)][span] -= not_spent
        self.pulses[span] -= not_spent
        self.unknown[span] = (self.unknown[span] & ~delivered) | undecided
        self.doubtful[span] &= ~delivered
        if unknown.count:
            self.doubtful[span] |= meant
        return range(span.start, span.stop)

    def adopt(self, cells: CellSelection) -> range:
        """Count cells that another ledger may have pulsed: unknown, and never fewer pulses than before."""
        span, touched = cells.span, cells.in_span
        first = touched & (self.pulses[span] == 0)
        self.by_kind[0][span] += first
        self.pulses[span] += first
        self.unknown[span] |= touched
        self.doubtful[span] |= touched
        return range(span.start, span.stop)

    @property
    def doubts(self) -> bool:
        """Whether any cell is unknown or doubtful."""
        return bool(self.unknown.any() or self.doubtful.any())

    def row(self, index: int) -> bytes:
        """Return one row as it is stored."""
        if int(self.last[index].max()) >> 32:
            raise ValueError("more operations than a ledger can count")
        parts = (
            self.by_kind[:, index].astype("<u4").tobytes(),
            self.last[index].astype("<u4").tobytes(),
            np.packbits(self.unknown[index]).tobytes(),
            np.packbits(self.doubtful[index]).tobytes(),
        )
        return zlib.compress(b"".join(parts), 1)

    def take_row(self, index: int, stored: bytes) -> None:
        """Take one row as :meth:`row` gave it.

        Raises:
            Damaged: it is something else.
        """
        columns = self.geometry.columns
        words, bits = 4 * columns, -(-columns // 8)
        try:
            data = zlib.decompress(stored)
        except zlib.error as error:
            raise Damaged(f"the counts of row {index} are damaged ({error})") from error
        if len(data) != (len(KINDS) + 1) * words + 2 * bits:
            raise Damaged(f"the counts of row {index} have {len(data)} bytes")
        numbers = np.frombuffer(data, "<u4", (len(KINDS) + 1) * columns).reshape(-1, columns)
        self.by_kind[:, index], self.last[index] = numbers[:-1], numbers[-1]
        self.pulses[index] = numbers[:-1].sum(axis=0, dtype=np.uint32)
        for array, start in ((self.unknown, len(data) - 2 * bits), (self.doubtful, len(data) - bits)):
            array[index] = np.unpackbits(np.frombuffer(data, np.uint8, bits, start), count=columns)

    def of_kind(self, kind: PulseKind) -> npt.NDArray[np.uint32]:
        found: npt.NDArray[np.uint32] = self.by_kind[KINDS.index(kind)]
        return found

    def __eq__(self, other: object) -> bool:
        names = ("by_kind", "pulses", "last", "unknown", "doubtful")
        return isinstance(other, Counts) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )

    __hash__ = None  # type: ignore[assignment]  # arrays that change


def row_sum(index: int, stored: bytes) -> int:
    """Return the sum of a stored row as a number: all of them are kept together by their exclusive or."""
    return int.from_bytes(summed(index.to_bytes(4, "big") + stored), "big")
