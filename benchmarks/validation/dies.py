"""Simulated dies: alone, or on a board as a bench has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rramlab.drivers.boardfile import load_board
from rramlab.macro.cells import CONDUCTING_THRESHOLD_S, CellSelection
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel, DieModel
from validation.common import FORM

TABLE = load_board(Path(__file__).resolve().parents[2], "macro-40nm")[0].table()


def formed(geometry, seed, pulse=FORM, preset="published", **changes):
    """Return a die whose cells were each given one pulse alone."""
    die = SimulatedDie(geometry, DieModel.preset(preset, changes), seed)
    die.pulse("electroform", CellSelection.everything(geometry), pulse)
    return die


def conducts(die):
    return die.conductance_S >= CONDUCTING_THRESHOLD_S


def logarithms(die):
    """Return ln G: float64[rows, columns]."""
    return np.log(die.conductance_S.astype(np.float64))


class Bench:
    """A die on a simulated board: pulses, reads and products by the controller."""

    def __init__(self, geometry, seed, die="published", **changes):
        self.geometry, self.table, self.op = geometry, replace(TABLE, geometry=geometry), 0
        self.die = SimulatedDie(geometry, DieModel.preset(die, changes), seed)
        self.board = SimulatedBoard(self.table, BoardModel(), "TWIN", seed)
        self.controller = SimulatedController(self.die, self.board)
        self.read_code = self.table.dac_code(self.table.read_voltage_V)

    @property
    def all(self):
        return np.ones(self.geometry.shape, np.bool_)

    @property
    def input_V(self):
        """What the DAC really puts out for reads and products."""
        return self.board.volts(self.read_code)

    def form_alone(self):
        """Form every cell by a pulse of its own, past the board: without droop or errors of the DAC."""
        self.die.pulse("electroform", CellSelection(self.all), FORM)

    def pulse(self, kind, bits, pulse):
        self.op += 1
        amplitude, gate = self.table.dac_code(pulse.amplitude_V), self.table.dac_code(pulse.gate_V)
        width_ns, together = round(pulse.width_s * 1e9), self.table.cells_per_pulse
        self.controller.pulse(self.op, kind, CellSelection(bits), amplitude, width_ns, gate, together)
        self.controller.acknowledge(self.op)

    def read(self, bits, repeats=1):
        """Return codes, uint16[repeats, cells]."""
        return self.controller.read(CellSelection(bits), repeats, self.read_code)

    def read_S(self, bits, repeats=1):
        """Return the mean of ``repeats`` reads by the nominal conversion: float64[cells]."""
        return (self.read(bits, repeats).mean(axis=0) - self.table.zero_code) * self.table.read_step_S

    def multiply(self, x, bits):
        """Return codes, int32[vectors, columns], of inputs on every row, uint8[vectors, rows]."""
        rows, columns = self.geometry.shape
        self.controller.load_gates(0, np.ones((1, rows), np.bool_), np.zeros(columns, np.int16))
        return self.controller.multiply(x, bits, 0, np.arange(columns)).codes
