"""The contact test: what one harmless read of the array says about its lines.

Figures are in codes of the read range at 0.1 V (12.5 nS): a pristine cell reads 8 (0.1 µS; design, section 7), with a spread
of 0.8 between cells. A column's offset is σ = 1 code on the assumed board and 4 on the worst that is simulated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import Bools, CellState

Floats = npt.NDArray[np.float32]

# An open line reads nothing but offsets, a healthy one 8 codes or more. For a row the offsets of its columns average out:
# three codes are far from both, and no healthy row comes near. Fewer columns than 16 would need calibrated offsets.
OPEN_BELOW_S = 0.0375e-6
# A column has one offset, which a mean cannot tell from a missing current: at σ = 4 codes one healthy column in ten would
# look open. But no offset makes cells alike: pristine cells spread by 0.85 codes with their rounding, an open line by what
# its ADC adds of itself. A column is open if it reads nothing and spreads by less than half a code. One whose offset is
# above three codes (1 in 700 on the assumed board) is missed until offsets are calibrated.
OPEN_SPREAD_BELOW_S = 0.00625e-6
# A pristine line whose median cell reads ten times a pristine cell leaks.
LEAK_ABOVE_S = 1e-6
# The highest formed cell seen is 18.8 µS and outliers lie 20 µS above; beyond this a cell is shorted.
SHORT_ABOVE_S = 95e-6
# Where a select bit is stuck, its row adds to what every other row reads: rows that were never pulsed read their own 8 codes
# more than that row in the same column, and otherwise no more than it does. Offsets fall out of the difference, and its median
# over a row's columns is good to a tenth of a code, so half a pristine cell lies far from both. Rows with pulsed cells are
# no measure: on lossy lines, and where pulses disturb, their pristine cells read anything up to 1 µS.
STUCK_ABOVE_S = 0.05e-6
FEWEST_PRISTINE_ROWS = 4  # to say that a bit is stuck; later in its life such a die reads like another die
# The top code means 204 µS at 0.1 V: one cell can be shorted, half of a column cannot.
SATURATED_SHARE = 0.5


@dataclass(frozen=True)
class ContactReport:
    """Lines and cells that are not as they should be."""

    open_rows: tuple[int, ...]
    open_columns: tuple[int, ...]
    leaking_rows: tuple[int, ...]
    shorted_cells: tuple[tuple[int, int], ...]
    stuck_rows: tuple[int, ...] = ()  # their bit line is on whichever row is selected
    saturated_columns: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        return not any(asdict(self).values())

    def __str__(self) -> str:
        parts = []
        for what, meaning, found in (
            ("open bit lines (rows)", "", self.open_rows),
            ("open source lines (columns)", "", self.open_columns),
            ("leaking rows", "", self.leaking_rows),
            ("shorted cells", "", self.shorted_cells),
            (
                "rows that are always on",
                "their select bits are stuck: every other row reads them on top",
                self.stuck_rows,
            ),
            (
                "columns with a saturated ADC",
                "nothing can be said of their cells: its amplifier, its reference or a short to a supply",
                self.saturated_columns,
            ),
        ):
            if found:
                shown = ", ".join(str(item) for item in found[:5])
                more = " …" if len(found) > 5 else ""
                parts.append(f"{len(found)} {what}: {shown}{more}{f' ({meaning})' if meaning else ''}")
        return "; ".join(parts) or "all lines connected, no short, no leakage"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def judge(conductance_S: Floats, saturated: Bools, state: CellState) -> ContactReport:
    """Judge a read of the whole array at the contact voltage.

    ``conductance_S``: float32[rows, columns] in siemens. ``saturated``: bool[rows, columns], codes at the ADC's top.
    """
    dead = np.asarray(saturated.mean(axis=0) >= SATURATED_SHARE)
    alive = np.flatnonzero(~dead)
    if not alive.size:
        return ContactReport((), (), (), (), (), _indices(dead))
    seen, pristine = conductance_S[:, alive], state.pristine[:, alive]
    open_rows = np.asarray(seen.mean(axis=1) < OPEN_BELOW_S)
    stuck = _always_on(seen, pristine.all(axis=1) & ~open_rows) & ~open_rows
    if stuck.any():  # what they add to all others is no fault of the others
        added = seen[np.flatnonzero(stuck)[0]]
        seen = np.where(stuck[:, None], seen, seen - added)
    connected = seen[~open_rows & ~stuck] if not (open_rows | stuck).all() else seen
    open_columns = (seen.mean(axis=0) < OPEN_BELOW_S) & (connected.std(axis=0) < OPEN_SPREAD_BELOW_S)
    # Cells that were pulsed count as 0 here: they lower a line's median and never raise it.
    median = np.median(np.where(pristine, seen, 0.0), axis=1)
    return ContactReport(
        _indices(open_rows),
        tuple(int(index) for index in alive[open_columns]),
        _indices((median > LEAK_ABOVE_S) & ~stuck),
        tuple((int(row), int(alive[place])) for row, place in np.argwhere(seen > SHORT_ABOVE_S)),
        _indices(stuck),
        _indices(dead),
    )


def _always_on(seen_S: Floats, pristine_rows: Bools) -> Bools:
    """Return the rows that every other row reads on top: bool[rows]. Only rows that were never pulsed can tell.

    A row with an open bit line then reads as they do, and is among them.
    """
    if np.count_nonzero(pristine_rows) < FEWEST_PRISTINE_ROWS:
        return np.zeros(len(seen_S), np.bool_)
    typical = np.median(seen_S[pristine_rows], axis=0)
    above: Bools = np.median(typical - seen_S, axis=1) > STUCK_ABOVE_S
    return above


def _indices(lines: Bools) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(lines))
