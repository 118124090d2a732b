"""Cells measured both ways, by the board's converters and by the source-measure unit: do they agree?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import TooFewCells
from rramlab.calibration.uncertainty import UnitReading

Floats = npt.NDArray[np.float64]
FEWEST_CELLS = 8
COVERAGE = 3.0  # of the mean; a single cell may be a trap that has switched in between


@dataclass(frozen=True, eq=False)
class Agreement:
    """``ratio``: board over unit, float64[cells], with ``ratio_u`` of each; ``mean`` with ``mean_u``, which holds what all
    share: the specification of the unit and the scale of the board.
    """

    ratio: Floats
    ratio_u: Floats
    mean: float
    mean_u: float

    @property
    def agrees(self) -> bool:
        return abs(self.mean - 1) <= COVERAGE * self.mean_u

    @property
    def deviation(self) -> float:
        """Largest departure of one cell from the mean, in its own standard uncertainties."""
        return float(np.max(np.abs(self.ratio - self.mean) / self.ratio_u))


def fit(board_S: Floats, board_u: Floats, unit: list[UnitReading], scale_u: float) -> Agreement:
    """Compare ``board_S``, float64[cells] with standard uncertainties that scatter, with what the unit has read.

    ``scale_u``: relative uncertainty that all of the board's conductances share. Where it comes from the same unit, in the same
    ranges, the specification counts once: both are wrong by the same.

    Raises:
        TooFewCells: too few cells.
    """
    if len(unit) < FEWEST_CELLS:
        raise TooFewCells(
            f"found {len(unit)} cells measured both ways, expected at least {FEWEST_CELLS} that conduct: form the die first, "
            "or choose other cells"
        )
    other = np.array([each.siemens for each in unit])
    ratio = board_S / other
    scatter = np.hypot(board_u / board_S, [each.scatter for each in unit])
    ratio_u = np.maximum(ratio * scatter, 1e-9)
    mean = float(np.median(ratio))  # a cell whose trap has switched in between is not to count
    spread = float(1.2533 * np.sqrt(np.mean(ratio_u**2)) / math.sqrt(ratio.size))
    shared = max(max(each.specified for each in unit), scale_u)
    return Agreement(ratio, ratio_u, mean, math.hypot(spread, shared))
