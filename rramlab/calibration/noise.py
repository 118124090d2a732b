"""What reads of one cell differ by: white noise, and traps that hold a cell at one of two levels ("telegraph noise").

White noise is told from differences of successive reads, which slow changes and single switches hardly enter: σ² = ⟨Δ²⟩ / 2
(von Neumann et al., Ann. Math. Stat. 12, 153, 1941). A cell that has switched shows a step: the largest difference of means
before and after any one read, over its standard error, beyond what white noise gives in the whole sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from rramlab.base.errors import TooFewCells

Floats = npt.NDArray[np.float64]
FEWEST_READS = 16
FEWEST_CELLS = 16
_SHORTEST = 4  # reads on either side of a step
_FALSE_ALARMS = 0.1  # steps expected in the whole sample where no cell has switched


@dataclass(frozen=True, eq=False)
class NoiseFit:
    """``white``: σ over conductance, with ``white_u``; of ``cells`` watched ``switched`` switched; ``amplitude``: median
    relative step of these, with ``amplitude_u``; ``of_cell``: float64[cells], each cell's own white noise; ``steps``:
    float64[cells], its largest step over the standard error.
    """

    white: float
    white_u: float
    cells: int
    switched: int
    amplitude: float | None
    amplitude_u: float | None
    of_cell: Floats
    steps: Floats
    threshold: float

    @property
    def share(self) -> float:
        return self.switched / self.cells

    @property
    def share_u(self) -> float:
        """Standard uncertainty of the share; (k + 1)(n − k + 1) / (n + 2)² (n + 3), so that none or all is not certain."""
        k, n = self.switched, self.cells
        return math.sqrt((k + 1) * (n - k + 1) / (n + 3)) / (n + 2)


def fit(series_S: Floats, step_S: float) -> NoiseFit:
    """Fit reads of conducting cells, float64[reads, cells] in siemens; ``step_S``: of the converter, to take its rounding off.

    Raises:
        TooFewCells: too few reads or cells.
    """
    reads, cells = series_S.shape
    if reads < FEWEST_READS or cells < FEWEST_CELLS:
        raise TooFewCells(
            f"found {reads} reads of {cells} cells that conduct, expected at least {FEWEST_READS} of {FEWEST_CELLS}: read more "
            "often, or choose cells that are formed"
        )
    mean = series_S.mean(axis=0)
    differences = np.diff(series_S, axis=0)
    # A median over cells, so that the few that switch do not count; the mean square has a chi-squared law.
    square = np.mean(differences**2, axis=0) / 2 - step_S**2 / 12
    relative = np.maximum(square, 0.0) / mean**2
    keep = relative < np.median(relative) * (1 + 6 * math.sqrt(2 / freedom(reads)))
    variance = float(relative[keep].mean())
    white = math.sqrt(variance)
    white_u = white / math.sqrt(2 * freedom(reads) * np.count_nonzero(keep))
    before, after, score = _steps(series_S / mean, white if white > 0 else step_S / float(np.median(mean)))
    threshold = float(-ndtri(_FALSE_ALARMS / (2 * cells * reads)))
    switched = score > threshold
    jumps = np.abs(after - before)[switched]
    return NoiseFit(
        white,
        white_u,
        cells,
        int(np.count_nonzero(switched)),
        float(np.median(jumps)) if jumps.size else None,
        float(1.2533 * jumps.std() / math.sqrt(jumps.size)) if jumps.size else None,
        np.sqrt(relative),
        score,
        threshold,
    )


def freedom(reads: int) -> float:
    """Return the degrees of freedom of the mean square of successive differences, which overlap."""
    return 2 * (reads - 1) ** 2 / (3 * reads - 4)


def _steps(relative: Floats, white: float) -> tuple[Floats, Floats, Floats]:
    """Return, for each cell, the means before and after its most likely step, and that step over its standard error."""
    reads = len(relative)
    sums = np.cumsum(relative, axis=0)
    count = np.arange(_SHORTEST, reads - _SHORTEST + 1)
    before = sums[count - 1] / count[:, None]
    after = (sums[-1] - sums[count - 1]) / (reads - count)[:, None]
    error = white * np.sqrt(1 / count + 1 / (reads - count))
    score = np.abs(after - before) / error[:, None]
    best = score.argmax(axis=0)
    cell = np.arange(relative.shape[1])
    return before[best, cell], after[best, cell], score[best, cell]
