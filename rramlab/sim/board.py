"""The simulated board: what its serial number hides, and how its lines load the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools
from rramlab.macro.crossbar import LineResistances, lone_rows, transfer
from rramlab.macro.gates import GatePattern
from rramlab.macro.pulses import PulseKind
from rramlab.sim import randomness
from rramlab.sim.die import SimulatedDie
from rramlab.sim.drive import Drive
from rramlab.sim.faults import LineFaults
from rramlab.sim.models import BoardModel, Wires

Floats = npt.NDArray[np.float64]


class SimulatedBoard:
    """Hidden gains, offsets and resistances of one board, by its serial number."""

    def __init__(
        self,
        table: BoardTable,
        model: BoardModel,
        serial: str,
        seed: int,
        temperature_C: float = 25.0,
        faults: LineFaults | None = None,
    ) -> None:
        self.table, self.model, self.serial, self.temperature_C = table, model, serial, temperature_C
        self.faults = faults or LineFaults()
        rows, columns = table.geometry.shape

        def draw(purpose: int, count: int = columns) -> Floats:
            return randomness.normals(seed, purpose, 0, 0, count)

        self.read_gain = 1 + model.gain_sigma * draw(randomness.BOARD_GAIN)
        self.multiply_gain = self.read_gain * (1 + model.range_sigma * draw(randomness.BOARD_RANGE))
        self.read_offset = model.offset_sigma * draw(randomness.BOARD_READ_OFFSET)
        self.multiply_offset = model.offset_sigma * draw(randomness.BOARD_MULTIPLY_OFFSET)
        gain, offset = draw(randomness.BOARD_DAC, 2).tolist()
        self._dac_gain, self._dac_offset_V = 1 + model.dac_gain_sigma * gain, model.dac_offset_sigma_V * offset
        # A switch's resistance lies above zero however wide the spread.
        switches = [
            table.switch_resistance_Ohm * np.exp(model.switch_sigma * draw(purpose, count))
            for purpose, count in ((randomness.BOARD_BL, rows), (randomness.BOARD_SL, columns))
        ]
        self.faults.check(table)
        broken = self.faults.offset(table)
        self.read_offset, self.multiply_offset = self.read_offset + broken, self.multiply_offset + broken
        errors = draw(randomness.BOARD_REFERENCE, len(table.reference_Ohm))
        self.reference_Ohm = np.array(table.reference_Ohm) * (1 + model.reference_sigma * errors)
        self.bl_Ohm, self.sl_Ohm = switches[0], switches[1] + table.tia_resistance_Ohm

    def lines(self, wires: Wires) -> LineResistances:
        """Return what its switches and amplifiers, and the wires of a die, add to the cells."""
        segment_Ohm = self.table.wire_resistance_Ohm if wires.segment_Ohm is None else wires.segment_Ohm
        return LineResistances(self.bl_Ohm, self.sl_Ohm, segment_Ohm)

    def volts(self, code: int) -> float:
        """Return what the DAC really puts out."""
        return max(0.0, self.table.dac_volts(code) * float(self._dac_gain) + float(self._dac_offset_V))

    def reference_level(self, resistor: int | None, multiply: bool, bias: int) -> tuple[Floats, float]:
        """Return what the converters make of a reference resistor, None: of open inputs, and what it dissipates in W.

        float64[columns], in codes before rounding.
        """
        table, volts = self.table, self.volts(bias)
        siemens = 0.0 if resistor is None else 1 / float(self.reference_Ohm[resistor])
        if multiply:
            gain, offset = self.multiply_gain, self.multiply_offset
            scale = volts / table.input_V / table.multiply_step_S
        else:
            gain, offset = self.read_gain, self.read_offset
            scale = volts / table.read_voltage_V / table.read_step_S
        return table.zero_code + offset + gain * (siemens * scale), volts**2 * siemens

    def drive(self, kind: PulseKind, amplitude_V: float, cells_per_pulse: int, float_coupling: float) -> Drive:
        row_V, column_V = self.table.bias.pulse(kind).half_selected_V(kind, amplitude_V, float_coupling)
        return Drive(cells_per_pulse, self.bl_Ohm if self.model.droop else None, row_V, column_V)


class Lines:
    """A die's cells as its lines show them: the fixed matrix of its state.

    Relaxation and drift go with the logarithm of time. So it is solved for each programmed state and for every doubling of
    the time since then, and taken in between on the straight line in log time; what departs from that, as traps do, is
    folded in to first order, for each cell with the share of its conductance that reaches its column. So the matrix is
    a function of the die's state, whatever was asked before.
    """

    def __init__(self, die: SimulatedDie, board: SimulatedBoard) -> None:
        self.die, self.bias, self.faults = die, board.table.bias, board.faults
        self._solver = die.model.wires.solver
        self._lines = board.lines(die.model.wires)
        self._version = -1  # of the die for which these are: cells and matrix by interval and rows that are on
        self._solved: dict[tuple[int, bytes], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = {}

    def read_S(self, interval: int) -> npt.NDArray[np.float32]:
        """Return what a read of each cell alone sees: float32[rows, columns]."""
        if self._solver == "none":
            seen = self.faults.array(self.die.conductance_at(interval))
        else:
            seen = self._folded(interval, None if self.bias.read.unselected.wl == "on" else b"lone")
        if self.faults.stuck_rows:
            own = np.isin(np.arange(len(seen)), self.faults.stuck_rows)
            seen = np.where(own[:, None], 0, seen) + self.faults.added(seen)
        return seen

    def isolated_S(self, cells_S: npt.NDArray[np.float32], bits: Bools, rows: slice) -> npt.NDArray[np.floating[Any]]:
        """Return what an isolated read of some rows sees: float[rows of the slice, columns], zero where ``bits`` are not.

        ``cells_S``: their cells, float32. Each row is a ladder of its own, so it is the same in any block of rows.
        """
        whole = np.zeros(self.die.geometry.shape, np.float32)
        whole[rows] = cells_S
        whole = self.faults.array(whole)
        whole[rows] *= bits
        return whole[rows] if self._solver == "none" else lone_rows(whole, self._lines, rows)

    def multiply_S(self, interval: int, pattern: GatePattern, lines_at_once: int) -> npt.NDArray[np.float32]:
        """Return each cell's share of its column's current a volt on its row: float32[rows, columns].

        Zero may stand in rows that neither ``pattern``, which must drive one, nor a stuck bit puts a voltage on.
        What bit lines that are stuck carry does not depend on the inputs: see :meth:`LineFaults.added`.
        """
        if self._solver == "none":
            used = np.append(np.flatnonzero(pattern.driven), self.faults.stuck_rows).astype(np.intp)
            rows = slice(int(used.min()), int(used.max()) + 1)
            seen = np.zeros(self.die.geometry.shape, np.float32)
            seen[rows] = self.die.conductance_at(interval, rows)
            return self.faults.array(seen)
        if self.bias.multiply.unselected.wl == "on":
            return self._folded(interval, None)
        # Word lines are switched with the rows: one matrix for each set of rows that is on together.
        seen = np.zeros(self.die.geometry.shape, np.float32)
        group = np.arange(self.die.geometry.rows) // lines_at_once
        for phase, number in zip(*np.nonzero(pattern.active_groups(lines_at_once)), strict=True):
            on = pattern.rows[phase] & (group == number)
            columns = pattern.phase == phase
            seen[np.ix_(on, columns)] = self._folded(interval, on.tobytes())[np.ix_(on, columns)]
        return seen

    def _folded(self, interval: int, key: bytes | None) -> npt.NDArray[np.float32]:
        began = self.die.settled
        since = max(0, interval - began)
        first = 1 << since.bit_length() - 1 if since else 0
        earlier, later = began + first, began + 2 * first
        if self._version != self.die.version:
            self._solved.clear()
            self._version = self.die.version
        for known in [each for each in self._solved if each[0] not in (earlier, later)]:
            del self._solved[known]
        cells, matrix = self._at(earlier, key)
        if since == first:
            return matrix
        later_cells, later_matrix = self._at(later, key)
        weight = np.float32(np.log2(since / first))
        cells = cells + weight * (later_cells - cells)
        matrix = matrix + weight * (later_matrix - matrix)
        share = np.clip(np.divide(matrix, cells, out=np.zeros_like(matrix), where=cells > 0), 0, 1)
        now = self.faults.array(self.die.conductance_at(interval))
        folded: npt.NDArray[np.float32] = matrix + share * (now - cells)
        return folded

    def _at(self, interval: int, key: bytes | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        name = interval, key or b""
        if name not in self._solved:
            cells = self.faults.array(self.die.conductance_at(interval))
            self._solved[name] = cells, self._solve(cells, key)
        return self._solved[name]

    def _solve(self, cells: npt.NDArray[np.float32], key: bytes | None) -> npt.NDArray[np.float32]:
        if key == b"lone":
            return lone_rows(cells, self._lines).astype(np.float32)
        if key is not None:
            on: Bools = np.frombuffer(key, np.bool_)
            cells = cells * on[:, None]
        return transfer(cells, self._lines, "exact" if self._solver == "exact" else "fast").astype(np.float32)
