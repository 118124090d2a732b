"""What a board's SMU connector is wired to: a cell, a reference resistor, a DAC channel, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from rramlab.drivers.controller import NotDone
from rramlab.macro.pulses import PulseKind
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference, Target
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.die import SimulatedDie
from rramlab.sim.faults import SHORT_S
from rramlab.sim.smus.core import OpenTerminals
from rramlab.sim.state import PARTIAL, PRISTINE

# By how much a unit that is asked for the read voltage may exceed it: 2.4 mV of 0.2 V on a 20 V range, by the data sheets.
UNIT_ERROR = 0.02


class CellLoad:
    """One cell behind its switches and wires. All levels of one route together are one pulse of the kind they reach."""

    offset_V = 0.0

    def __init__(self, die: SimulatedDie, board: SimulatedBoard, target: RoutedCell, gate_V: float) -> None:
        self.die, self.board, self.target, self.gate_V = die, board, target, gate_V
        self._path_Ohm = _path_Ohm(die, board, target)
        faults = board.faults
        self._open = target.row in faults.open_rows or target.column in faults.open_columns
        self._short = (target.row, target.column) in faults.shorts
        self._peak_V = {"forward": 0.0, "reset": 0.0}
        self._count: int | None = None  # pulses before the first level that counts as one

    def conductance_S(self, aperture_s: float = 0.0) -> float:
        """Return what it conducts, the mean over an aperture; 0: over a conversion of the board's."""
        if self._open:
            return 0.0
        cell = self.die.cell_S(self.target.row, self.target.column)
        # White noise, independent for every conversion: its mean over several of them is the less.
        conversions = aperture_s * self.board.table.adc_rate_Hz if aperture_s else 1.0
        noise = float(self.die.take_noise(1)[0]) / math.sqrt(conversions)
        cell = max(0.0, cell * (1 + self.die.model.noise.read * noise)) + SHORT_S * self._short
        return cell / (1 + cell * self._path_Ohm)

    def stress(self, volts: float, span_ns: int) -> None:
        self.die.pass_time(span_ns)
        forward = (volts > 0) == (self.target.line == "sl")
        way = "forward" if forward else "reset"
        amplitude = abs(volts)
        # As a read: what does not exceed the read voltage, but for the unit's own error, changes nothing and is no pulse.
        harmless_V = self.board.table.read_voltage_V * (1 + UNIT_ERROR)
        if self._open or self._short or amplitude <= max(self._peak_V[way], harmless_V):
            return
        self._peak_V[way] = amplitude
        state, place = self.die.state, (self.target.row, self.target.column)
        kind: PulseKind = "reset"
        if forward:
            kind = "electroform" if state.phase[place] in (PRISTINE, PARTIAL) else "set"
        if self._count is None:
            self._count = int(state.pulses[place])
        self.die.stress(kind, *place, amplitude, span_ns, self.gate_V, self._count)


def _path_Ohm(die: SimulatedDie, board: SimulatedBoard, target: RoutedCell) -> float:
    """Return what lies between a cell and the unit: as in a read of the cell alone, but for the amplifier."""
    if die.model.wires.solver == "none":
        return 0.0
    lines, table = board.lines(die.model.wires), board.table
    segments = target.column + table.geometry.rows - 1 - target.row  # from the bit line's driver, and to the sink
    switches_Ohm = lines.bl_Ohm[target.row] + lines.sl_Ohm[target.column] - table.tia_resistance_Ohm
    return float(switches_Ohm + segments * lines.segment_Ohm)


class Resistor:
    """A reference resistor."""

    offset_V = 0.0

    def __init__(self, die: SimulatedDie, ohms: float) -> None:
        self._die, self._ohms = die, ohms

    def conductance_S(self, aperture_s: float = 0.0) -> float:
        return 1 / self._ohms

    def stress(self, volts: float, span_ns: int) -> None:
        self._die.pass_time(span_ns)


class DacOutput(Resistor):
    """A DAC channel, held at a code."""

    def __init__(self, die: SimulatedDie, volts: float) -> None:
        super().__init__(die, 1.0)  # an output buffer's ohm: assumed
        self._volts = volts

    @property
    def offset_V(self) -> float:  # type: ignore[override]  # a channel puts out a voltage, a resistor none
        return self._volts


