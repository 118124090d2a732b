"""Plans that write wanted conductances into cells: what pruning does without."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import SourceRef, UsageError
from rramlab.macro.cells import CellSelection
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan
from rramlab.plan.programming import AmplitudeLadder, ProgramStep, encode_array
from rramlab.plan.steps import ContactStep, ReadStep

# Assumed, TaOx literature, within the limits of the shipped bench: a set pulse whose gate lets through more than any target,
# then resets that rise until the cell has come down to it.
SET = AmplitudeLadder(start=1.6, to=2.2, step=0.3, width=1e-6, gate=2.8)
RESET = AmplitudeLadder(start=1.1, to=2.2, step=0.04, width=1e-6, gate=3.0)


def written_cells(target_S: npt.NDArray[np.float32]) -> CellSelection:
    """Return the cells that get a conductance; ``target_S``: float32[rows, columns], NaN or 0 for those that get none.

    Raises:
        UsageError: a target is infinite.
    """
    if np.isinf(target_S).any():
        row, column = np.argwhere(np.isinf(target_S))[0]
        raise UsageError(f"the target of row {row}, column {column} is infinite; nothing was planned")
    return CellSelection(np.nan_to_num(target_S) > 0.0)


def write_verify_plan(target_S: npt.NDArray[np.float32], tolerance_S: float, budget: int, reads: int = 4) -> Plan:
    """Return the plan that brings formed cells to ``target_S``, float32[rows, columns] in siemens, by pulses and reads.

    ``tolerance_S``: the half-width of what counts as reached, of the mean of ``reads``; ``budget``: pulses a cell at most. The
    data set ``after`` is the read of all written cells.

    Raises:
        UsageError: no cell has a target.
    """
    cells = written_cells(target_S)
    if not cells.count:
        raise UsageError("found no cell with a target above 0; there is nothing to write")
    region = Region.of(cells).text
    return Plan(
        name="write-weights",
        block_rows=target_S.shape[0],  # cells that want the same pulse are few in a row: one operation for all of them
        steps=(
            ContactStep(),
            ProgramStep(
                cells=region,
                target=encode_array(np.where(cells.bits, target_S, np.nan)),
                tolerance=tolerance_S,
                budget=budget,
                set=SET,
                reset=RESET,
                repeats=reads,
                source=SourceRef("weights written with verify"),
            ),
            ReadStep(cells=region, repeats=reads, name="after"),
        ),
    )
