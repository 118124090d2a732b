"""What cells have been through: wear budgets, one electroforming pulse a cell, and which pulse is for which cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import Refused, SourceRef
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseKind
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan, selection
from rramlab.plan.steps import ForEachStep, Leaf, ProgramStep, PulseStep, ReadStep, RepeatStep, Step, SweepStep
from rramlab.plan.worst import StepAtWorst
from rramlab.runs.ledger import LedgerView
from rramlab.runs.store import Run

Counts = npt.NDArray[np.uint32] | npt.NDArray[np.int64]
# Whether a cell is electroformed once. What 0.1.0 has begun knew of no such rule: it goes on as it was begun, but for cells
# that are unknown, and is repeated, on a simulated die apart, as it was.
SingleShot = Literal["always", "unless unknown", "never"]


@dataclass(frozen=True)
class Past:
    """What is known of each cell: arrays[rows, columns].

    ``pulses``: by the ledger, when the run began that is to go on, or now. ``unknown``: whether its last pulse could not be
    decided. ``seen``: whether it was read in this session since its last pulse.
    """

    pulses: npt.NDArray[np.uint32]
    unknown: Bools
    seen: Bools

    @classmethod
    def of(cls, ledger: LedgerView, run: Run | None = None, seen: Bools | None = None) -> Past:
        """Return what a ledger says. ``run``: that goes on, whose own pulses are part of its plan.

        What others have pulsed since is none of what it has still to do, or it is refused for that.
        """
        pulses = ledger.pulse_counts()
        for entry in ledger.since(int(run.record["operation"])) if run is not None else ():
            pulses -= entry.spent.bits
        return cls(pulses, ledger.unknown().bits, np.zeros(pulses.shape, np.bool_) if seen is None else seen)

    @classmethod
    def virgin(cls, geometry: Geometry) -> Past:
        nothing = np.zeros(geometry.shape, np.bool_)
        return cls(np.zeros(geometry.shape, np.uint32), nothing, nothing)


def check_wear(
    plan: Plan, expanded: Sequence[StepAtWorst], budget: int | None, past: Past, single_shot: SingleShot = "always"
) -> None:
    """Compare a whole plan, its own steps added up, with what each cell has had and may have at most.

    ``expanded``: the plan at its worst. ``budget``: the most that a cell may have.

    Raises:
        Refused: a budget would be used up, or a cell gets a kind of pulse that is not for it; nothing was energised.
    """
    _Life(expanded, budget, past, single_shot).check(plan.steps, 1, 0)


class _Life:
    """The cells' pulses as they would be, step by step."""

    def __init__(
        self, expanded: Sequence[StepAtWorst], budget: int | None, past: Past, single_shot: SingleShot
    ) -> None:
        self.expanded, self.budget, self.before, self.single_shot = expanded, budget, past.pulses, single_shot
        self.geometry = Geometry(*past.pulses.shape)
        self.total = past.pulses.astype(np.int64)
        # Of interest for what is electroformed again: as good as it can be, for each operation is checked as it is sent.
        self.unknown, self.seen = past.unknown.copy(), past.seen.copy()

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
                    cells = self.expanded[index].cells
                    if step.stresses:
                        self._add(step, step.stresses, cells, times)
                    if isinstance(step, ProgramStep) or (isinstance(step, ReadStep) and not step.isolated):
                        self.seen[cells.span] |= cells.in_span
                    index += 1
        return index

    def _add(self, step: Leaf, kind: PulseKind, cells: CellSelection, times: int) -> None:
        settled = not Region(getattr(step, "cells", "all")).depends_on_data
        had = cells  # those of its cells that may have had a pulse are among these
        if not settled:
            cells = selection(step, self.geometry, None, (self.total == 0, self.before == 0))
        if not cells.count:
            return
        so_far = self.total[cells.span]
        more = times * step.pulses_per_cell
        check_cells(kind, cells.in_span, so_far + (more - 1), self.budget, step.source, so_far, cells.span.start)
        if isinstance(step, SweepStep) and kind == "electroform":
            check_unformed(cells, self.total > 0, step.source)
        if isinstance(step, PulseStep) and kind == "electroform" and self.single_shot == "always":
            if not settled:  # none of them is pristine any more
                nothing = np.zeros_like(self.unknown)
                had = selection(step, self.geometry, None, (nothing, nothing))
            self._check_single_shot(step, had, settled)
        so_far += cells.in_span * more
        self.unknown[cells.span] &= ~cells.in_span
        if settled:
            self.seen[cells.span] &= ~cells.in_span

    def _check_single_shot(self, step: PulseStep, cells: CellSelection, settled: bool) -> None:
        if step.again and not settled:
            return  # which of them it will be is checked as they are sent
        rows = cells.span
        check_single_shot(
            cells.in_span,
            self.total[rows] > 0,
            step.again,
            self.unknown[rows],
            self.seen[rows],
            step.source,
            rows.start,
        )


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


def check_single_shot(
    cells: Bools, formed: Bools, again: bool, unknown: Bools, seen: Bools, source: SourceRef, first_row: int = 0
) -> None:
    """Compare cells that are to be electroformed with what they have had: each gets one such pulse in its life.

    All arrays are bool[rows, columns]. ``formed``: had a pulse. ``again``: a person has said that cells which had one are
    meant, too; that holds for what was read since (``seen``), and never for what is ``unknown``. ``first_row``: as in
    :func:`check_cells`.
    """
    had = cells & formed
    if not again:
        what = "have had a pulse by the ledger and this plan: electroforming is for pristine cells, once"
        remedy = (
            "Leave them out: '… & pristine'. Who means a second pulse reads the cells first and says so: 'again: yes' in the "
            "step, again=True from Python"
        )
        _refuse(had, "electroform", what, remedy, source, first_row)
        return
    check_known(had, unknown, source, first_row)
    unread = (
        "were not read in this session since their last pulse, and 'again' is for cells that somebody has looked at"
    )
    remedy = "Read them before, in the same run or session"
    _refuse(had & ~seen, "electroform again", unread, remedy, source, first_row)


def check_known(cells: Bools, unknown: Bools, source: SourceRef, first_row: int = 0) -> None:
    """Refuse to electroform again what is unknown: nobody can tell whether the last pulse reached it."""
    what = "are unknown: whether their last pulse reached them could not be decided"
    _refuse(cells & unknown, "electroform again", what, "Leave them out: '… - unknown'", source, first_row)


def _refuse(cells: Bools, kind: str, what: str, remedy: str, source: SourceRef, first_row: int) -> None:
    """Refuse a pulse for the sake of ``cells``, bool[rows, columns], unless there are none."""
    if cells.any():
        row, column = (int(index) for index in np.argwhere(cells)[0])
        raise Refused(
            f"{kind}: {np.count_nonzero(cells):,} cells, the first at ({first_row + row}, {column}), {what}; nothing was "
            f"energised. {remedy}",
            source,
        )


def check_unformed(cells: CellSelection, formed: Bools, source: SourceRef) -> None:
    """A forming sweep ends in the state that the unit and the gate allow: a cell has it once."""
    if np.any(cells.in_span & formed[cells.span]):
        raise Refused(
            f"electroform sweep of cell {cells.first}: by the ledger it has had its pulse, and a cell is formed once; "
            "nothing was energised. A cell that was pulsed is swept with the kind set or reset",
            source,
        )
