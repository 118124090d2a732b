"""A plan: steps in order, the row-block size they are executed in, and their worst case."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import Refused, UsageError
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import CellSelection, CellState
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference, Target
from rramlab.plan import cost
from rramlab.plan.cost import Cost
from rramlab.plan.limits import Limits
from rramlab.plan.operations import (
    Contact,
    Expect,
    LoadGates,
    Multiply,
    Operation,
    PulseOp,
    Read,
    Route,
    Sweep,
    pulse_of,
)
from rramlab.plan.steps import (
    ContactStep,
    ExpectStep,
    GateStep,
    MultiplyStep,
    PulseStep,
    ReadStep,
    RouteStep,
    Step,
    SweepStep,
)


class Bounds(BaseModel):
    """The worst case of a plan, whatever the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    operations: int
    max_voltage_V: float
    pulses: int
    cells: int  # distinct cells that are pulsed
    pulses_per_cell: int  # of the cell pulsed most
    conversions: int
    time_s: float
    energy_J: float


class Plan(BaseModel):
    """Steps to execute on one die; survives JSON unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    steps: tuple[Step, ...]
    block_rows: int = Field(default=64, ge=1)
    limits: Limits = Limits()  # the protocol's own, intersected with all others
    protocol: str = ""  # the text it was made from
    parameters: dict[str, float | int | str] = Field(default_factory=dict)

    @property
    def destructive(self) -> bool:
        return any(step.stresses for step in self.steps)


def selection(step: Step, geometry: Geometry, state: CellState | None) -> CellSelection:
    """Resolve a step's region: with the state exactly, without it its worst case.

    Raises:
        UsageError: the region lies off the die, or is not one cell where one is needed. Refused: it asks what is not
        known, see Region.resolve.
    """
    cells = getattr(step, "cells", "all")
    try:
        region = Region(cells)
        chosen = region.bound(geometry) if state is None else region.resolve(geometry, state)
    except (Refused, UsageError) as error:
        raise type(error)(str(error), step.source) from None
    if isinstance(step, (SweepStep, RouteStep)) and step.cell is not None and chosen.count != 1:
        raise UsageError(
            f"found {cells!r}, which means {chosen.count:,} cells, expected one cell such as '(3, 7)'", step.source
        )
    return chosen


def operations(
    step: Step, cells: CellSelection, board: BoardTable, block_rows: int, patterns: dict[int, LoadGates]
) -> Iterator[Operation]:
    """Expand one step into operations, row block by row block; deterministic for the same arguments.

    ``cells``: the step's frozen selection. ``patterns``: gate patterns loaded so far, by slot; a gate step adds its own.

    Raises:
        UsageError: a multiply names a slot that no earlier step loaded.
    """
    geometry = board.geometry
    match step:
        case PulseStep():
            yield from _pulses(step, cells, board, block_rows)
        case ReadStep():
            for _, _, part in cells.blocks(block_rows):
                yield Read(part, step.repeats, step.name, source=step.source)
        case GateStep():
            load = LoadGates(step.slot, step.gate_pattern(geometry), step.source)
            patterns[step.slot] = load
            yield load
        case MultiplyStep():
            if step.slot not in patterns:
                raise UsageError(f"multiply from slot {step.slot}, which no earlier gate step loads", step.source)
            pattern = patterns[step.slot].pattern
            x = step.codes(int(np.count_nonzero(pattern.driven)))
            yield Multiply(step.slot, pattern, x, step.bits, step.name, step.source)
        case ContactStep():
            yield Contact(CellSelection.everything(geometry), step.source)
        case SweepStep():
            yield Sweep(
                step.purpose,
                cells,
                step.voltage,
                step.points,
                step.dwell,
                step.compliance,
                step.gate_V,
                step.both_ways,
                step.smu,
                step.name,
                step.source,
            )
        case RouteStep():
            yield Route(
                _target(step, cells),
                step.voltage,
                step.compliance,
                step.gate_V,
                step.count,
                step.hold,
                step.smu,
                step.name,
                step.source,
            )
        case ExpectStep():
            stop = step.on_failure == "stop"
            yield Expect(cells, step.window, stop, f"region {Region(step.cells)}", step.source)


def _pulses(step: PulseStep, cells: CellSelection, board: BoardTable, block_rows: int) -> Iterator[Operation]:
    """Pulse blocks; with a pilot, its rows come first, are read and judged, and the judgement is repeated on the way."""
    shots = step.cells_per_pulse or board.cells_per_pulse
    rest = cells
    pilot = step.pilot
    if pilot is not None and cells.count:
        last = int(cells.rows[: pilot.rows][-1]) + 1
        first = cells.within(0, last)
        yield PulseOp(step.kind, first, step.pulse, shots, step.source)
        yield Read(first, 1, "pilot", source=step.source)
        yield Expect(first, pilot, True, "the pilot block", step.source)
        rest = cells.within(last, board.geometry.rows)
    rows_since = 0
    for start, stop, part in rest.blocks(block_rows):
        yield PulseOp(step.kind, part, step.pulse, shots, step.source)
        rows_since += stop - start
        if pilot is not None and rows_since >= pilot.recheck_rows:
            rows_since = 0
            yield Read(part, 1, "pilot", source=step.source)
            yield Expect(part, pilot, True, f"the block of rows {start}-{stop - 1}", step.source)


def _target(step: RouteStep, cells: CellSelection) -> Target:
    if step.reference is not None:
        return RoutedReference(step.reference)
    if step.dac is not None:
        return RoutedDac(step.dac)
    row, column = (int(index) for index in np.argwhere(cells.bits)[0])
    return RoutedCell(row, column)


def worst_case(plan: Plan, board: BoardTable) -> list[tuple[Step, list[Operation]]]:
    """Expand the whole plan with every data-dependent region at its largest."""
    patterns: dict[int, LoadGates] = {}
    return [
        (step, list(operations(step, selection(step, board.geometry, None), board, plan.block_rows, patterns)))
        for step in plan.steps
    ]


def bounds(expanded: list[tuple[Step, list[Operation]]], board: BoardTable) -> Bounds:
    """Add up what :func:`worst_case` returned."""
    total = sum((cost.of(operation, board) for _, each in expanded for operation in each), Cost())
    wear = np.zeros(board.geometry.shape, np.int64)
    volts = 0.0
    count = 0
    for _, each in expanded:
        for operation in each:
            count += 1
            volts = max(volts, _highest_V(operation, board))
            pulse = pulse_of(operation)
            if pulse is not None:
                wear += pulse.cells.bits
    return Bounds(
        operations=count,
        max_voltage_V=volts,
        pulses=total.pulses,
        cells=int(np.count_nonzero(wear)),
        pulses_per_cell=int(wear.max()),
        conversions=total.conversions,
        time_s=total.time_s,
        energy_J=total.energy_J,
    )


def _highest_V(operation: Operation, board: BoardTable) -> float:
    """Return the highest voltage of any line in an operation."""
    match operation:
        case PulseOp(pulse=pulse):
            return max(pulse.amplitude_V, pulse.gate_V)
        case Read() | Multiply():
            return board.read_voltage_V
        case Contact():
            return board.contact_voltage_V
        case Sweep():
            return max(operation.peak_V, operation.gate_V)
        case Route():
            return max(operation.voltage_V, operation.bias_V)
        case _:
            return 0.0
