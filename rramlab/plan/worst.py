"""The worst case of a plan, whatever the data: what is checked before the first volt, and what a dry run says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from rramlab.base.errors import UsageError
from rramlab.base.units import show
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import CellSelection
from rramlab.macro.pulses import PulseKind
from rramlab.macro.regions import Region
from rramlab.plan import cost
from rramlab.plan.cost import Cost
from rramlab.plan.operations import (
    Contact,
    LoadGates,
    Multiply,
    Operation,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    Unchanged,
)
from rramlab.plan.plan import AFTER, BEFORE, BYSTANDER_ROWS, Placed, Plan, leaves, operations, selection
from rramlab.plan.programming import Ladder
from rramlab.plan.steps import Leaf, ProgramStep, PulseStep, ReadStep


class Bounds(BaseModel):
    """The worst case of a plan, whatever the data."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    operations: int
    max_voltage_V: float
    pulses: int
    cells: int  # distinct cells that are pulsed
    pulses_per_cell: int  # of the cell pulsed most
    conversions: int
    time_s: float
    energy_J: float


@dataclass(frozen=True, slots=True)
class StepAtWorst:
    """A step that is no loop, with every data-dependent region at its largest.

    ``values``: of the loops around it. ``times``: how often it is executed.
    ``operations``: what is checked, each kind once, of all row blocks together.
    ``count``, ``cost``: of one execution.
    """

    path: str
    values: tuple[str, ...]
    step: Leaf
    times: int
    cells: CellSelection
    operations: tuple[Operation, ...]
    count: int
    cost: Cost


def worst_case(plan: Plan, board: BoardTable) -> list[StepAtWorst]:
    """Expand the whole plan; a loop's body once.

    Raises:
        UsageError: a region off the die, or a multiply from a slot that no earlier step loaded.
    """
    return _Expansion(plan, board).steps()


