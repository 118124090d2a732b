"""The die as Python sees it: siemens and numpy. Every call goes through the guard; pulses and reads are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, InvalidValue, UsageError
from rramlab.base.numbers import shown, whole
from rramlab.base.times import wall
from rramlab.engine.contact import ContactReport
from rramlab.engine.station import Station
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import CellSelection
from rramlab.macro.compensation import Compensation
from rramlab.macro.conditions import Conditions
from rramlab.macro.crossbar import LineResistances
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.placement import Tile
from rramlab.macro.pulses import Pulse, PulseKind, PulseReport, pulse_kind
from rramlab.macro.regions import Region
from rramlab.plan.operations import Contact, LoadGates, Multiply, PulseOp, Read
from rramlab.plan.steps import MOST_REPEATS
from rramlab.runs.store import Run

_COMPENSATION_READS = 16  # of each cell: their mean is what the lines are taken off
Floats = npt.NDArray[np.float32]
Cells = CellSelection | Region | str
P = ParamSpec("P")
R = TypeVar("R")


def _operation(
    method: Callable[Concatenate[SessionMacro, P], R],
) -> Callable[Concatenate[SessionMacro, P], R]:
    """Make a method one operation of the session, see :meth:`Session._operation`."""

    @functools.wraps(method)
    def whole(self: SessionMacro, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._working():
            return method(self, *args, **kwargs)

    return whole


class SessionMacro:
    """One die of a session; implements :class:`rramlab.macro.protocol.Macro`.

    Pulses and reads are appended to one interactive run, opened when first needed. Products are not stored.
    """

    def __init__(
        self,
        station: Station,
        open_run: Callable[[Station], Run],
        working: Callable[[], AbstractContextManager[None]],
        lines: Callable[[], LineResistances | None] = lambda: None,
        compensated: bool = False,
    ) -> None:
        """``working``: what each operation is done within.

        ``lines``: returns them as they were measured, or None. ``compensated``: see :attr:`compensated`.
        """
        self._station, self._open_run, self._working = station, open_run, working
        self._lines = lines
        self.compensated = compensated  # whether what is returned is of the bare cells, without what the lines lose
        self._compensation: tuple[int, Compensation] | None = None  # with the last operation of the ledger before it
        self._run: Run | None = None
        self._position = 0
        self._slots: dict[str, int] = {}
        self.conversions = 0  # of all multiplies so far
        self.saturated = 0

    @property
    def die_id(self) -> str:
        return self._station.die_id

    @property
    def geometry(self) -> Geometry:
        return self._station.board.geometry

    @property
    def board(self) -> BoardTable:
        return self._station.board

    @_operation
    def conditions(self) -> Conditions:
        """Return under which conditions a read is taken now; asks the board how warm it is."""
        station = self._station
        station.identify()
        return Conditions(
            station.die_id,
            wall(),
            station.identity.temperature_C,
            station.calibration.record or "",
            station.ledger.last_id,
            self.compensated,
        )

    @_operation
    def contact(self) -> ContactReport:
        """Test the lines at no more than 0.1 V; pulses need a test that passed within the last hour."""
        return self._station.contact(Contact(CellSelection.everything(self.geometry)))

    @_operation
    def pulse(self, kind: PulseKind, cells: Cells, pulse: Pulse, again: bool = False) -> PulseReport:
        """Give each selected cell exactly one pulse; the session must be armed for this die.

        Electroforming more than a few rows needs a pilot block: run a plan or protocol for that. A cell is electroformed once
        in its life. ``again``: cells that had a pulse are meant, too; each was read in this session since, and none is
        ``unknown``.

        Raises:
            Refused: nothing was pulsed by it. UsageError: ``again`` with another kind, which may be repeated as it is.
        """
        kind = pulse_kind(kind)
        if not isinstance(pulse, Pulse):
            raise InvalidValue(f"the pulse is {shown(pulse)}, expected a Pulse(amplitude_V, width_s, gate_V)")
        if not isinstance(again, (bool, np.bool_)):
            raise InvalidValue(f"again is {shown(again)}, expected True or False; nothing was pulsed")
        if again and kind != "electroform":
            raise UsageError(
                f"found again=True for a {kind} pulse, expected it with electroform only; nothing was pulsed"
            )
        selection = self._resolve(cells)
        if not selection.count:
            return PulseReport(selection)
        run, position = self._next()
        operation = PulseOp(kind, selection, pulse, self.board.cells_per_pulse, again=bool(again))
        return self._station.pulse(operation, run.id, position, planned=False)

    @_operation
    def read(self, cells: Cells = "all", repeats: int = 1) -> Floats:
        """Return siemens, float32[rows, columns], the mean over ``repeats``; NaN outside the selection.

        Where :attr:`compensated`, of the cells without their lines; what is stored is what was read.
        """
        repeats = whole(repeats, "the number of reads a cell (repeats)", 1, MOST_REPEATS)
        selection = self._resolve(cells)
        result = np.full(self.geometry.shape, np.nan, np.float32)
        if not selection.count:
            return result
        run, position = self._next()
        operation, last = Read(selection, repeats), self._station.ledger.last_id
        block = self._station.read(operation, run=run.id)
        run.append_cells(position, operation, block, self._station.calibration.record, last)
        start = int(selection.rows[0])
        result[start : start + len(block)] = block["conductance"]
        return self.compensation.of_reads(result) if self.compensated else result

    @_operation
    def weights(self, tile: Tile, repeats: int = 1) -> Floats:
        """Return G⁺ − G⁻ of the tile's pairs in siemens, float32[inputs, outputs]."""
        if not isinstance(tile, Tile):
            raise InvalidValue(f"found the tile {shown(tile)}, expected a Tile of a placement")
        bits = np.zeros(self.geometry.shape, np.bool_)
        bits[tile.row_slice, tile.column_slice] = True
        cells = self.read(CellSelection(bits), repeats)[tile.row_slice, tile.column_slice]
        return np.asarray(cells[:, 0::2] - cells[:, 1::2])

    @_operation
    def multiply(self, x: npt.NDArray[np.uint8], bits: int, tile: Tile, gates: GatePattern) -> Floats:
        """Return x · (G⁺ − G⁻) over the rows that ``gates`` enables: float32[batch, outputs], siemens × code.

        ``x``: uint8[batch, tile inputs], unsigned codes below 2^bits; signed inputs are the caller's (two multiplies).
        Zero codes are taken off. Pairs that ``gates`` turns off give 0. Nothing is stored. Where :attr:`compensated`, products
        of the cells without their lines: each group of rows by itself, at no further conversion.
        """
        bits = whole(bits, "bits of an input", 1, self.board.input_bits)
        if not isinstance(x, np.ndarray):
            raise InvalidValue(
                f"found inputs {shown(x)}, expected uint8[batch, {tile.inputs}] for layer {tile.layer!r}"
            )
        if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != tile.inputs:
            raise UsageError(
                f"found inputs {x.dtype}{x.shape}, expected uint8[batch, {tile.inputs}] for layer {tile.layer!r}"
            )
        if x.size and int(x.max()) >= 1 << bits:
            raise UsageError(f"found the input code {int(x.max())}, expected codes below {1 << bits} ({bits} bits)")
        if gates.geometry != self.geometry:
            raise UsageError(f"the gate pattern is for {gates.geometry}, the die is {self.geometry}")
        driven = np.flatnonzero(gates.driven)
        columns = np.flatnonzero(gates.enabled)
        products = np.zeros((len(x), tile.outputs), np.float32)
        if not columns.size or not len(x):
            return products
        rows, pairs = tile.row_slice, tile.pair_slice
        if (
            driven[0] < rows.start
            or driven[-1] >= rows.stop
            or columns[0] < 2 * pairs.start
            or columns[-1] >= 2 * pairs.stop
        ):
            raise UsageError(
                f"the gate pattern enables rows or pairs outside the tile of layer {tile.layer!r}, rows {rows.start}-"
                f"{rows.stop - 1} and pairs {pairs.start}-{pairs.stop - 1}"
            )
        if self.compensated:
            values = self._of_bare_cells(x, bits, tile.row, gates, columns)
        else:
            values = self._products(x[:, _run(driven - tile.row)], bits, gates, columns)
        products[:, _run(columns[0::2] // 2 - tile.pair)] = values[:, 0::2] - values[:, 1::2]
        return products

    def _products(
        self, x: npt.NDArray[np.uint8], bits: int, gates: GatePattern, columns: npt.NDArray[np.intp]
    ) -> Floats:
        """Multiply ``x``, uint8[batch, driven rows]: float32[batch, n] of the n ``columns``."""
        operation = Multiply(self._slot(gates), gates, np.ascontiguousarray(x), bits)
        sums, values = self._station.multiply(operation, columns)
        self.conversions += sums.conversions
        self.saturated += int(sums.saturated.sum())
        return values

    def _of_bare_cells(
        self, x: npt.NDArray[np.uint8], bits: int, first: int, gates: GatePattern, columns: npt.NDArray[np.intp]
    ) -> Floats:
        """As :meth:`_products`, what the lines lose given back. ``x``: uint8[batch, inputs], of the rows from ``first`` on."""
        compensation, values = self.compensation, np.zeros((len(x), columns.size), np.float32)
        for group, part in gates.by_group(self.board.lines_at_once):
            driven = np.flatnonzero(part.driven)
            inputs = x[:, driven - first]
            totals = inputs.astype(np.int64) @ part.rows[:, driven].T.astype(np.int64)
            found = self._products(inputs, bits, part, columns)
            values += compensation.of_products(group, found, totals[:, part.phase[columns]], columns)
        return values

    @property
    @_operation
    def compensation(self) -> Compensation:
        """What the lines take, by their record and a read of the whole array; made anew when cells were pulsed since.

        Raises:
            DataError: the lines were not measured.
        """
        last = self._station.ledger.last_id
        if self._compensation is None or self._compensation[0] != last:
            lines = self._lines()
            if lines is None:
                raise DataError(
                    f"the lines of board {self._station.identity.board_serial!r} and die {self.die_id!r} were not measured, or "
                    "that holds no longer, so what they lose cannot be given back. Measure them: rramlab calibrate "
                    "lines; or leave compensation off"
                )
            run, position = self._next()
            operation = Read(CellSelection.everything(self.geometry), _COMPENSATION_READS)
            block = self._station.read(operation, run=run.id)
            run.append_cells(position, operation, block, self._station.calibration.record, last)
            self._compensation = last, Compensation.of(block["conductance"], lines, self.board.lines_at_once)
        return self._compensation[1]

    def forget_gates(self) -> None:
        """Patterns are lost when the board goes to its safe state; the next multiply loads its own again."""
        self._slots.clear()

    def finish(self) -> None:
        """Close the interactive run, if there is one."""
        if self._run is not None:
            self._station.keep_last_read()
            self._run.finish("done")
            self._run.consolidate()
            self._run = None

    def _slot(self, gates: GatePattern) -> int:
        """Return the slot that holds ``gates``, loading it into the one used longest ago if none does."""
        slot = self._slots.pop(gates.digest, None)
        if slot is None:
            taken = set(self._slots.values())
            free = next((index for index in range(self.board.gate_slots) if index not in taken), None)
            slot = self._slots.pop(next(iter(self._slots))) if free is None else free
            self._station.load_gates(LoadGates(slot, gates))
        self._slots[gates.digest] = slot
        return slot

    def _resolve(self, cells: Cells) -> CellSelection:
        if isinstance(cells, CellSelection):
            if cells.geometry != self.geometry:
                raise UsageError(f"the selection is for {cells.geometry}, the die is {self.geometry}")
            return cells
        region = Region(cells) if isinstance(cells, str) else cells
        if not isinstance(region, Region):
            raise InvalidValue(
                f"found the cells {shown(cells)}, expected a region such as 'rows 0-3', a Region or a CellSelection; of an "
                "array bool[rows, columns]: Region.of(array)"
            )
        return region.resolve(self.geometry, self._station.state)

    def _next(self) -> tuple[Run, str]:
        if self._run is None:
            self._run = self._open_run(self._station)
        self._run.check_there()
        self._position += 1
        return self._run, f"{self._position:06d}.00000"  # each call is a step of its own


def _run(indices: npt.NDArray[np.intp]) -> slice | npt.NDArray[np.intp]:
    """Return rising indices as a slice where none is left out: what it selects is then not copied."""
    first, stop = int(indices[0]), int(indices[-1]) + 1
    return slice(first, stop) if stop - first == len(indices) else indices
