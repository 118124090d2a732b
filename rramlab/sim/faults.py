"""Electrical faults of a simulated board: open and shorted lines, stuck register bits, saturated converters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from rramlab.base.errors import UsageError
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools, CellSelection

SHORT_S = 5e-3  # a bit line that touches a source line: 200 Ω, assumed
_BEYOND = 1e6  # codes: further than any converter reaches

Floats = npt.NDArray[np.float32]


class LineFaults(BaseModel):
    """Indices of what is broken; nothing by default.

    ``shorts``: (row, column) whose bit line and source line touch. ``stuck_rows``: bit lines whose select bit is stuck at
    one, so that they carry whatever a selected row carries. ``stuck_columns``: source lines that are driven with every
    pulse, chosen or not. ``saturated_adcs``: converters that only give their highest code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    open_rows: tuple[int, ...] = ()
    open_columns: tuple[int, ...] = ()
    shorts: tuple[tuple[int, int], ...] = ()
    stuck_rows: tuple[int, ...] = ()
    stuck_columns: tuple[int, ...] = ()
    saturated_adcs: tuple[int, ...] = ()

    def check(self, board: BoardTable) -> None:
        """Raise UsageError where an index lies off the board."""
        rows, columns = board.geometry.shape
        for name, indices, count in (
            ("open_rows", self.open_rows, rows),
            ("open_columns", self.open_columns, columns),
            ("shorts (rows)", [row for row, _ in self.shorts], rows),
            ("shorts (columns)", [column for _, column in self.shorts], columns),
            ("stuck_rows", self.stuck_rows, rows),
            ("stuck_columns", self.stuck_columns, columns),
            ("saturated_adcs", self.saturated_adcs, board.adcs),
        ):
            off = [index for index in indices if not 0 <= index < count]
            if off:
                raise UsageError(
                    f"bench.yaml, faults of the controller: {name} has {off[0]}, expected 0 to {count - 1}"
                )

    def array(self, cells_S: Floats) -> Floats:
        """Return the cells as the lines reach them: float32[rows, columns]."""
        if not (self.open_rows or self.open_columns or self.shorts):
            return cells_S
        seen = cells_S.copy()
        for row, column in self.shorts:
            seen[row, column] += SHORT_S
        seen[list(self.open_rows)] = 0.0
        seen[:, list(self.open_columns)] = 0.0
        return seen

    def added(self, seen_S: Floats) -> Floats:
        """Return what bit lines that are stuck add to every row that is read: float32[columns]."""
        return np.asarray(seen_S[list(self.stuck_rows)].sum(axis=0))

    def offset(self, board: BoardTable) -> npt.NDArray[np.float64]:
        """Return what saturated converters add to each column's codes: float64[columns]."""
        adc = np.arange(board.geometry.columns) // board.columns_per_adc
        return np.where(np.isin(adc, self.saturated_adcs), _BEYOND, 0.0)

    def reached(self, cells: CellSelection, drives_columns: bool) -> CellSelection:
        """Return the cells that a pulse for ``cells`` really reaches; ``drives_columns``: it comes by the source lines."""
        if not (self.open_rows or self.open_columns or self.stuck_columns):
            return cells
        bits: Bools = cells.bits.copy()
        if drives_columns:
            bits[np.ix_(cells.rows, np.array(self.stuck_columns, np.intp))] = True
        bits[list(self.open_rows)] = False
        bits[:, list(self.open_columns)] = False
        return CellSelection(bits)