class _Expansion:
    """What costs time to expand is expanded once: steps that differ in voltage alone have the same shape."""

    def __init__(self, plan: Plan, board: BoardTable) -> None:
        self._plan, self._board = plan, board
        self._cells: dict[str, CellSelection] = {}
        # Of each shape: how many operations, the cost of all but the pulses, and those others, which are checked once.
        self._shapes: dict[tuple[object, ...], tuple[int, Cost]] = {}
        self._patterns: dict[int, LoadGates] = {}

    def steps(self) -> list[StepAtWorst]:
        return [self._step(each) for each in leaves(self._plan.steps)]

    def _step(self, placed: Placed) -> StepAtWorst:
        path, step, times, values = placed
        cells = self._selection(step)
        match step:
            case PulseStep():
                shots = step.cells_per_pulse or self._board.cells_per_pulse
                pulse = PulseOp(step.kind, cells, step.pulse, shots, step.source, step.again)
                count, looks, others = self._shape(step, cells)
                total = looks + cost.of(pulse, self._board)
                return StepAtWorst(path, values, step, times, cells, (pulse, *others), count, total)
            case ProgramStep():
                return self._program(placed, step, cells)
            case ReadStep():
                count, total, others = self._shape(step, cells)
                return StepAtWorst(path, values, step, times, cells, others, count, total)
            case _:
                found = tuple(operations(step, cells, self._board, self._plan.block_rows, self._patterns))
                total = sum((cost.of(each, self._board) for each in found), Cost())
                return StepAtWorst(path, values, step, times, cells, found, len(found), total)

    def _selection(self, step: Leaf) -> CellSelection:
        if not isinstance(step, (PulseStep, ReadStep)):
            return selection(step, self._board.geometry, None)
        if step.cells not in self._cells:
            self._cells[step.cells] = selection(step, self._board.geometry, None)
        return self._cells[step.cells]

    def _shape(self, step: PulseStep | ReadStep, cells: CellSelection) -> tuple[int, Cost, tuple[Operation, ...]]:
        """Return how many operations a step becomes, the cost of those that are no pulses, and these where they are new."""
        if isinstance(step, PulseStep):
            key: tuple[object, ...] = (step.cells, step.pilot, step.bystanders, step.cells_per_pulse)
        else:
            key = (step.cells, step.repeats, step.isolated)
        if key in self._shapes:
            return *self._shapes[key], ()
        found = list(operations(step, cells, self._board, self._plan.block_rows, self._patterns))
        if isinstance(step, PulseStep) and Region(step.cells).depends_on_data:
            found = [*(each for each in found if not _of_bystanders(each)), *self._any_bystanders(step, cells)]
        others = tuple(each for each in found if not isinstance(each, PulseOp))
        self._shapes[key] = len(found), sum((cost.of(each, self._board) for each in others), Cost())
        return *self._shapes[key], others

    def _any_bystanders(self, step: PulseStep, cells: CellSelection) -> list[Operation]:
        """Where it depends on data which cells are left over: as many as there may be, in rows of their own, on one ADC."""
        geometry = self._board.geometry
        bits = np.zeros(geometry.shape, np.bool_)
        bits[: 2 * BYSTANDER_ROWS, : max(1, step.bystanders // (2 * BYSTANDER_ROWS))] = True
        beside = CellSelection(bits)
        looks: list[Operation] = [
            Read(beside, 1, BEFORE, source=step.source),
            Read(beside, 1, AFTER, source=step.source),
            Unchanged(beside, BEFORE, AFTER, "bystanders", step.source),
        ]
        blocks = len(list(cells.blocks(self._plan.block_rows))) + (step.pilot is not None)
        return looks * blocks if step.bystanders else []

    def _program(self, placed: Placed, step: ProgramStep, cells: CellSelection) -> StepAtWorst:
        """Every cell needs its whole budget, with the longest pulses, each level in a block of its own."""
        together = step.cells_per_pulse or self._board.cells_per_pulse
        ladders: dict[PulseKind, Ladder] = {"set": step.set, "reset": step.reset}
        pulses = [
            PulseOp(kind, cells, ladder.pulse(level), together, step.source)
            for kind, ladder in ladders.items()
            for level in (0, ladder.levels - 1)
        ]
        read = Read(cells, step.repeats, step.name, source=step.source)
        self._check_targets(step, cells)
        groups = min(step.budget, step.set.levels) + min(step.budget, step.reset.levels)
        rounds = [self._round(pulse, groups) for pulse in pulses]
        dearest = Cost(max(each.time_s for each in rounds), max(each.energy_J for each in rounds), cells.count)
        blocks = len(list(cells.blocks(self._plan.block_rows)))
        count = blocks * (step.budget * (1 + groups) + 1)
        total = cost.of(read, self._board) * (step.budget + 1) + dearest * step.budget
        return StepAtWorst(placed.path, placed.values, step, placed.times, cells, (read, *pulses), count, total)

    def _round(self, pulse: PulseOp, groups: int) -> Cost:
        """Return what one pulse of every cell costs when the cells of a row are at up to ``groups`` levels."""
        together, alone = cost.of(pulse, self._board), cost.of(replace(pulse, cells_per_pulse=1), self._board)
        shot_s = alone.time_s / max(1, pulse.cells.count)
        rows = int(np.count_nonzero(pulse.cells.per_row))
        return replace(together, time_s=min(alone.time_s, together.time_s + (groups - 1) * rows * shot_s))

    def _check_targets(self, step: ProgramStep, cells: CellSelection) -> None:
        """What lies beyond the range of a read is never found reached: every cell would use up its budget."""
        board = self._board
        most_S = ((1 << board.adc_bits) - 1 - board.zero_code) * board.read_step_S
        target = float(np.nanmax(step.targets_S(cells), initial=0.0))
        if target > most_S:
            raise UsageError(
                f"found a target of {show(target, 'S')}, expected at most {show(most_S, 'S')}, the range of a read",
                step.source,
            )


def _of_bystanders(operation: Operation) -> bool:
    return isinstance(operation, Unchanged) or (isinstance(operation, Read) and operation.dataset in (BEFORE, AFTER))


def bounds(expanded: list[StepAtWorst], board: BoardTable) -> Bounds:
    """Add up what :func:`worst_case` returned."""
    total = sum((each.cost * each.times for each in expanded), Cost())
    volts = max((_highest_V(operation, board) for each in expanded for operation in each.operations), default=0.0)
    pulses: dict[int, int] = {}  # of each selection, which steps of one region share
    cells: dict[int, CellSelection] = {}
    for each in expanded:
        if each.step.stresses:
            key = id(each.cells)
            cells[key] = each.cells
            pulses[key] = pulses.get(key, 0) + each.times * each.step.pulses_per_cell
    wear = np.zeros(board.geometry.shape, np.int64)
    for key, count in pulses.items():
        wear[cells[key].span] += count * cells[key].in_span
    return Bounds(
        operations=sum(each.count * each.times for each in expanded),
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
        case ReferenceRead():
            return operation.voltage_V
        case Sweep():
            return max(operation.peak_V, operation.gate_V)
        case Route():
            return max(operation.voltage_V, operation.bias_V)
        case _:
            return 0.0
