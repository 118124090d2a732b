"""Products against the sum of single reads of the cells that take part: one more line driven at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import TooFewCells

Floats = npt.NDArray[np.float64]
FEWEST_STEPS = 8


@dataclass(frozen=True, eq=False)
class LinearFit:
    """``slope``: product over sum, the mean of all columns, with ``slope_u``; ``offset_S``; ``residual_S``: float64[steps],
    mean over the columns; ``residual``: its largest magnitude as a share of ``full_S``. ``sums_S``, ``products_S``:
    float64[steps, columns].
    """

    slope: float
    slope_u: float
    offset_S: float
    residual: float
    residual_S: Floats
    sums_S: Floats
    products_S: Floats


def fit(inputs: npt.NDArray[np.uint8], cells_S: Floats, products_S: Floats, full_S: float) -> LinearFit:
    """Fit products to sums.

    ``inputs``: uint8[steps, rows], one-bit; ``cells_S``: float64[rows, columns] by single reads; ``products_S``:
    float64[steps, columns]; ``full_S``: span of the multiply range.

    Raises:
        TooFewCells: too few steps, or nothing conducts.
    """
    sums = inputs.astype(np.float64) @ cells_S
    if len(sums) < FEWEST_STEPS or not np.ptp(sums.mean(axis=1)) > 0:
        raise TooFewCells(
            f"found {len(sums)} numbers of driven lines, expected at least {FEWEST_STEPS}, over cells that conduct: form the "
            "die first, or choose rows that are formed"
        )
    slopes = np.array([np.polyfit(sums[:, column], products_S[:, column], 1) for column in _rising(sums)])
    slope, offset = float(slopes[:, 0].mean()), float(slopes[:, 1].mean())
    residual = (products_S - (slope * sums + offset)).mean(axis=1)
    slope_u = float(slopes[:, 0].std(ddof=1)) / math.sqrt(len(slopes)) if len(slopes) > 1 else 0.0
    return LinearFit(slope, slope_u, offset, float(np.abs(residual).max()) / full_S, residual, sums, products_S)


def _rising(sums: Floats) -> npt.NDArray[np.intp]:
    """Return the columns whose sums span enough to have a slope."""
    span = np.ptp(sums, axis=0)
    return np.flatnonzero(span > 0.2 * span.max())