def load_of(
    target: Target, bias: int, die: SimulatedDie, board: SimulatedBoard, highest_gate_V: float | None
) -> CellLoad | Resistor:
    """Return what a route to ``target`` connects.

    Raises:
        NotDone: the board has no such thing, or its limits forbid it.
    """
    table, refused = board.table, f"board {board.serial} refused"
    needs = "reference_resistors" if isinstance(target, RoutedReference) else "smu_route"
    if needs not in table.capabilities:
        raise NotDone(f"{refused}: it has no {needs}")
    volts = table.dac_volts(bias)
    if not isinstance(target, RoutedReference) and highest_gate_V is not None and volts > highest_gate_V:
        raise NotDone(f"{refused}: {volts:g} V on a word line or a held channel, it allows {highest_gate_V:g} V")
    match target:
        case RoutedCell(row, column):
            if not (row < table.geometry.rows and column < table.geometry.columns):
                raise NotDone(f"{refused}: there is no cell ({row}, {column})")
            if volts > table.max_wl_minus_bl_V:
                raise NotDone(
                    f"{refused}: {volts:g} V on a word line over a bit line at 0 V, the silicon stands "
                    f"{table.max_wl_minus_bl_V:g} V"
                )
            return CellLoad(die, board, target, board.volts(bias))
        case RoutedReference(index):
            if index >= len(table.reference_Ohm):
                raise NotDone(f"{refused}: there is no reference resistor {index}")
            return Resistor(die, float(board.reference_Ohm[index]))
        case RoutedDac(channel):
            if channel >= table.dac_channels:
                raise NotDone(f"{refused}: there is no DAC channel {channel}")
            return DacOutput(die, board.volts(bias))


class HasRoute(Protocol):
    """A board with a connector for the unit. ``readings``: how often a unit has read what is there, ever."""

    load: CellLoad | Resistor | None
    readings: int


class Terminals:
    """The port that an emulated SMU forces and measures: whatever one of the boards has routed to it."""

    def __init__(self, boards: Iterable[HasRoute]) -> None:
        self._boards = list(boards)
        self._open = OpenTerminals()

    def _board(self) -> HasRoute | None:
        return next((board for board in self._boards if board.load is not None), None)

    def _load(self) -> CellLoad | Resistor | None:
        board = self._board()
        return None if board is None else board.load

    def next_reading(self) -> int:
        board = self._board()
        if board is None:
            return self._open.next_reading()
        board.readings += 1
        return board.readings - 1

    def force_voltage(
        self, volts: float, limit_A: float, span_s: float, aperture_s: float = 0.0
    ) -> tuple[float, float]:
        load = self._load()
        if load is None:
            return volts, 0.0
        across = self._allowed(load, volts, limit_A)
        load.stress(across - load.offset_V, round(span_s * 1e9))
        # The cell may have switched: what the limit allows is settled again.
        conducts = load.conductance_S(aperture_s)
        current = float(np.clip((volts - load.offset_V) * conducts, -limit_A, limit_A))
        reached = volts if not conducts or abs((volts - load.offset_V) * conducts) <= limit_A else (
            current / conducts + load.offset_V
        )  # fmt: skip
        return reached, current

    @staticmethod
    def _allowed(load: CellLoad | Resistor, volts: float, limit_A: float) -> float:
        conducts = load.conductance_S()
        if conducts and abs((volts - load.offset_V) * conducts) > limit_A:
            return float(np.sign(volts - load.offset_V)) * limit_A / conducts + load.offset_V
        return volts

    def force_current(
        self, amperes: float, limit_V: float, span_s: float, aperture_s: float = 0.0
    ) -> tuple[float, float]:
        load = self._load()
        if load is None:
            return float(np.sign(amperes)) * limit_V, 0.0
        conducts = load.conductance_S(aperture_s)
        wanted = load.offset_V + (amperes / conducts if conducts else float(np.sign(amperes)) * limit_V)
        volts = float(np.clip(wanted, -limit_V, limit_V))
        load.stress(volts - load.offset_V, round(span_s * 1e9))
        return volts, (volts - load.offset_V) * load.conductance_S(aperture_s)

    def release(self) -> None:
        """Nothing is forced any more: the cell stays as it is."""
