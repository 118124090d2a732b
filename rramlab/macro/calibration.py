"""From converter codes to siemens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.macro.board import BoardTable
from rramlab.macro.gates import GatePattern

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BoardCalibration:
    """Gain and offset of every column, for the read and the multiply range.

    ``*_gain``: float64[columns], measured over true current. ``*_offset``: float64[columns], in codes.
    ``record``: the id of the calibration record, stored with every block of raw codes.
    """

    record: str
    table: BoardTable
    read_gain: npt.NDArray[np.float64]
    read_offset: npt.NDArray[np.float64]
    multiply_gain: npt.NDArray[np.float64]
    multiply_offset: npt.NDArray[np.float64]

    @classmethod
    def nominal(cls, table: BoardTable) -> BoardCalibration:
        """Return the uncalibrated conversion: the table's figures, unit gain, no offset."""
        ones, zeros = np.ones(table.geometry.columns), np.zeros(table.geometry.columns)
        return cls("nominal", table, ones, zeros, ones, zeros)

    def conductance(self, codes: npt.NDArray[np.uint16], columns: npt.NDArray[np.intp], bias_V: float) -> Floats:
        """Convert read codes to siemens.

        ``codes``: uint16[repeats, n]; ``columns``: the column of each of the n cells; ``bias_V``: the voltage
        that they were read at. Returns float32[n], the mean over the repeats.
        """
        step = self.table.read_step_S * self.table.read_voltage_V / bias_V
        level = codes.mean(axis=0) - (self.table.zero_code + self.read_offset[columns])
        return np.asarray(level * (step / self.read_gain[columns]), dtype=np.float32)

    def products(
        self, sums: npt.NDArray[np.int32], columns: npt.NDArray[np.intp], gates: GatePattern, bits: int
    ) -> Floats:
        """Convert shift-added sums to siemens × input code, zero points taken off.

        ``sums``: int32[batch, n] of the n ``columns``. Every conversion carries the zero code and the column's
        offset; a column has (2^bits − 1) × its phase's row groups of them, weighted by the bit planes.
        """
        groups = gates.groups(self.table.lines_at_once)[gates.phase[columns]]
        pedestal = ((1 << bits) - 1) * groups * (self.table.zero_code + self.multiply_offset[columns])
        factor = self.table.multiply_step_S / self.multiply_gain[columns]
        return ((sums - pedestal) * factor).astype(np.float32)
