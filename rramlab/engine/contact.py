"""The contact test: what one harmless read of the array says about its lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import CellState

# An open line reads nothing but its column's offset, a line of pristine cells 0.1 µS (design, section 7): 8 codes at
# 0.1 V. With offsets of σ = 1 code (assumed) three codes are five σ from a healthy line and three from an open one.
OPEN_BELOW_S = 0.0375e-6
# A pristine line whose median cell reads ten times a pristine cell leaks.
LEAK_ABOVE_S = 1e-6
# The highest formed cell seen is 18.8 µS and outliers lie 20 µS above; beyond this a cell is shorted.
SHORT_ABOVE_S = 95e-6


@dataclass(frozen=True)
class ContactReport:
    """Lines and cells that are not as they should be."""

    open_rows: tuple[int, ...]
    open_columns: tuple[int, ...]
    leaking_rows: tuple[int, ...]
    shorted_cells: tuple[tuple[int, int], ...]

    @property
    def passed(self) -> bool:
        return not (self.open_rows or self.open_columns or self.leaking_rows or self.shorted_cells)

    def __str__(self) -> str:
        parts = []
        for what, found in (
            ("open bit lines (rows)", self.open_rows),
            ("open source lines (columns)", self.open_columns),
            ("leaking rows", self.leaking_rows),
            ("shorted cells", self.shorted_cells),
        ):
            if found:
                shown = ", ".join(str(item) for item in found[:5])
                parts.append(f"{len(found)} {what}: {shown}{' …' if len(found) > 5 else ''}")
        return "; ".join(parts) or "all lines connected, no short, no leakage"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def judge(conductance_S: npt.NDArray[np.float32], state: CellState) -> ContactReport:
    """Judge a read of the whole array, float32[rows, columns] in siemens, at the contact voltage."""
    # Cells that were pulsed count as 0 here: they lower a line's median and never raise it.
    median = np.median(np.where(state.pristine, conductance_S, 0.0), axis=1)
    return ContactReport(
        _indices(conductance_S.mean(axis=1) < OPEN_BELOW_S),
        _indices(conductance_S.mean(axis=0) < OPEN_BELOW_S),
        _indices(median > LEAK_ABOVE_S),
        tuple((int(row), int(column)) for row, column in np.argwhere(conductance_S > SHORT_ABOVE_S)),
    )


def _indices(lines: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(lines))
