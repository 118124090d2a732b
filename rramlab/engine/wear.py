"""What cells have been through: wear budgets, and which pulse is for which cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import Refused, SourceRef
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseKind
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan, selection
from rramlab.plan.steps import ForEachStep, Leaf, RepeatStep, Step, SweepStep
from rramlab.plan.worst import StepAtWorst

Counts = npt.NDArray[np.uint32] | npt.NDArray[np.int64]


def check_wear(plan: Plan, expanded: Sequence[StepAtWorst], budget: int | None, before: npt.NDArray[np.uint32]) -> None:
    """Compare a whole plan, its own steps added up, with what each cell has had and may have at most.

    ``expanded``: the plan at its worst. ``before``: pulses of each cell by the ledger, uint32[rows, columns].
    ``budget``: the most that a cell may have.

    Raises:
        Refused: a budget would be used up, or a cell gets a kind of pulse that is not for it; nothing was energised.
    """
    _Life(expanded, budget, before).check(plan.steps, 1, 0)


class _Life:
    """The cells' pulses as they would be, step by step."""

    def __init__(self, expanded: Sequence[StepAtWorst], budget: int | None, before: npt.NDArray[np.uint32]) -> None:
        self.expanded, self.budget, self.before = expanded, budget, before
        self.geometry = Geometry(*before.shape)
        self.total = before.astype(np.int64)

    def check(self, steps: tuple[Step, ...], times: int, index: int) -> int:
        """Add up what ``steps`` do to each cell, executed ``times`` in a row, and compare on the way.

        ``index``: of the first of them that is no loop in the expanded plan. Return that of the first one after them.
        """
        for step in steps:
            match step:
                case RepeatStep():
                    # From the second round on the cells that are pristine are the same ones.
                    after = self.check(step.steps, 1, index)
                    if times * step.times > 1:
                        self.check(step.steps, times * step.times - 1, index)
                    index = after
                case ForEachStep():
                    for each in step.rounds:
                        index = self.check(each.steps, times, index)
                case _:
                    if step.stresses:
                        self._add(step, step.stresses, self.expanded[index].cells, times)
                    index += 1
        return index

    def _add(self, step: Leaf, kind: PulseKind, cells: CellSelection, times: int) -> None:
        if Region(getattr(step, "cells", "all")).depends_on_data:
            cells = selection(step, self.geometry, None, (self.total == 0, self.before == 0))
        if not cells.count:
            return
        so_far = self.total[cells.span]
        more = times * step.pulses_per_cell
        check_cells(kind, cells.in_span, so_far + (more - 1), self.budget, step.source, so_far, cells.span.start)
        if isinstance(step, SweepStep) and kind == "electroform":
            check_unformed(cells, self.total, step.source)
        so_far += cells.in_span * more


def check_cells(
    kind: PulseKind,
    cells: Bools,
    pulses: Counts,
    budget: int | None,
    source: SourceRef,
    before: Counts | None = None,
    first_row: int = 0,
) -> None:
    """Compare cells, bool[rows, columns], with the pulses that they have had: wear, and what ``set`` is for.

    ``pulses``: before the last of those that are asked for; ``before``: before the first, where there are several.
    ``first_row``: of the die, where the arrays are a part of its rows.
    """
    if budget is not None:
        used_up = f"have used up their wear budget of {budget} pulses by the ledger and this plan"
        remedy = "Leave them out ('… & pristine' where one pulse is the budget), or use another die"
        _refuse(cells & (pulses >= budget), kind, used_up, remedy, source, first_row)
    if kind == "set":
        pristine = "are pristine by the ledger: a set pulse would electroform them, past the pilot block"
        first = pulses if before is None else before
        _refuse(cells & (first == 0), kind, pristine, "Leave them out: '… - pristine'", source, first_row)


def _refuse(cells: Bools, kind: PulseKind, what: str, remedy: str, source: SourceRef, first_row: int) -> None:
    """Refuse a pulse for the sake of ``cells``, bool[rows, columns], unless there are none."""
    if cells.any():
        row, column = (int(index) for index in np.argwhere(cells)[0])
        raise Refused(
            f"{kind}: {np.count_nonzero(cells):,} cells, the first at ({first_row + row}, {column}), {what}; nothing was "
            f"energised. {remedy}",
            source,
        )


def check_unformed(cells: CellSelection, pulses: Counts, source: SourceRef) -> None:
    """A forming sweep ends in the state that the unit and the gate allow: a cell has it once."""
    if np.any(cells.in_span & (pulses[cells.span] > 0)):
        raise Refused(
            f"electroform sweep of cell {cells.first}: by the ledger it has had its pulse, and a cell is formed once; "
            "nothing was energised. A cell that was pulsed is swept with the kind set or reset",
            source,
        )
