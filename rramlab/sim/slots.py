"""The slots that hold gate patterns, and what each makes of the die's state: the matrix of its products."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InstrumentError
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools
from rramlab.macro.gates import GatePattern
from rramlab.plan import cost
from rramlab.sim.board import Lines, SimulatedBoard
from rramlab.sim.die import SimulatedDie
from rramlab.sim.multiply import Frontend, lines_used

_FRONTENDS = 4  # matrices kept for a slot: 2 MB each for a whole array


@dataclass(eq=False)
class Loaded:
    """A gate pattern in its slot, and what follows from it alone."""

    pattern: GatePattern
    rows: npt.NDArray[np.intp]  # driven
    places: npt.NDArray[np.intp]  # of each driven row among the lines of the groups that are used
    plane_ns: int  # one bit plane of one vector
    driven_s: npt.NDArray[np.float64]  # how long each driven row carries the read voltage
    admitted: bool = False
    # By the columns asked for; of the state and interval for which they hold.
    frontends: dict[bytes, Frontend] = field(default_factory=dict)
    line_J: npt.NDArray[np.float64] | None = None
    of: tuple[int, int] = (-1, -1)

    @classmethod
    def load(cls, pattern: GatePattern, table: BoardTable) -> Loaded:
        size = table.lines_at_once
        used = pattern.active_groups(size).any(axis=0)
        rows = np.flatnonzero(pattern.driven)
        places = (np.cumsum(used) - 1)[rows // size] * lines_used(rows, size) + rows % size
        plane_ns = int(cost.plane_ns(pattern, table).sum())
        return cls(pattern, rows, places, plane_ns, cost.driven_s(pattern, table)[rows])

    def placed(self, x: npt.NDArray[np.uint8], groups: int, lines: int) -> npt.NDArray[np.uint8]:
        """Put input codes, uint8[batch, driven rows], where their rows lie: uint8[batch, groups, lines]."""
        if len(self.rows) == groups * lines:
            return x.reshape(len(x), groups, lines)
        part = np.zeros((len(x), groups * lines), np.uint8)
        part[:, self.places] = x
        return part.reshape(len(x), groups, lines)

    def energy_J(self, x: npt.NDArray[np.uint8], bits: int) -> float:
        """Return what the driven lines dissipate: every source line is held at ground, asked for or not."""
        assert self.line_J is not None  # made with the frontend
        on = np.bitwise_count(x & np.uint8((1 << bits) - 1)).sum(axis=0)
        return float(on @ self.line_J)


class Slots:
    """A board's gate patterns."""

    def __init__(self, die: SimulatedDie, board: SimulatedBoard, lines: Lines) -> None:
        self._die, self._board, self._lines = die, board, lines
        self._slots: dict[int, Loaded] = {}

    def clear(self) -> None:
        """Lose all patterns."""
        self._slots.clear()

    def load(self, slot: int, rows: Bools, phase: npt.NDArray[np.int16]) -> None:
        """Take a pattern, as :meth:`rramlab.drivers.controller.MacroController.load_gates`."""
        table = self._board.table
        if not 0 <= slot < table.gate_slots:
            raise InstrumentError(f"gate slot {slot} does not exist, the board has {table.gate_slots}")
        pattern = GatePattern(rows, phase)
        if pattern.geometry != table.geometry:
            raise InstrumentError(f"a gate pattern for {pattern.geometry} was sent to {table.geometry}")
        self._slots[slot] = Loaded.load(pattern, table)

    def __getitem__(self, slot: int) -> Loaded:
        if slot not in self._slots:
            raise InstrumentError(f"gate slot {slot} is empty: patterns are lost when the board goes to its safe state")
        return self._slots[slot]

    def _input_V(self) -> float:
        """Return what a bit line that is on really carries."""
        table = self._board.table
        return self._board.volts(table.dac_code(table.read_voltage_V))

    def frontend(self, loaded: Loaded, columns: npt.NDArray[np.intp], interval: int) -> Frontend:
        """The fixed matrix of this state, interval, pattern and columns; rebuilt only when the state has changed."""
        die, board, table = self._die, self._board, self._board.table
        if loaded.of != (die.version, interval):
            loaded.frontends.clear()
            loaded.of = (die.version, interval)
            first, last = int(loaded.rows[0]), int(loaded.rows[-1])
            loads = die.row_loads_S(interval, slice(first, last + 1))[loaded.rows - first]
            loaded.line_J = self._input_V() ** 2 * loads * loaded.driven_s
        key = columns.tobytes()
        if key not in loaded.frontends:
            if not loaded.pattern.enabled[columns].all():
                raise InstrumentError("a column was asked for that the loaded gate pattern turns off")
            while len(loaded.frontends) >= _FRONTENDS:
                del loaded.frontends[next(iter(loaded.frontends))]
            seen = self._lines.multiply_S(interval, loaded.pattern, table.lines_at_once)
            scale = board.multiply_gain[columns] * (self._input_V() / table.input_V / table.multiply_step_S)
            always_on = board.faults.added(seen)[columns]
            if board.faults.stuck_rows:
                seen = seen.copy()
                seen[list(board.faults.stuck_rows)] = 0.0  # whatever the inputs say
            loaded.frontends[key] = Frontend.build(
                seen,
                loaded.pattern,
                columns,
                scale,
                table.zero_code + board.multiply_offset[columns] + always_on * scale,
                die.model.noise.read,
                table.lines_at_once,
                (1 << table.adc_bits) - 1,
            )
        return loaded.frontends[key]
