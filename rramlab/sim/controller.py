"""The simulated controller: memory of operation ids, its own limits, simulated time and energy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InstrumentError, Refused
from rramlab.drivers.controller import PROTOCOL_VERSION, History, Identity, NotDone, Status, Sums, Tick
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.pulses import Pulse, PulseKind, PulseReport
from rramlab.macro.routes import RoutedCell, Target
from rramlab.plan import cost
from rramlab.plan.limits import Limits, check, of_board
from rramlab.plan.operations import Multiply, Operation, PulseOp, Read, ReferenceRead
from rramlab.sim.board import Lines, SimulatedBoard
from rramlab.sim.die import SimulatedDie
from rramlab.sim.memory import OperationMemory
from rramlab.sim.multiply import Frontend
from rramlab.sim.routes import CellLoad, Resistor, load_of
from rramlab.sim.slots import Loaded, Slots
from rramlab.sim.state import checked

FIRMWARE = "rramlab-sim 2"
# Called after each row with the nanoseconds that it took; False breaks the operation off.
Pace = Callable[[int], bool]


class SimulatedController:
    """A MacroController in process. The die's state, and the board's memory of operation ids, persist in one file."""

    def __init__(self, die: SimulatedDie, board: SimulatedBoard, path: Path | None = None) -> None:
        self.die, self.board, self.path = die, board, path
        self._lines = Lines(die, board)
        self._limits: Limits = of_board(board.table)
        self._slots = Slots(die, board, self._lines)
        self._memory = OperationMemory(board.table.geometry, board.table.operation_memory)
        self._nonce = 1
        self._changed = False
        # Of the state, interval and bias for which they hold.
        self._levels: tuple[tuple[int, int, float], Bools, npt.NDArray[np.float32]] | None = None
        self.pace: Pace | None = None  # none: an operation is over at once, as far as the host can tell
        self.load: CellLoad | Resistor | None = None  # what is routed to the SMU
        self.readings = 0  # of it, ever: the SMU's noise is keyed by them
        die.set_temperature(board.temperature_C)

    @property
    def _table(self) -> BoardTable:
        return self.board.table

    def power_cycle(self, forget: bool = True) -> None:
        """Lose everything volatile, as a board does when its supply is switched off and on.

        ``forget``: the memory of operation ids, too, as of a board that keeps it in memory without a battery.
        """
        self._slots.clear()
        self._release()
        if forget:
            self._memory.clear()
        self._nonce += 1
        self.persist()

    def hello(self) -> Identity:
        return Identity(
            PROTOCOL_VERSION,
            FIRMWARE,
            self.board.serial,
            self._nonce,
            self._table.geometry,
            self._limits,
            self._table.capabilities,
            self.board.temperature_C,
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
        known = self._memory.get(op_id)
        if known is not None:
            return known
        self._admit_new(op_id)
        self._refuse_routed()
        asked = Pulse(self._table.dac_volts(amplitude), width_ns / 1e9, self._table.dac_volts(gate))
        operation = PulseOp(kind, cells, asked, cells_per_pulse)
        self._admit(operation)
        real = Pulse(self.board.volts(amplitude), asked.width_s, self.board.volts(gate))
        coupling = self.die.model.switching.float_coupling
        drive = self.board.drive(kind, real.amplitude_V, cells_per_pulse, coupling)
        row_ns = cost.pulse_ns(operation, self._table)
        report = PulseReport(cells.within(0, 0))
        self._memory.put(op_id, report)
        if self.pace is not None:
            self.persist()  # what takes its time may be cut short
        for part in [cells] if self.pace is None else [part for _, _, part in cells.blocks(1)]:
            reached = self.board.faults.reached(part, kind != "reset")
            self.die.pulse(kind, reached, real, drive, row_ns)
            report = PulseReport(report.done | part)
            self._memory.put(op_id, report)
            if self.pace is not None and not self.pace(int(row_ns[part.rows].sum())):
                report = PulseReport(report.done, truncated=True)
                self._memory.put(op_id, report)
                break
        self.persist()
        return report

    def _refuse_routed(self) -> None:
        """The lines lead to the SMU while its path is closed, not to the board's own converters."""
        if self.load is not None:
            raise NotDone(f"board {self.board.serial} refused: the SMU's path is closed; nothing was done")

    def _admit_new(self, op_id: int) -> None:
        """Refuse what no operation may begin with: heat, or an id that cannot be used."""
        if self.board.temperature_C > self.board.model.highest_C:
            raise NotDone(
                f"board {self.board.serial} refused: over-temperature, {self.board.temperature_C:g} °C is above "
                f"{self.board.model.highest_C:g} °C; nothing was pulsed. Let it cool down"
            )
        self._memory.admit(op_id)

    def route(self, target: Target | None, bias: int, op_id: int = 0) -> None:
        if target is None:
            self._release()
            if self._changed:
                self.persist()  # the ledger has a sweep as done from here on
            return
        if op_id and self._memory.get(op_id) is not None:
            return  # it is a retry: the path is as that request has left it
        load = load_of(target, bias, self.die, self.board, self._limits.gate_voltage)
        if op_id:
            self._admit_new(op_id)
            bits = np.zeros(self._table.geometry.shape, np.bool_)
            if isinstance(target, RoutedCell):
                bits[target.row, target.column] = True
            self._memory.put(op_id, PulseReport(CellSelection(bits)))
        self._release()
        self.load = load
        self.persist()

    def _release(self) -> None:
        """Open the SMU's path."""
        if self.load is not None:
            self.load = None
            self._changed = True

    def read(
        self, cells: CellSelection, repeats: int, bias: int, tick: Tick | None = None, isolated: bool = False
    ) -> npt.NDArray[np.uint16]:
        used = cells.rows
        first, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
        return self.read_rows(first, cells.bits[first:stop], repeats, bias, isolated)

    def read_rows(
        self, first: int, bits: Bools, repeats: int, bias: int, isolated: bool = False
    ) -> npt.NDArray[np.uint16]:
        """Read the cells ``bits``, bool[rows, columns], of the rows from ``first`` on; otherwise as :meth:`read`."""
        self._refuse_routed()
        self._admit(Read(CellSelection(bits), repeats, isolated=isolated))
        if self._table.dac_volts(bias) > self._table.read_voltage_V:
            raise InstrumentError(f"board {self.board.serial} refused: a read at {self._table.dac_volts(bias):g} V")
        row_ns = cost.read_ns(bits, repeats, self._table)
        # A row is read in the interval of the clock in which its turn comes.
        interval = (self.die.state.clock_ns + np.cumsum(row_ns) - row_ns) // self.die.interval_ns
        volts = self.board.volts(bias)
        turns = [0, *(1 + np.flatnonzero(interval[1:] != interval[:-1])).tolist(), len(bits)]
        spans = [
            (int(interval[start]), slice(first + start, first + stop)) for start, stop in itertools.pairwise(turns)
        ]
        if isolated:
            level, loads = self._isolated(bits, spans, volts)
        else:
            parts = [self._level(number, volts, rows) for number, rows in spans]
            level = parts[0] if len(parts) == 1 else np.concatenate(parts)
            # Every source line is at ground: a row feeds all of its cells.
            loads = np.concatenate([self.die.row_loads_S(number, rows) for number, rows in spans])
        whole = level.size == np.count_nonzero(bits)  # the most frequent case by far, and the one that must be fast
        # Repeats follow one another at a cell, so a read gives the same codes in any blocks of rows.
        chosen = level.reshape(-1) if whole else level[bits]
        codes = np.empty((repeats, len(chosen)), np.float32)
        noise = self.die.take_noise(repeats * len(chosen))
        if sigma := np.float32(self.die.model.noise.read):
            np.multiply(noise.reshape(len(chosen), repeats).T, sigma, out=codes)
            codes += 1
            codes *= chosen
        else:
            codes[:] = chosen
        base = (self._table.zero_code + self.board.read_offset).astype(np.float32)
        if whole:
            array = codes.reshape(repeats, *bits.shape)
            array += base
        else:
            codes += np.broadcast_to(base, bits.shape)[bits]
        np.rint(codes, out=codes)
        codes.clip(0, (1 << self._table.adc_bits) - 1, out=codes)
        driven_s = cost.read_driven_s(bits, repeats, self._table)
        self._elapse("read", int(row_ns.sum()), volts**2 * float(loads @ driven_s), codes.size)
        return codes.astype(np.uint16)

    def _level(self, interval: int, volts: float, rows: slice) -> npt.NDArray[np.float32]:
        """Return what a read of some rows gives before noise, offset and rounding: float32[n, columns], in codes."""
        key = self.die.version, interval, volts
        if self._levels is None or self._levels[0] != key:
            shape = self._table.geometry.shape
            self._levels = key, np.zeros(shape[0], np.bool_), np.empty(shape, np.float32)
        _, known, levels = self._levels
        if not known[rows].all():
            missing = rows.start + np.flatnonzero(~known[rows])
            scale = volts / self._table.read_voltage_V / self._table.read_step_S
            levels[missing] = self._lines.read_S(interval)[missing] * self.board.read_gain * scale
            known[missing] = True
        return levels[rows]

    def _isolated(
        self, bits: Bools, spans: list[tuple[int, slice]], volts: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Return the same for an isolated read of ``bits``, and what each of its rows feeds (S): the cells read alone."""
        cells = np.concatenate([self.die.conductance_at(number, rows) for number, rows in spans]) * bits
        seen = self._lines.isolated_S(cells, bits, slice(spans[0][1].start, spans[-1][1].stop))
        scale = volts / self._table.read_voltage_V / self._table.read_step_S
        return (seen * self.board.read_gain * scale).astype(np.float32), cells.sum(axis=1, dtype=np.float64)

    def read_reference(
        self, resistor: int | None, multiply: bool, repeats: int, bias: int, tick: Tick | None = None
    ) -> npt.NDArray[np.uint16]:
        table = self._table
        self._refuse_routed()
        span: Literal["read", "multiply"] = "multiply" if multiply else "read"
        self._admit(ReferenceRead(resistor, table.dac_volts(bias), span, repeats))
        level, power_W = self.board.reference_level(resistor, multiply, bias)
        codes = np.rint(level).clip(0, (1 << table.adc_bits) - 1).astype(np.uint16)
        driven_s = cost.reference_driven_s(repeats, table)
        self._elapse("read", cost.reference_ns(repeats, table), power_W * driven_s, repeats * len(codes))
        return np.tile(codes, (repeats, 1))

    def load_gates(self, slot: int, rows: Bools, phase: npt.NDArray[np.int16]) -> None:
        self._slots.load(slot, rows, phase)

    def multiply(
        self,
        x: npt.NDArray[np.uint8],
        bits: int,
        slot: int,
        columns: npt.NDArray[np.intp],
        tick: Tick | None = None,
    ) -> Sums:
        self._refuse_routed()
        loaded = self._slots[slot]
        if not 1 <= bits <= self._table.input_bits:
            raise InstrumentError(
                f"inputs of {bits} bits were asked for, the board takes 1 to {self._table.input_bits}"
            )
        if x.ndim != 2 or x.shape[1] != len(loaded.rows):
            raise InstrumentError(f"inputs of shape {x.shape} were sent, slot {slot} drives {len(loaded.rows)} rows")
        if not loaded.admitted:
            self._admit(Multiply(slot, loaded.pattern, x, bits))
            loaded.admitted = True
        columns = np.asarray(columns, np.intp)
        codes = np.zeros((len(x), len(columns)), np.int32)
        saturated = np.zeros(len(columns), np.int64)
        if not codes.size or not len(loaded.rows):
            return Sums(codes, 0, saturated)  # nothing is driven, or nobody asked
        conversions, done, vector_ns = 0, 0, bits * loaded.plane_ns
        while done < len(x):
            clock, span = self.die.state.clock_ns, self.die.interval_ns
            frontend = self._slots.frontend(loaded, columns, clock // span)
            # The vectors whose turn comes in this interval of the clock, and no more than stay in cache.
            left = -(-(span - clock % span) // vector_ns) if vector_ns else len(x)
            stop = min(done + left, done + frontend.chunk(bits), len(x))
            part, saturations = self._multiply(frontend, loaded, x[done:stop], bits)
            codes[done:stop] = part
            if saturations is not None:
                saturated += saturations
            taken = (stop - done) * bits * frontend.conversions_per_plane
            self._elapse("multiply", (stop - done) * vector_ns, loaded.energy_J(x[done:stop], bits), taken)
            conversions, done = conversions + taken, stop
            if tick is not None:
                tick()
        return Sums(codes, conversions, saturated)

    def _multiply(
        self, frontend: Frontend, loaded: Loaded, x: npt.NDArray[np.uint8], bits: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64] | None]:
        groups, count = frontend.groups, frontend.columns
        part = loaded.placed(x, groups, frontend.lines)
        noise = None
        if self.die.model.noise.read:
            taken = self.die.take_noise(len(x) * frontend.noise_per_vector(bits))
            noise = taken.reshape(len(x), groups, bits, count)
        return frontend.multiply(part, bits, noise)

    def _admit(self, operation: Operation) -> None:
        """Enforce the board's own limits, as hardware does, whatever the host has checked."""
        try:
            check(operation, self._limits, self._table)
        except Refused as error:
            raise NotDone(f"board {self.board.serial} refused: {error}") from error

    def _elapse(self, kind: str, span_ns: int, array_J: float, conversions: int) -> None:
        """Pass simulated time and count energy: what the array took, and the converters by their data sheet."""
        self.die.pass_time(span_ns)
        energy = array_J + conversions * self._table.conversion_energy_J
        self.die.state.meter.add(kind, span_ns, energy, conversions)
        self._changed = True

    def history(self, op_id: int, tick: Tick | None = None) -> CellSelection | History:
        found = self.report(op_id)
        return found if isinstance(found, History) else found.done

    def report(self, op_id: int) -> PulseReport | History:
        """Return what is remembered of an operation, and whether it was broken off."""
        return self._memory.report(op_id)

    def acknowledge(self, op_id: int) -> None:
        # Saved with the next change: an acknowledgement that is lost only leaves the id remembered for longer.
        self._changed |= self._memory.acknowledge(op_id)

    def status(self) -> Status:
        return Status(self.load is not None, self.load is not None, self.board.temperature_C, 0, 0, ())

    def wait(self, time_s: float, tick: Tick | None = None) -> None:
        """Pass simulated time at once."""
        self.die.pass_time(round(time_s * 1e9))
        self._changed = True
        if tick is not None:
            tick()

    def heartbeat(self) -> None:
        """In process the host cannot fall silent without the board."""

    def safe_state(self) -> None:
        self._slots.clear()
        routed = self.load is not None
        self._release()
        if routed and self._changed:
            self.persist()  # what a sweep did to its cell

    def close(self) -> None:
        self.safe_state()
        # Pulses are in the file since they were given; reads and time may wait, and a full disk must not stop a safe state.
        self.settle()

    def settle(self) -> None:
        """Bring the state file up to what die and memory are now."""
        if self._changed:
            self.persist()

    def persist(self) -> None:
        """Write die and memory to the state file, if there is one."""
        if self.path is None:
            return
        counters = {"board_nonce": self._nonce, "smu_readings": self.readings}
        own = {name: np.array(count, np.uint64) for name, count in counters.items()}
        self.die.save(self.path, **own, **self._memory.arrays())
        self._changed = False

    def remember(self, memory: dict[str, npt.NDArray[Any]]) -> None:
        """Take back what :meth:`persist` wrote: the board was not switched off between two commands.

        Raises:
            KeyError, ValueError: an entry is missing, or not what it should be.
        """
        self._nonce = int(checked(memory["board_nonce"], np.uint64, (), "board_nonce"))
        if "smu_readings" in memory:  # an older file does not say: it begins at 0
            self.readings = int(checked(memory["smu_readings"], np.uint64, (), "smu_readings"))
        self._memory.take(memory)
