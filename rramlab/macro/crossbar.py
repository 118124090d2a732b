"""The linear algebra of a crossbar whose wires and switches have resistance ("IR drop").

::

    volts[i] ── bl_Ohm[i] ──●── segment ──●── segment ──●       bit line of row i
                            g             g             g
                            ○             ○             ○       one node of each source line
                            │ segment     │             │
                            ⋮ next row    ⋮             ⋮
                            └─ sl_Ohm[j] ── virtual ground      after the last row

Every bit line is driven, those of rows that are off to 0 V, so the network is linear and one matrix describes it:
column currents = volts @ M. A board that switches word lines cuts the cells of the other rows off instead (`lone_rows`).

Source lines are eliminated from the far end to the sink. Up to some row, the rows together act on the source lines as an
admittance W and, for 1 V on row i, a Norton current J_i. A row of cells adds B = D - D T⁻¹ D and f = D T⁻¹ e₀ / bl_Ohm,
with D = diag(g) and T the tridiagonal matrix of its bit line; a segment r of wire turns W into K W and J into K J with
K = (I + r W)⁻¹. Nothing cancels on the way: off its diagonal -W is a sum of positive terms (T⁻¹ is semi-separable: the
product of a number of each of its two cells; and K W = (I - K) / r), and its row sums h obey the same rule as J, being
what the row lines would deliver to grounded source lines at 1 V: the diagonal follows from both by addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import InvalidValue

Floats = npt.NDArray[np.float64]
Solver = Literal["exact", "fast"]

# Between two nodes of the fast solver, distance² · segment · largest conductance is at most this: about the square of the
# distance in attenuation lengths, of which the error is a small fraction.
_COARSE = 4e-3
# Smallest voltage ratio along a bit line whose reciprocal is still safe to multiply with.
_FAINT = 1e-250
_BEYOND = "the conductances or resistances are beyond double precision"


@dataclass(frozen=True, eq=False)
class LineResistances:
    """What the lines add to the cells; any of it may be zero.

    ``bl_Ohm``: float64[rows], driver and switch to the first cell of the bit line. ``sl_Ohm``: float64[columns], last
    cell of the source line to virtual ground (switch and amplifier). ``segment_Ohm``: wire from cell to cell, both ways.
    """

    bl_Ohm: Floats
    sl_Ohm: Floats
    segment_Ohm: float

    def __post_init__(self) -> None:
        for name in ("bl_Ohm", "sl_Ohm"):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.ndim != 1:
                raise InvalidValue(f"found {name} of shape {values.shape}, expected one resistance a line")
            if not np.all(np.isfinite(values)) or np.any(values < 0):
                raise InvalidValue(f"{name} holds a resistance that is negative or not finite")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        segment = float(self.segment_Ohm)
        if not math.isfinite(segment) or segment < 0:
            raise InvalidValue(f"found segment_Ohm {segment}, expected a finite resistance of at least 0")
        object.__setattr__(self, "segment_Ohm", segment)

    @classmethod
    def uniform(cls, shape: tuple[int, int], bl_Ohm: float, sl_Ohm: float, segment_Ohm: float) -> LineResistances:
        """Return equal lines for an array of ``shape`` (rows, columns)."""
        return cls(np.full(shape[0], bl_Ohm, np.float64), np.full(shape[1], sl_Ohm, np.float64), segment_Ohm)


def transfer(conductance_S: npt.NDArray[np.floating[Any]], lines: LineResistances, solver: Solver = "exact") -> Floats:
    """Return M, float64[rows, columns]: A into the virtual ground of column j for 1 V on row i, the others at 0 V.

    ``conductance_S``: float[rows, columns], zero where a cell does not conduct. M is no product of cell and loss: where a
    cell does not conduct, M is what reaches its column through the other rows.

    Exact keeps about ten digits: 512 × 512 in some 3 s (two cores), within 1e-11 of badcrossbar 1.1.0. Fast takes some
    0.25 s there. Its errors were, at 512 × 512 (lognormal cells of 12.2 µS, all, half or a twentieth formed; 1 Ohm a
    segment, 125 Ohm switches), 0.013 % of the worst column current with all rows driven, 0.09 % of the worst element above
    a thousandth of the largest, and 0.02 % of the largest; on 64 to 128 lines with up to four times that loss 0.05 %,
    0.2 % (above a hundredth) and 0.07 %.

    Raises:
        InvalidValue: a conductance is negative or not finite, the shapes differ, or the solver is unknown.
    """
    conductance = _checked(conductance_S, lines)
    if solver not in ("exact", "fast"):
        raise InvalidValue(f"found solver {solver!r}, expected exact or fast")
    rows, columns = conductance.shape
    if columns > rows:
        # Reciprocity: driving the sinks and measuring at the drivers gives the same figures. An elimination costs
        # steps × width³, so the longer side had better be the steps.
        turned = LineResistances(lines.sl_Ohm[::-1], lines.bl_Ohm[::-1], lines.segment_Ohm)
        currents = _eliminate(conductance[::-1, ::-1], turned, solver)
        return np.ascontiguousarray(currents[::-1, ::-1])
    return np.ascontiguousarray(_eliminate(conductance.T, lines, solver).T)


def lone_rows(
    conductance_S: npt.NDArray[np.floating[Any]], lines: LineResistances, rows: slice = slice(None)
) -> Floats:
    """Return the same matrix, float64[rows, columns], when only the driven row's word line is on.

    The cells of the other rows are cut off, so cell (i, j) reaches ground through its own source line alone and each row
    is a ladder of its own. ``rows``: those that are wanted; they are the same to the last bit whatever the others are.
    """
    conductance = _checked(conductance_S, lines)[rows].T
    below = np.arange(lines.bl_Ohm.size)[::-1][rows]  # segments to the last row
    path_Ohm = lines.segment_Ohm * below + lines.sl_Ohm[:, None]
    wanted = LineResistances(lines.bl_Ohm[rows], lines.sl_Ohm, lines.segment_Ohm)
    ladders = _Ladders.solve(conductance / (1.0 + conductance * path_Ohm), wanted)
    return np.ascontiguousarray(ladders.current.T)


def _checked(conductance_S: npt.NDArray[np.floating[Any]], lines: LineResistances) -> Floats:
    conductance = np.asarray(conductance_S, dtype=np.float64)
    if conductance.ndim != 2 or conductance.size == 0:
        raise InvalidValue(f"found conductances of shape {conductance.shape}, expected rows and columns")
    if conductance.shape != (lines.bl_Ohm.size, lines.sl_Ohm.size):
        raise InvalidValue(
            f"found {conductance.shape[0]} × {conductance.shape[1]} cells, "
            f"expected {lines.bl_Ohm.size} × {lines.sl_Ohm.size} as there are line resistances"
        )
    if not np.all(np.isfinite(conductance)) or conductance.min() < 0:
        raise InvalidValue("a conductance is negative or not finite")
    return conductance


@dataclass(frozen=True, eq=False)
class _Ladders:
    """Every bit line by itself, its source-line nodes grounded; all float64[columns, rows].

    ``conductance``: S, of the cells. ``current``: f, A into each source-line node for 1 V on the driver.
    ``voltage``: of the bit line's nodes, V. ``log_voltage``: its logarithm where it may underflow, else none.
    ``spread``: g · (T⁻¹)ⱼⱼ, no unit.
    """

    conductance: Floats
    current: Floats
    voltage: Floats
    log_voltage: Floats | None
    spread: Floats

    @classmethod
    def solve(cls, conductance_S: Floats, lines: LineResistances) -> _Ladders:
        """Two passes along the bit lines, all rows at once. ``conductance_S``: float64[columns, rows]."""
        columns = len(conductance_S)
        conductance = np.ascontiguousarray(conductance_S)
        segment = lines.segment_Ohm
        ahead = np.empty_like(conductance)  # S, seen from a node away from the driver, its own cell included
        ahead[-1] = conductance[-1]
        for j in range(columns - 2, -1, -1):
            ahead[j] = conductance[j] + ahead[j + 1] / (1.0 + segment * ahead[j + 1])
        behind = np.empty_like(conductance)  # Ohm, from a node to the driver: as an admittance it might be infinite
        behind[0] = lines.bl_Ohm
        for j in range(1, columns):
            behind[j] = segment + behind[j - 1] / (1.0 + conductance[j - 1] * behind[j - 1])
        loss = segment * ahead
        loss[0] = lines.bl_Ohm * ahead[0]
        voltage = np.asarray(np.cumprod(1.0 / (1.0 + loss), axis=0), np.float64)
        return cls(
            conductance,
            conductance * voltage,
            voltage,
            -np.cumsum(np.log1p(loss), axis=0) if voltage[-1].min() < _FAINT else None,
            conductance * behind / (1.0 + behind * ahead),
        )

    def add_coupling(self, rows: slice, share: Floats, coupling: Floats) -> Floats:
        """Return ``coupling`` + Σ share · D T⁻¹ D above the diagonal; on and below it the result means nothing.

        ``share``: float64[rows]. Overwrites ``coupling``, float64[columns, columns] in Fortran order.
        """
        # For j < l, (T⁻¹)ⱼₗ = (T⁻¹)ⱼⱼ · voltage[l] / voltage[j]: a product of a number of j and a number of l.
        left = self.spread[:, rows] * share
        if self.log_voltage is None:
            from scipy.linalg import blas

            left /= self.voltage[:, rows]
            product = blas.dgemm(1.0, left, self.current[:, rows], trans_b=1, beta=1.0, c=coupling, overwrite_c=1)
            return np.asarray(product)
        for one, logarithm, right in zip(left.T, self.log_voltage[:, rows].T, self.conductance[:, rows].T, strict=True):
            ratio = np.exp(np.minimum(logarithm - logarithm[:, None], 0.0))
            coupling += one[:, None] * ratio * right
        return coupling


def _spacing(conductance_S: Floats, segment_Ohm: float, solver: Solver) -> float:
    """Return how many segments may lie between two nodes of a source line; without limit if they lose nothing."""
    loss = segment_Ohm * float(conductance_S.max())
    if loss == 0:
        return math.inf
    return 1.0 if solver == "exact" else max(1.0, math.sqrt(_COARSE / loss))


def _eliminate(conductance_S: Floats, lines: LineResistances, solver: Solver) -> Floats:
    """Return float64[columns, rows]: A into each sink for 1 V on each row. ``conductance_S``: float64[columns, rows].

    A source line has nodes at equal distances, the first at its first row and the last at its last. A row between two
    of them divides its admittance and its current by distance, as a current does that enters a wire between its ends.
    Exact is a node a row.
    """
    from scipy.linalg import blas, lapack  # 0.2 s, which whoever only names resistances does without

    columns, rows = conductance_S.shape
    ladders = _Ladders.solve(conductance_S, lines)
    gaps = math.ceil((rows - 1) / _spacing(conductance_S, lines.segment_Ohm, solver))
    wire_Ohm = lines.segment_Ohm * (rows - 1) / max(gaps, 1)
    place = np.arange(rows) * gaps / max(rows - 1, 1)  # of each row, in nodes
    begins = np.searchsorted(place, np.arange(-1, gaps + 2))  # begins[n + 1]: first row at or after node n
    norton = np.asfortranarray(ladders.current * (1.0 - place % 1.0))
    coupling = np.zeros((columns, columns), order="F")  # -W above the diagonal, S
    row_sums = np.zeros(columns)  # W 1, S
    ones = np.ones(columns)
    diagonal = np.diag_indices(columns)
    total = row_sums  # the diagonal of W, S
    for node in range(gaps + 1):
        if node:
            passing = _passing(coupling, total, wire_Ohm)
            before, here = slice(0, begins[node + 1]), slice(begins[node], begins[node + 1])
            norton[:, before] = blas.dsymm(1.0, passing, norton[:, before])
            norton[:, here] += ladders.current[:, here] * (place[here] % 1.0)
            row_sums = blas.dsymv(1.0, passing, row_sums)
            coupling = np.divide(passing, wire_Ohm, out=passing)  # K W = (I - K) / r
        around = slice(begins[node], begins[node + 2])
        share = 1.0 - np.abs(place[around] - node)
        coupling = ladders.add_coupling(around, share, coupling)
        coupling[diagonal] = 0.0
        row_sums = row_sums + ladders.current[:, around] @ share
        total = row_sums + blas.dsymv(1.0, coupling, ones)

    upper = np.triu(coupling, 1)
    system = np.eye(columns) + (np.diag(total) - upper - upper.T) * lines.sl_Ohm
    _, _, currents, failed = lapack.dgesv(system, norton)
    if failed:
        raise ArithmeticError(_BEYOND)
    return np.asarray(currents)


def _passing(coupling: Floats, total: Floats, wire_Ohm: float) -> Floats:
    """Return K = (I + r W)⁻¹ on and above its diagonal; overwrites ``coupling``."""
    from scipy.linalg import lapack

    system = np.multiply(coupling, -wire_Ohm, out=coupling)
    system[np.diag_indices(len(total))] = 1.0 + wire_Ohm * total
    factor, failed = lapack.dpotrf(system, lower=0, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.dpotri(factor, lower=0, overwrite_c=1)
    if failed:
        raise ArithmeticError(_BEYOND)
    return np.asarray(inverse)
