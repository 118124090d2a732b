"""What lines take from products, given back on the host, from the resistances of the lines and one read of the whole array.

A read of cell (i, j) shows M[i, j]: less than the cell's conductance G[i, j] by what its lines lose, and more by what reaches
its column through other rows. Given the lines, G follows from M. Products see the same M. The board converts one group of
rows after the other, so each group's sums can be had alone, at no further conversion; within a group the loss of a column is
nearly the same for all rows, and the rest nearly the same for all cells: G ≈ gain[group, column] · M + offset[group, column],
by least squares. So x · G ≈ Σ over groups of gain · (x · M) + offset · Σ x, without a product on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.macro.crossbar import LineResistances, transfer

Floats = npt.NDArray[np.float64]
_MOST_ROUNDS = 60
_MIXED = 5  # earlier rounds
_CLOSE = 1e-4  # RMS change of the cells, relative to the largest, that ends the search
_STEEPEST = 20.0  # a step grows by the loss of its cell, no further
_SMALLEST_S = 1e-9


@dataclass(frozen=True, eq=False)
class Compensation:
    """``cells_S``, ``seen_S``: float64[rows, columns], the cells and what a read shows of them. ``gain``, ``offset_S``:
    float64[groups, columns]. ``lines_at_once``: rows of a group.
    """

    cells_S: Floats
    seen_S: Floats
    gain: Floats
    offset_S: Floats
    lines_at_once: int

    @classmethod
    def of(cls, seen_S: npt.NDArray[np.floating[Any]], lines: LineResistances, lines_at_once: int) -> Compensation:
        """Return the compensation for an array of which ``seen_S``, float[rows, columns], was read.

        Raises:
            ArithmeticError: no cells can be found that look like this behind these lines.
        """
        seen = np.maximum(np.asarray(seen_S, np.float64), 0.0)
        cells = cells_behind(seen, lines)
        groups = range(0, len(seen), lines_at_once)
        fits = [_line(seen[at : at + lines_at_once], cells[at : at + lines_at_once]) for at in groups]
        gain, offset = (np.stack(part) for part in zip(*fits, strict=True))
        return cls(cells, seen, gain, offset, lines_at_once)

    def of_reads(self, seen_S: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the cells behind a new read, float32[rows, columns]; NaN stays NaN."""
        share = np.divide(self.cells_S, self.seen_S, out=np.ones_like(self.cells_S), where=self.seen_S > 0)
        return np.asarray(seen_S * np.clip(share, 0, _STEEPEST), np.float32)

    def of_products(
        self, group: int, products: npt.NDArray[np.float32], total: npt.NDArray[np.int64], columns: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Return the products of one group of rows as of its bare cells: float32[batch, n].

        ``total``: int64[batch, n], sum of the input codes of the rows that drive each of the n ``columns``.
        """
        gain, offset = self.gain[group, columns], self.offset_S[group, columns]
        return np.asarray(products * gain + total * offset, np.float32)


def cells_behind(seen_S: Floats, lines: LineResistances) -> Floats:
    """Return the conductances, float64[rows, columns], of which a read shows ``seen_S`` behind ``lines``.

    What the model lacks, enlarged by the loss of its cell, is added; the last few steps are mixed so that their errors
    cancel (Anderson, J. ACM 12, 547, 1965), which takes a third of the rounds.

    Raises:
        ArithmeticError: it is not found.
    """
    cells = seen_S.copy()
    scale = float(seen_S.max(initial=0.0))
    places: list[Floats] = []
    steps: list[Floats] = []
    for _ in range(_MOST_ROUNDS):
        model = transfer(cells, lines, "fast")
        loss = np.clip(np.divide(cells, model, out=np.ones_like(cells), where=model > 0), 1.0, _STEEPEST)
        step = (seen_S - model) * loss
        if float(np.sqrt(np.mean(step**2))) <= _CLOSE * scale:
            return np.asarray(cells)
        places, steps = [*places[-_MIXED:], cells.ravel()], [*steps[-_MIXED:], step.ravel()]
        cells = np.maximum(_mixed(places, steps).reshape(seen_S.shape), _SMALLEST_S)
    raise ArithmeticError(
        "no cells were found that look like this read behind the lines of the record: the lines were measured on "
        "another board, or "
        "the read is not of the whole array"
    )


def _mixed(places: list[Floats], steps: list[Floats]) -> Floats:
    """Return where the last places and steps lead together: their combination whose step is smallest, and that step."""
    if len(steps) == 1:
        return places[0] + steps[0]
    by_step, by_place = np.diff(steps, axis=0), np.diff(places, axis=0)
    square = by_step @ by_step.T
    square += 1e-12 * np.trace(square) * np.eye(len(square))
    weights = np.linalg.solve(square, by_step @ steps[-1])
    return np.asarray(places[-1] + steps[-1] - weights @ (by_place + by_step))


def _line(seen: Floats, cells: Floats) -> tuple[Floats, Floats]:
    """Fit cells = gain · seen + offset in every column of a group, float64[lines, columns] each."""
    x, y = seen - seen.mean(axis=0), cells - cells.mean(axis=0)
    square = np.sum(x * x, axis=0)
    flat = square <= 1e-3 * np.sum(seen * seen, axis=0)  # all alike, or a single row: the ratio is all that is known
    ratio = np.divide(cells.sum(axis=0), seen.sum(axis=0), out=np.ones(seen.shape[1]), where=seen.sum(axis=0) > 0)
    gain = np.where(flat, ratio, np.divide(np.sum(x * y, axis=0), square, out=ratio.copy(), where=~flat))
    return gain, cells.mean(axis=0) - gain * seen.mean(axis=0)
