"""From converter codes to siemens, and from volts to DAC codes: by what was measured of a board, or by its file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.macro.board import BoardTable

Floats = npt.NDArray[np.float32]
_BLOCK = 1 << 15  # products that are converted at once: so many that intermediates stay in cache


@dataclass(frozen=True, eq=False)
class BoardCalibration:
    """Gain and offset of every column, for the read and the multiply range, and of the DAC.

    ``*_gain``: float64[columns], measured over true current. ``*_offset``: float64[columns], in codes.
    ``record``: the id of the calibration record, stored with every block of raw codes. A DAC that is asked for V volts puts
    out ``dac_gain`` × V + ``dac_offset_V``.
    """

    record: str
    table: BoardTable
    read_gain: npt.NDArray[np.float64]
    read_offset: npt.NDArray[np.float64]
    multiply_gain: npt.NDArray[np.float64]
    multiply_offset: npt.NDArray[np.float64]
    dac_gain: float = 1.0
    dac_offset_V: float = 0.0
    # The line that the columns' gains were found with; that of the DAC itself may be younger.
    read_line: tuple[float, float] | None = None

    @classmethod
    def nominal(cls, table: BoardTable) -> BoardCalibration:
        """Return the uncalibrated conversion: the table's figures, unit gain, no offset."""
        ones, zeros = np.ones(table.geometry.columns), np.zeros(table.geometry.columns)
        return cls("nominal", table, ones, zeros, ones, zeros)

    def volts(self, code: int) -> float:
        """Return what the DAC puts out for a code."""
        return self.dac_gain * self.table.dac_volts(code) + self.dac_offset_V

    def _read_V(self, code: int) -> float:
        """Return the voltage of a code by which the columns' gains hold."""
        gain, offset_V = self.read_line or (self.dac_gain, self.dac_offset_V)
        return gain * self.table.dac_volts(code) + offset_V

    def dac_code(self, volts: float) -> int:
        """Return the highest DAC code that puts out no more than ``volts``, by its calibration and nominally.

        A DAC whose gain lies below 1 so stays a little below what is asked for: limits are enforced on nominal codes, by
        the board itself too, and no correction carries a code across them.

        Raises:
            ValueError: beyond the DAC's range: never clipped.
        """
        nominal = self.table.dac_code(volts)
        if self.dac_gain == 1.0 and self.dac_offset_V == 0.0:
            return nominal
        top = (1 << self.table.dac_bits) - 1
        wanted = (volts - self.dac_offset_V) / self.dac_gain
        return min(nominal, max(0, math.floor(wanted / self.table.dac_full_scale_V * top)))

    def conductance(self, codes: npt.NDArray[np.uint16], columns: npt.NDArray[np.intp], bias: int) -> Floats:
        """Convert read codes to siemens.

        ``codes``: uint16[repeats, n]; ``columns``: the column of each of the n cells; ``bias``: the DAC code of the voltage
        that they were read at. Returns float32[n], the mean over the repeats.
        """
        step = self.table.read_step_S * self.table.read_voltage_V / self._read_V(bias)
        level = codes.mean(axis=0) - (self.table.zero_code + self.read_offset[columns])
        return np.asarray(level * (step / self.read_gain[columns]), dtype=np.float32)

    def products(
        self, sums: npt.NDArray[np.int32], columns: npt.NDArray[np.intp], groups: npt.NDArray[np.int32], bits: int
    ) -> Floats:
        """Convert shift-added sums to siemens × input code, zero points taken off.

        ``sums``: int32[batch, n] of the n ``columns``; ``groups``: int32[n], the row groups of each column's phase. Every
        conversion carries the zero code and the column's offset; a column has (2^bits − 1) × its groups of them, weighted
        by the bit planes.
        """
        pedestal = ((1 << bits) - 1) * groups * (self.table.zero_code + self.multiply_offset[columns])
        # The table's step is for inputs at the nominal voltage of their code.
        true_V = self._read_V(self.table.dac_code(self.table.read_voltage_V))
        step = self.table.multiply_step_S * self.table.input_V / true_V
        factor = step / self.multiply_gain[columns]
        products = np.empty(sums.shape, np.float32)
        vectors = max(1, _BLOCK // max(1, len(columns)))
        for start in range(0, len(sums), vectors):
            part = slice(start, start + vectors)
            np.multiply(sums[part] - pedestal, factor, out=products[part], casting="same_kind")
        return products
