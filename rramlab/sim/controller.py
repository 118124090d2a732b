"""The simulated board: converters with hidden errors, gate slots, memory of operation ids, its own limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InstrumentError, Refused
from rramlab.drivers.controller import PROTOCOL_VERSION, History, Identity, Sums, Tick
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.pulses import Pulse, PulseKind, PulseReport
from rramlab.plan import cost
from rramlab.plan.limits import check, of_board
from rramlab.plan.operations import Multiply, Operation, PulseOp, Read
from rramlab.sim import randomness
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import BoardModel
from rramlab.sim.multiply import Frontend

FIRMWARE = "rramlab-sim 1"


class SimulatedBoard:
    """Hidden gains and offsets of one board, by its serial number."""

    def __init__(self, table: BoardTable, model: BoardModel, serial: str, seed: int) -> None:
        self.table, self.model, self.serial = table, model, serial
        columns = table.geometry.columns

        def draw(purpose: int) -> npt.NDArray[np.float64]:
            return randomness.normals(seed, purpose, 0, 0, columns)

        self.read_gain = 1 + model.gain_sigma * draw(randomness.BOARD_GAIN)
        self.multiply_gain = self.read_gain * (1 + model.range_sigma * draw(randomness.BOARD_RANGE))
        self.read_offset = model.offset_sigma * draw(randomness.BOARD_READ_OFFSET)
        self.multiply_offset = model.offset_sigma * draw(randomness.BOARD_MULTIPLY_OFFSET)


class SimulatedController:
    """A MacroController in process. The die's state, and the board's memory of operation ids, persist in one file."""

    def __init__(self, die: SimulatedDie, board: SimulatedBoard, path: Path | None = None) -> None:
        self.die, self.board, self.path = die, board, path
        self._slots: dict[int, GatePattern] = {}
        self._frontends: dict[tuple[int, bytes], Frontend] = {}
        self._memory: dict[int, CellSelection] = {}
        self._highest = -1  # highest operation id seen since power-up
        self._nonce = 1
        self._changed = False

    @property
    def _table(self) -> BoardTable:
        return self.board.table

    def power_cycle(self) -> None:
        """Forget everything volatile, as a board does when its supply is switched off and on."""
        self._slots.clear()
        self._frontends.clear()
        self._memory.clear()
        self._highest = -1
        self._nonce += 1
        self.persist()

    def hello(self) -> Identity:
        return Identity(
            PROTOCOL_VERSION,
            FIRMWARE,
            self.board.serial,
            self._nonce,
            self._table.geometry,
            of_board(self._table),
            self._table.capabilities,
            25.0,
        )

    def pulse(
        self,
        op_id: int,
        kind: PulseKind,
        cells: CellSelection,
        amplitude: int,
        width_ns: int,
        gate: int,
        cells_per_pulse: int,
        tick: Tick | None = None,
    ) -> PulseReport:
        if op_id in self._memory:
            return PulseReport(self._memory[op_id])
        if op_id <= self._highest:
            raise InstrumentError(f"operation id {op_id} was used before and is forgotten; nothing was pulsed")
        if len(self._memory) >= self._table.operation_memory:
            raise InstrumentError(
                f"the board remembers {len(self._memory)} operations and takes no more; nothing was pulsed. "
                "Acknowledge those whose outcome is written down"
            )
        pulse = Pulse(self._table.dac_volts(amplitude), width_ns / 1e9, self._table.dac_volts(gate))
        operation = PulseOp(kind, cells, pulse, cells_per_pulse)
        self._admit(operation)
        self.die.pulse(kind, cells, pulse)
        self._elapse(operation)
        self._frontends.clear()
        self._memory[op_id] = cells
        self._highest = op_id
        self.persist()
        return PulseReport(cells)

    def read(self, cells: CellSelection, repeats: int, bias: int, tick: Tick | None = None) -> npt.NDArray[np.uint16]:
        operation = Read(cells, repeats)
        self._admit(operation)
        if self._table.dac_volts(bias) > self._table.read_voltage_V:
            raise InstrumentError(f"board {self.board.serial} refused: a read at {self._table.dac_volts(bias):g} V")
        self._elapse(operation)
        columns = np.nonzero(cells.bits)[1]
        scale = self._table.dac_volts(bias) / self._table.read_voltage_V / self._table.read_step_S
        conductance = self.die.state.conductance_S[cells.bits]
        level = (conductance * self.board.read_gain[columns] * scale).astype(np.float32)
        noise = self.die.take_noise(repeats * len(columns)).reshape(repeats, len(columns))
        codes = level * (1 + np.float32(self.die.model.read_noise) * noise)
        codes += (self._table.zero_code + self.board.read_offset[columns]).astype(np.float32)
        np.rint(codes, out=codes)
        return np.clip(codes, 0, (1 << self._table.adc_bits) - 1, out=codes).astype(np.uint16)

    def load_gates(self, slot: int, rows: Bools, phase: npt.NDArray[np.int16]) -> None:
        if not 0 <= slot < self._table.gate_slots:
            raise InstrumentError(f"gate slot {slot} does not exist, the board has {self._table.gate_slots}")
        pattern = GatePattern(rows, phase)
        if pattern.geometry != self._table.geometry:
            raise InstrumentError(f"a gate pattern for {pattern.geometry} was sent to {self._table.geometry}")
        self._slots[slot] = pattern
        self._frontends = {key: value for key, value in self._frontends.items() if key[0] != slot}

    def multiply(
        self,
        x: npt.NDArray[np.uint8],
        bits: int,
        slot: int,
        columns: npt.NDArray[np.intp],
        tick: Tick | None = None,
    ) -> Sums:
        pattern = self._pattern(slot, columns)
        if not 1 <= bits <= self._table.input_bits:
            raise InstrumentError(
                f"inputs of {bits} bits were asked for, the board takes 1 to {self._table.input_bits}"
            )
        if x.ndim != 2 or x.shape[1] != np.count_nonzero(pattern.driven):
            raise InstrumentError(
                f"inputs of shape {x.shape} were sent, slot {slot} drives {np.count_nonzero(pattern.driven)} rows"
            )
        operation = Multiply(slot, pattern, x, bits)
        self._admit(operation)
        self._elapse(operation)
        frontend = self._frontend(slot, pattern, columns)
        groups, lines, count = frontend.signal.shape
        codes = np.empty((len(x), len(columns)), np.int32)
        saturated = np.zeros(len(columns), np.int64)
        slots = self._line_slots(pattern)
        step = frontend.chunk(bits)
        for start in range(0, len(x), step):
            part = np.zeros((min(step, len(x) - start), groups * lines), np.uint8)
            part[:, slots] = x[start : start + step]
            noise = None
            if self.die.model.read_noise:
                taken = self.die.take_noise(len(part) * frontend.noise_per_vector(bits))
                noise = taken.reshape(len(part), groups, bits, count)
            done, clipped = frontend.multiply(part.reshape(len(part), groups, lines), bits, noise)
            codes[start : start + step] = done
            saturated += clipped
            if tick is not None:
                tick()
        return Sums(codes, len(x) * bits * frontend.conversions_per_plane, saturated)

    def _pattern(self, slot: int, columns: npt.NDArray[np.intp]) -> GatePattern:
        if slot not in self._slots:
            raise InstrumentError(f"gate slot {slot} is empty: patterns are lost when the board goes to its safe state")
        pattern = self._slots[slot]
        if not pattern.enabled[columns].all():
            raise InstrumentError(f"a column was asked for that the pattern in slot {slot} turns off")
        return pattern

    def _frontend(self, slot: int, pattern: GatePattern, columns: npt.NDArray[np.intp]) -> Frontend:
        """The fixed matrix of this state, pattern and columns; rebuilt only when the state has changed."""
        key = (slot, columns.tobytes())
        if key not in self._frontends:
            self._frontends[key] = Frontend.build(
                self.die.state.conductance_S,
                pattern,
                columns,
                self.board.multiply_gain[columns] / self._table.multiply_step_S,
                self._table.zero_code + self.board.multiply_offset[columns],
                self.die.model.read_noise,
                self._table.lines_at_once,
                (1 << self._table.adc_bits) - 1,
            )
        return self._frontends[key]

    def _line_slots(self, pattern: GatePattern) -> npt.NDArray[np.intp]:
        """Where each driven row lies among the groups that are used."""
        size = self._table.lines_at_once
        used = pattern.active_groups(size).any(axis=0)
        rows = np.flatnonzero(pattern.driven)
        return np.asarray((np.cumsum(used) - 1)[rows // size] * size + rows % size)

    def _admit(self, operation: Operation) -> None:
        """Enforce the board's own limits, as hardware does, whatever the host has checked."""
        try:
            check(operation, of_board(self._table), self._table)
        except Refused as error:
            raise InstrumentError(f"board {self.board.serial} refused: {error}") from error

    def _elapse(self, operation: Operation) -> None:
        self.die.state.clock_s += cost.of(operation, self._table).time_s
        self._changed = True

    def history(self, op_id: int) -> CellSelection | History:
        if op_id in self._memory:
            return self._memory[op_id]
        return History.FORGOTTEN if op_id <= self._highest else History.NEVER

    def acknowledge(self, op_id: int) -> None:
        # Saved with the next change: an acknowledgement that is lost only leaves the id remembered for longer.
        kept = {known: done for known, done in self._memory.items() if known > op_id}
        self._changed |= len(kept) < len(self._memory)
        self._memory = kept

    def heartbeat(self) -> None:
        """In process the host cannot fall silent without the board."""

    def safe_state(self) -> None:
        self._slots.clear()
        self._frontends.clear()
        if self._changed:
            self.persist()

    def close(self) -> None:
        self.safe_state()

    def persist(self) -> None:
        """Write die and memory to the state file, if there is one."""
        if self.path is None:
            return
        memory: dict[str, npt.NDArray[Any]] = {
            "board_nonce": np.uint64(self._nonce),  # type: ignore[dict-item]  # a 0-d array once stored
            "board_highest": np.int64(self._highest),  # type: ignore[dict-item]
            "board_ids": np.array(sorted(self._memory), np.int64),
            "board_done": np.frombuffer(b"".join(self._memory[i].packed() for i in sorted(self._memory)), np.uint8),
        }
        self.die.save(self.path, **memory)
        self._changed = False

    def remember(self, memory: dict[str, npt.NDArray[Any]]) -> None:
        """Take back what :meth:`persist` wrote: the board was not switched off between two commands."""
        self._nonce = int(memory["board_nonce"])
        self._highest = int(memory["board_highest"])
        ids = memory["board_ids"].tolist()
        done: list[npt.NDArray[np.uint8]] = list(memory["board_done"].reshape(len(ids), -1)) if ids else []
        self._memory = {
            op_id: CellSelection.from_packed(bits.tobytes(), self._table.geometry)
            for op_id, bits in zip(ids, done, strict=True)
        }
