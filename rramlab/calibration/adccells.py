"""Gain and offset of every column of a board without reference resistors: from cells that the unit has measured.

Each column has a straight line of its own: codes of its cells, conducting and not, against their conductance by the unit.
The unit measures a cell alone, so this holds where the lines lose nothing (see rramlab calibrate lines).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import TooFewCells

Floats = npt.NDArray[np.float64]
LEAST_SPAN_S = 5e-6  # between the cells of a column: a shorter lever gives no gain


@dataclass(frozen=True, eq=False)
class CellsFit:
    """``gain``: float64[columns], absolute; ``offset``: float64[columns] in codes; ``gain_u`` (relative), ``offset_u``: of
    one column, medians. ``residual``: RMS in codes.
    """

    gain: Floats
    offset: Floats
    gain_u: float
    offset_u: float
    residual: float


def fit(
    columns: npt.NDArray[np.intp], codes: Floats, unit_S: Floats, codes_u: Floats, count: int, codes_per_S: float
) -> CellsFit:
    """Fit every column by weighted least squares.

    ``columns``, ``codes`` (zero code taken off), ``unit_S``: [cells]; ``codes_u``: standard uncertainty of ``codes``, what
    the unit scatters by included; ``count``: of columns; ``codes_per_S``: of a board without errors.

    Raises:
        TooFewCells: a column has too few cells, or none that differ.
    """
    x, weight = unit_S * codes_per_S, 1 / codes_u**2

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(columns, values, count), np.float64)

    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, columns, unit_S)
    np.maximum.at(high, columns, unit_S)
    short = np.flatnonzero(~(high - low > LEAST_SPAN_S))
    if short.size:
        raise TooFewCells(
            f"column {short[0]}, and {short.size - 1} others, have no two cells whose conductances differ by "
            f"{LEAST_SPAN_S * 1e6:g} µS among those that were measured; a gain needs cells that conduct and cells that do not. "
            "Form one cell of each pair, or choose more rows"
        )
    s, sx, sy = total(weight), total(weight * x), total(weight * codes)
    sxx, sxy = total(weight * x * x), total(weight * x * codes)
    determinant = s * sxx - sx**2
    gain, offset = (s * sxy - sx * sy) / determinant, (sxx * sy - sx * sxy) / determinant
    rest = codes - (gain[columns] * x + offset[columns])
    return CellsFit(
        gain,
        offset,
        float(np.median(np.sqrt(s / determinant) / gain)),
        float(np.median(np.sqrt(sxx / determinant))),
        float(np.sqrt(np.mean(rest**2))),
    )
