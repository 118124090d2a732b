"""How a board drives cells: which together, and how many of them conduct, which lifts their bit line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import Bools
from rramlab.plan import cost

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Drive:
    """How a board sends a pulse.

    ``cells_per_pulse``: cells of a row that are driven together, in column order; None drives each alone.
    ``switch_Ohm``: of each bit line, float64[rows], None for no droop.
    ``row_V``, ``column_V``: across cells that share a row or a column with a pulsed one, in its direction.
    """

    cells_per_pulse: int | None = None
    switch_Ohm: npt.NDArray[np.float64] | None = None
    row_V: float = 0.0
    column_V: float = 0.0

    def shots(self, chosen: Bools) -> npt.NDArray[np.int64]:
        """Count the pulses that each row of ``chosen`` takes: int64[rows]."""
        return cost.shots(np.count_nonzero(chosen, axis=1), self.cells_per_pulse or 1)


class Shots:
    """The chosen cells of each row, ``together`` at a time in column order; the last shot of a row may be smaller."""

    def __init__(self, chosen: Bools, together: int) -> None:
        self._chosen, self._together = chosen.reshape(-1), together
        self._row_ends = np.cumsum(np.count_nonzero(chosen, axis=1))
        self._all = int(self._row_ends[-1]) == chosen.size

    def of(self, cells: Ints) -> tuple[Ints, Ints, Ints]:
        """Return of each of some chosen cells, by flat index: its row, and where its shot begins and ends."""
        place = cells if self._all else (np.cumsum(self._chosen) - 1)[cells]
        row = np.searchsorted(self._row_ends, place, side="right")
        row_start = np.concatenate([[0], self._row_ends[:-1]])[row]
        first = place - (place - row_start) % self._together
        return row, first, np.minimum(first + self._together, self._row_ends[row])

    def count(self, conducts: Bools, first: Ints, after: Ints) -> npt.NDArray[np.int32]:
        """Count the conducting cells, bool[cells], of each shot."""
        among = conducts if self._all else conducts[self._chosen]
        before = np.concatenate([[0], np.cumsum(among, dtype=np.int32)])
        return np.asarray(before[after] - before[first], np.int32)


def breaking(able: Ints, conducts: Bools, shots: Shots, breakdown_V: Floats, volts: np.float32, lift_V: Floats) -> Ints:
    """Return which of the cells that would break down alone, by flat index, do so together.

    In a shot the weakest goes first; each cell that conducts lifts the bit line, so the next sees less. ``conducts``:
    bool[cells], from the start. ``breakdown_V``: float32[cells]. ``lift_V``: float32[rows], by one conducting cell.
    """
    row, first, after = shots.of(able)
    weakness = breakdown_V[able]
    order = np.lexsort((weakness, first))
    rank = np.arange(len(order)) - np.searchsorted(first, first[order])
    queue = shots.count(conducts, first, after)[order] + rank
    # Voltages rise along a queue: once one fails, all that follow fail, though they count it.
    goes = weakness[order] <= volts - lift_V[row[order]] * queue.astype(np.float32)
    return np.asarray(able[order[goes]])
