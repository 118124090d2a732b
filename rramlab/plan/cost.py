"""What an operation costs: bench time, energy, pulses, conversions. The only estimate, from the board's table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools
from rramlab.macro.gates import GatePattern
from rramlab.plan.operations import Contact, Multiply, Operation, PulseOp, Read

# Median conductance of a formed cell (design, section 7): what one driven cell dissipates with.
TYPICAL_CELL_S = 12.2e-6


@dataclass(frozen=True)
class Cost:
    """Bench time in s, energy at the array and its converters in J, pulses (one a cell), ADC conversions."""

    time_s: float = 0.0
    energy_J: float = 0.0
    pulses: int = 0
    conversions: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.time_s + other.time_s,
            self.energy_J + other.energy_J,
            self.pulses + other.pulses,
            self.conversions + other.conversions,
        )


def of(operation: Operation, board: BoardTable) -> Cost:
    """Return the cost of one operation: pulse energy is V·I·t at the compliance, multiply energy lines plus converters."""
    match operation:
        case PulseOp():
            per_row = np.count_nonzero(operation.cells.bits, axis=1)
            shots = int(np.sum(-(-per_row // operation.cells_per_pulse)))
            pulse = operation.pulse
            energy = operation.cells.count * pulse.amplitude_V * board.forming_current_A * pulse.width_s
            return Cost(shots * (pulse.width_s + board.settle_time_s), energy, operation.cells.count)
        case Read():
            return _read(operation.cells.bits, operation.repeats, board)
        case Contact():
            return _read(operation.cells.bits, 1, board)
        case Multiply():
            return multiply(operation.pattern, len(operation.x), operation.bits, board)
        case _:
            return Cost()


def _read(cells: Bools, repeats: int, board: BoardTable) -> Cost:
    """Row by row; the ADCs convert in parallel, the columns that share one in turn."""
    busiest = _per_adc(cells, board).max(axis=1)
    conversions = int(np.count_nonzero(cells)) * repeats
    slots = int(busiest.sum()) * repeats
    time_s = slots / board.adc_rate_Hz + int(np.count_nonzero(busiest)) * board.settle_time_s
    cell_J = board.read_voltage_V**2 * TYPICAL_CELL_S / board.adc_rate_Hz
    return Cost(time_s, conversions * (board.conversion_energy_J + cell_J), 0, conversions)


def multiply(pattern: GatePattern, batch: int, bits: int, board: BoardTable) -> Cost:
    """Cost of a multiply: for each vector, bit plane, phase and row group, one conversion of each of its columns."""
    groups = pattern.groups(board.lines_at_once)
    member = pattern.phase[None, :] == np.arange(pattern.phases)[:, None]
    busiest = _per_adc(member, board).max(axis=1)
    columns = np.count_nonzero(member, axis=1)
    steps = batch * bits
    time_s = steps * float(np.sum(groups * (busiest / board.adc_rate_Hz + board.settle_time_s)))
    conversions = steps * int(np.sum(groups * columns))
    rows_on = np.count_nonzero(pattern.rows, axis=1)
    line_J = board.read_voltage_V**2 * TYPICAL_CELL_S * float(np.sum(rows_on * columns * busiest)) / board.adc_rate_Hz
    return Cost(time_s, conversions * board.conversion_energy_J + steps * line_J / 2, 0, conversions)


def _per_adc(cells: Bools, board: BoardTable) -> npt.NDArray[np.int64]:
    """Count selected columns an ADC: int64[rows or phases, ADCs]."""
    padded = np.zeros((len(cells), board.adcs * board.columns_per_adc), np.bool_)
    padded[:, : cells.shape[1]] = cells
    return np.asarray(np.count_nonzero(padded.reshape(len(cells), board.adcs, -1), axis=2), np.int64)
