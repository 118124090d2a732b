"""What an operation costs: bench time, energy, pulses, conversions. The only estimate, from the board's table.

Time is counted in whole nanoseconds a row or a bit plane, so that an operation takes as long in parts as in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.plan.operations import Contact, Multiply, Operation, PulseOp, Read, ReferenceRead, Route, Sweep, Wait

# Median conductance of a formed cell (design, section 7): what one driven cell dissipates with.
TYPICAL_CELL_S = 12.2e-6
# One measurement of a source-measure unit: one power-line cycle at 50 Hz (assumed; the unit's file says how long it takes).
SMU_READING_S = 0.02

Nanoseconds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
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

    def __mul__(self, times: int) -> Cost:
        return Cost(self.time_s * times, self.energy_J * times, self.pulses * times, self.conversions * times)


def of(operation: Operation, board: BoardTable) -> Cost:
    """Return the cost of one operation: pulse energy is V·I·t at the compliance, multiply energy lines plus converters.

    At a source-measure unit it is the worst case: the highest voltage at the compliance all the time.
    """
    match operation:
        case PulseOp():
            pulse = operation.pulse
            energy = operation.cells.count * pulse.amplitude_V * board.forming_current_A * pulse.width_s
            return Cost(int(pulse_ns(operation, board).sum()) / 1e9, energy, operation.cells.count)
        case Read():
            return _read(operation.cells, operation.repeats, board, operation.isolated)
        case Contact():
            return _read(operation.cells, 1, board)
        case ReferenceRead():
            return _reference(operation, board)
        case Multiply():
            return multiply(operation.pattern, len(operation.x), operation.bits, board)
        case Sweep():
            time_s = operation.levels * (operation.dwell_s + SMU_READING_S)
            pulses = 0 if operation.as_pulse is None else 1
            return Cost(time_s, operation.peak_V * operation.compliance_A * time_s, pulses)
        case Route():
            time_s = operation.count * SMU_READING_S + operation.hold_s
            return Cost(time_s, operation.voltage_V * operation.compliance_A * time_s)
        case Wait():
            return Cost(operation.time_s)
        case _:
            return Cost()


def pulse_ns(operation: PulseOp, board: BoardTable) -> Nanoseconds:
    """Return how long each row takes: int64[rows]; the controller fires ``cells_per_pulse`` of it at once."""
    shot_ns = round((operation.pulse.width_s + board.settle_time_s) * 1e9)
    return shots(operation.cells.per_row, operation.cells_per_pulse) * shot_ns


def shots(per_row: npt.NDArray[np.intp], cells_per_pulse: int) -> npt.NDArray[np.int64]:
    """Count the pulses that each row takes, int64[rows]; ``per_row``: its cells."""
    return np.asarray(-(-per_row // cells_per_pulse), np.int64)


def read_ns(cells: Bools, repeats: int, board: BoardTable) -> Nanoseconds:
    """Return how long each row takes: int64[rows]. ADCs convert in parallel, the columns that share one in turn."""
    return _read_ns(_busiest(cells, board), repeats, board)


def _read_ns(busiest: Nanoseconds, repeats: int, board: BoardTable) -> Nanoseconds:
    return np.asarray(busiest * (repeats * _conversion_ns(board)) + (busiest > 0) * _settle_ns(board), np.int64)


def _read(cells: CellSelection, repeats: int, board: BoardTable, isolated: bool = False) -> Cost:
    busiest = _busiest(cells.in_span, board)
    driven_s = _driven_s(busiest, repeats, board)
    # A row feeds all of its cells; in an isolated read those that are read.
    fed_s = cells.per_row[cells.span] @ driven_s if isolated else board.geometry.columns * driven_s.sum()
    conversions = cells.count * repeats
    energy = conversions * board.conversion_energy_J + board.read_voltage_V**2 * TYPICAL_CELL_S * float(fed_s)
    return Cost(_read_ns(busiest, repeats, board).sum() / 1e9, energy, 0, conversions)


def read_driven_s(cells: Bools, repeats: int, board: BoardTable) -> npt.NDArray[np.float64]:
    """Return how long each row carries the read voltage in a read: float64[rows]; every source line is at ground."""
    return _driven_s(_busiest(cells, board), repeats, board)


def _driven_s(busiest: Nanoseconds, repeats: int, board: BoardTable) -> npt.NDArray[np.float64]:
    return np.asarray(busiest * (repeats / board.adc_rate_Hz))


def reference_ns(repeats: int, board: BoardTable) -> int:
    """Return how long a reference read takes: as a read of a whole row."""
    return _columns_in_turn(board) * repeats * _conversion_ns(board) + _settle_ns(board)


def reference_driven_s(repeats: int, board: BoardTable) -> float:
    """Return how long a reference resistor carries its voltage in a reference read."""
    return _columns_in_turn(board) * repeats / board.adc_rate_Hz


def _columns_in_turn(board: BoardTable) -> int:
    return min(board.columns_per_adc, board.geometry.columns)


def _reference(operation: ReferenceRead, board: BoardTable) -> Cost:
    conversions = board.geometry.columns * operation.repeats
    power_W = 0.0  # of open inputs, or of a resistor that the board does not have: that is refused
    if operation.resistor is not None and operation.resistor < len(board.reference_Ohm):
        power_W = operation.voltage_V**2 / board.reference_Ohm[operation.resistor]
    energy = conversions * board.conversion_energy_J + power_W * reference_driven_s(operation.repeats, board)
    return Cost(reference_ns(operation.repeats, board) / 1e9, energy, 0, conversions)


def plane_ns(pattern: GatePattern, board: BoardTable) -> Nanoseconds:
    """Return how long one bit plane of one vector takes in each phase: int64[K]; row groups follow one another."""
    busiest = _busiest(_members(pattern), board)
    group_ns = busiest * _conversion_ns(board) + _settle_ns(board)
    return np.asarray(pattern.groups(board.lines_at_once) * group_ns, np.int64)


def driven_s(pattern: GatePattern, board: BoardTable) -> npt.NDArray[np.float64]:
    """Return how long each row carries the read voltage in a bit plane in which it is on: float64[rows]."""
    busiest = _busiest(_members(pattern), board)
    return np.asarray(busiest @ pattern.rows / board.adc_rate_Hz)


def multiply(pattern: GatePattern, batch: int, bits: int, board: BoardTable) -> Cost:
    """Cost of a multiply: for each vector, bit plane, phase and row group, one conversion of each of its columns.

    The lines' energy supposes that half of the inputs' bits are set and every source line is held at ground.
    """
    steps = batch * bits
    columns = np.count_nonzero(_members(pattern), axis=1)
    conversions = steps * int(np.sum(pattern.groups(board.lines_at_once) * columns))
    line_J = board.read_voltage_V**2 * TYPICAL_CELL_S * board.geometry.columns * float(driven_s(pattern, board).sum())
    time_s = steps * int(plane_ns(pattern, board).sum()) / 1e9
    return Cost(time_s, conversions * board.conversion_energy_J + steps * line_J / 2, 0, conversions)


def _members(pattern: GatePattern) -> Bools:
    """Return the columns of each phase: bool[K, columns]."""
    return np.asarray(pattern.phase[None, :] == np.arange(pattern.phases)[:, None], np.bool_)


def _conversion_ns(board: BoardTable) -> int:
    return round(1e9 / board.adc_rate_Hz)


def _settle_ns(board: BoardTable) -> int:
    return round(board.settle_time_s * 1e9)


def _busiest(cells: Bools, board: BoardTable) -> npt.NDArray[np.int64]:
    """Count the selected columns of the ADC that has most of them: int64[rows or phases]."""
    if cells.all():  # the most frequent case by far, and the dearest to count
        return np.full(len(cells), _columns_in_turn(board), np.int64)
    found = np.zeros(len(cells), np.int64)
    some = np.flatnonzero(cells.any(axis=1))
    padded = np.zeros((len(some), board.adcs * board.columns_per_adc), np.bool_)
    padded[:, : cells.shape[1]] = cells[some]
    per_adc = padded.reshape(len(some), board.adcs, board.columns_per_adc)
    found[some] = np.count_nonzero(per_adc, axis=2).max(axis=1)
    return found
