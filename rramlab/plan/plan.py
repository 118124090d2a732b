"""A plan: steps in order, and the operations that each becomes, in row blocks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rramlab.base.errors import Refused, UsageError
from rramlab.base.units import show
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools, CellSelection, CellState
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference, Target
from rramlab.plan.limits import Limits
from rramlab.plan.operations import (
    Contact,
    Expect,
    LoadGates,
    Multiply,
    Operation,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    Unchanged,
    Wait,
)
from rramlab.plan.steps import (
    MOST_DEPTH,
    ContactStep,
    ExpectStep,
    ForEachStep,
    GateStep,
    Leaf,
    MultiplyStep,
    ProgramStep,
    PulseStep,
    ReadStep,
    ReferenceStep,
    RepeatStep,
    RouteStep,
    Step,
    SweepStep,
    WaitStep,
    depth,
)

# Data sets of the cells that must not change when others are pulsed.
BEFORE, AFTER = "bystanders-before", "bystanders"
BYSTANDER_ROWS = 4


class Plan(BaseModel):
    """Steps to execute on one die; survives JSON unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    name: str
    steps: tuple[Step, ...]
    block_rows: int = Field(default=64, ge=1)
    limits: Limits = Limits()  # the protocol's own, intersected with all others
    protocol: str = ""  # the text it was made from
    parameters: dict[str, float | int | str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _not_too_deep(self) -> Plan:
        if depth(self.steps) > MOST_DEPTH:
            raise ValueError(f"found loops {depth(self.steps)} deep, expected at most {MOST_DEPTH}")
        return self

    @property
    def destructive(self) -> bool:
        return any(each.step.stresses for each in leaves(self.steps))


class Placed(NamedTuple):
    """A step that is no loop: its path, itself, how often it is executed at most, and the values of loops around it.

    A path is the place of a step in its list and, for each loop around it, that of the loop: ``003-001``.
    """

    path: str
    step: Leaf
    times: int
    values: tuple[str, ...]


def leaves(steps: tuple[Step, ...], prefix: str = "", times: int = 1, values: tuple[str, ...] = ()) -> Iterator[Placed]:
    """Yield each step that is no loop, in order; the body of a ``repeat`` once, that of a ``for_each`` for each value."""
    for index, step in enumerate(steps):
        path = place(prefix, index, len(steps))
        match step:
            case RepeatStep():
                yield from leaves(step.steps, path, times * step.times, values)
            case ForEachStep():
                for each in step.rounds:
                    value = (
                        show(each.value, each.unit) if isinstance(each.value, float) and each.unit else str(each.value)
                    )
                    yield from leaves(each.steps, path, times, (*values, f"{step.name} {value}"))
            case _:
                yield Placed(path, step, times, values)


def place(prefix: str, index: int, count: int) -> str:
    """Return the path of the step at ``index`` of ``count``: of one length, so that paths sort as the steps stand."""
    number = f"{index:0{max(3, len(str(count - 1)))}d}"
    return f"{prefix}-{number}" if prefix else number


def selection(
    step: Leaf, geometry: Geometry, state: CellState | None, pristine: tuple[Bools, Bools] | None = None
) -> CellSelection:
    """Resolve a step's region: with the state exactly, without it its worst case.

    Raises:
        UsageError: the region lies off the die, or is not one cell where one is needed. Refused: it asks what is not
        known, see Region.resolve.
    """
    cells = getattr(step, "cells", "all")
    try:
        region = Region(cells)
        chosen = region.bound(geometry, pristine) if state is None else region.resolve(geometry, state)
        if isinstance(step, ProgramStep):
            chosen = CellSelection(~np.isnan(step.targets_S(chosen)))  # what has no target is left alone
    except (Refused, UsageError) as error:
        raise type(error)(str(error), step.source) from None
    if isinstance(step, (SweepStep, RouteStep)) and step.cell is not None and chosen.count != 1:
        raise UsageError(
            f"found {cells!r}, which means {chosen.count:,} cells, expected one cell such as '(3, 7)'", step.source
        )
    return chosen


def operations(
    step: Leaf, cells: CellSelection, board: BoardTable, block_rows: int, patterns: dict[int, LoadGates]
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
                yield Read(part, step.repeats, step.name, source=step.source, isolated=step.isolated)
        case ReferenceStep():
            resistor = None if step.resistor == "open" else step.resistor
            yield ReferenceRead(resistor, step.voltage, step.range, step.repeats, step.name, step.source)
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
        case WaitStep():
            yield Wait(step.time, step.source)
        case ProgramStep():
            # What is pulsed depends on what is read: see rramlab.plan.programming. This is one verification of all.
            for _, _, part in cells.blocks(block_rows):
                yield Read(part, step.repeats, step.name, source=step.source)
        case ExpectStep():
            stop = step.on_failure == "stop"
            yield Expect(cells, step.window, stop, f"region {Region(step.cells)}", step.source)


def _pulses(step: PulseStep, cells: CellSelection, board: BoardTable, block_rows: int) -> Iterator[Operation]:
    """Pulse blocks; with a pilot, its rows come first, are read and judged, and the judgement is repeated on the way.

    Bystanders are read before and after each block.
    """
    rest = cells
    pilot = step.pilot
    if pilot is not None and cells.count:
        last = int(cells.rows[: pilot.rows][-1]) + 1
        first = cells.within(0, last)
        yield from _pulse(step, first, cells, board)
        yield Read(first, 1, "pilot", source=step.source)
        yield Expect(first, pilot, True, "the pilot block", step.source)
        rest = cells.within(last, board.geometry.rows)
    rows_since = 0
    for start, stop, part in rest.blocks(block_rows):
        yield from _pulse(step, part, cells, board)
        rows_since += stop - start
        if pilot is not None and rows_since >= pilot.recheck_rows:
            rows_since = 0
            yield Read(part, 1, "pilot", source=step.source)
            yield Expect(part, pilot, True, f"the block of rows {start}-{stop - 1}", step.source)


def _pulse(step: PulseStep, part: CellSelection, cells: CellSelection, board: BoardTable) -> Iterator[Operation]:
    shots = step.cells_per_pulse or board.cells_per_pulse
    beside = bystanders(part, cells, step.bystanders)
    if beside.count:
        yield Read(beside, 1, BEFORE, source=step.source)
    yield PulseOp(step.kind, part, step.pulse, shots, step.source, step.again)
    if beside.count:
        yield Read(beside, 1, AFTER, source=step.source)
        rows = part.rows
        what = f"bystanders of the {step.kind} of rows {rows[0]}-{rows[-1]}"
        yield Unchanged(beside, BEFORE, AFTER, what, step.source)


def bystanders(part: CellSelection, cells: CellSelection, most: int) -> CellSelection:
    """Choose about ``most`` cells that share a line with ``part`` and are not pulsed with it: half by row, half by column.

    ``cells``: all that the step pulses. They are taken from a few rows, as every row that is read takes its time.
    """
    found = np.zeros(part.shape, np.bool_)
    rows, columns = part.rows, np.flatnonzero(part.in_span.any(axis=0))
    if not rows.size or not most:
        return CellSelection(found)
    each = max(1, most // (2 * BYSTANDER_ROWS))
    for row in _spread(rows, BYSTANDER_ROWS):
        found[row, _spread(np.flatnonzero(~part.in_span[row - part.span.start]), each)] = True
    # Of other rows the nearest on both sides; those that the step does not pulse at all, where there are any.
    untouched = np.flatnonzero(cells.per_row == 0)
    others = untouched if untouched.size else np.flatnonzero(part.per_row == 0)
    nearest = others[np.argsort(np.minimum(abs(others - rows[0]), abs(others - rows[-1])), kind="stable")]
    for row in nearest[:BYSTANDER_ROWS]:
        found[row, _spread(columns, each)] = True
    return CellSelection(found)


def _spread(among: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """Return ``count`` of the sorted indices, evenly spread; all of them where there are no more."""
    return among if among.size <= count else among[_spaced(among.size, count)]


@lru_cache(maxsize=1024)
def _spaced(size: int, count: int) -> npt.NDArray[np.intp]:
    return np.linspace(0, size - 1, count).round().astype(np.intp)


def _target(step: RouteStep, cells: CellSelection) -> Target:
    if step.reference is not None:
        return RoutedReference(step.reference)
    if step.dac is not None:
        return RoutedDac(step.dac)
    return RoutedCell(*cells.first)
