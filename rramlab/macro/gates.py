"""Gate patterns: which rows drive which columns during a multiply."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InvalidValue
from rramlab.macro.cells import Bools
from rramlab.macro.geometry import Geometry


@dataclass(frozen=True, eq=False)
class GatePattern:
    """K phases, each a subset of rows; every enabled column belongs to exactly one phase.

    ``rows``: bool[K, rows]. ``phase``: int16[columns], -1 = column off; both columns of a pair are equal.
    """

    rows: Bools
    phase: npt.NDArray[np.int16]

    def __post_init__(self) -> None:
        try:
            rows = np.array(self.rows, dtype=np.bool_)
            phase = np.array(self.phase, dtype=np.int16)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidValue(
                f"found rows or phase that are no arrays of truth values and whole numbers: {error}"
            ) from None
        if rows.ndim != 2 or phase.ndim != 1 or phase.size % 2:
            raise InvalidValue(f"found rows {rows.shape} and phase {phase.shape}, expected [K, rows] and [columns]")
        if np.any(phase < -1) or np.any(phase >= len(rows)):
            raise InvalidValue(f"a column's phase lies outside -1 … {len(rows) - 1}")
        if np.any(phase[0::2] != phase[1::2]):
            raise InvalidValue("the two columns of a pair are in different phases")
        rows.setflags(write=False)
        phase.setflags(write=False)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "phase", phase)

    @classmethod
    def lines(cls, rows: Bools, pairs: Bools) -> GatePattern:
        """Return the one-phase pattern that drives ``rows`` (bool[rows]) into ``pairs`` (bool[pairs])."""
        return cls(rows[None, :], np.repeat(np.where(pairs, 0, -1), 2).astype(np.int16))

    @classmethod
    def of_pairs(cls, kept: Bools) -> GatePattern:
        """Return the pattern in which pairs with equal row sets share a phase.

        ``kept``: bool[rows, pairs]. A pair that keeps nothing is off.
        """
        used = kept.any(axis=0)
        packed = np.packbits(kept[:, used].T, axis=1)
        distinct, members = np.unique(packed, axis=0, return_inverse=True)
        rows = np.unpackbits(distinct, axis=1, count=kept.shape[0]).astype(np.bool_)
        phase = np.full(kept.shape[1], -1, np.int16)
        phase[used] = members.reshape(-1)
        return cls(rows, np.repeat(phase, 2))

    @property
    def phases(self) -> int:
        return len(self.rows)

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.rows.shape[1], self.phase.size)

    @property
    def enabled(self) -> Bools:
        """Columns that are on: bool[columns]."""
        return self.phase >= 0

    @cached_property
    def driven(self) -> Bools:
        """Rows that drive at least one column: bool[rows]."""
        return np.asarray(self.rows.any(axis=0))

    @cached_property
    def cells(self) -> Bools:
        """Cells that take part in a multiply: bool[rows, columns]."""
        if not self.phases:
            return np.zeros((self.rows.shape[1], self.phase.size), np.bool_)
        taken = self.rows[np.maximum(self.phase, 0)].T
        return np.asarray(taken & self.enabled, dtype=np.bool_)

    def groups(self, lines_at_once: int) -> npt.NDArray[np.int32]:
        """Count the row groups with an enabled row, a phase: int32[K]; groups without one are skipped."""
        return np.asarray(np.count_nonzero(self.active_groups(lines_at_once), axis=1), np.int32)

    def active_groups(self, lines_at_once: int) -> Bools:
        """Return which groups of lines each phase drives: bool[K, groups]."""
        rows = self.rows.shape[1]
        count = -(-rows // lines_at_once)
        padded = np.zeros((self.phases, count * lines_at_once), np.bool_)
        padded[:, :rows] = self.rows
        return np.asarray(padded.reshape(self.phases, count, lines_at_once).any(axis=2), dtype=np.bool_)

    def groups_of(self, columns: npt.NDArray[np.intp], lines_at_once: int) -> npt.NDArray[np.int32]:
        """Count the row groups of each column's phase: int32[n] of the n ``columns``, which must be on."""
        return np.asarray(self.groups(lines_at_once)[self.phase[columns]], np.int32)

    def by_group(self, lines_at_once: int) -> Iterator[tuple[int, GatePattern]]:
        """Yield each group of rows that is driven, with the pattern that drives it alone; all columns stay as they are."""
        group = np.arange(self.rows.shape[1]) // lines_at_once
        for number in np.unique(group[self.driven]).tolist():
            yield number, GatePattern(self.rows & (group == number), self.phase)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the pattern: equal patterns have equal digests."""
        head = f"{self.rows.shape}{self.phase.shape}".encode()
        return hashlib.sha256(head + np.packbits(self.rows).tobytes() + self.phase.tobytes()).hexdigest()[:24]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GatePattern) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
