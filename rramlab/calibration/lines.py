"""Resistance of switches and wires, from load dependence: the same cells read with few and with many others on their lines.

Three reads of every cell. *Light*: its row's word line alone is on, and few columns are connected. *Row*: the same with all
columns, so that the bit line carries all of the row. *Full*: all word lines are on, so that the other rows load the source
line too. In the ratio of two reads the cell itself cancels, and with it the gain of its column; what stays is what the lines
lose. From light to row that is the bit line's switch and the wire along it; from row to full it is the source line's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, TooFewCells
from rramlab.macro.cells import is_conducting
from rramlab.macro.crossbar import LineResistances, lone_rows, transfer

Floats = npt.NDArray[np.float64]
FEWEST_CELLS = 8  # conducting, of a line
LEAST_SHARE = 0.5  # of the lines that must have them; the others take the mean
MODEL = 1e-3  # relative uncertainty of the network itself, as fast as it is solved: assumed
DRIFT = 1e-4  # of all cells together between the reads, what is left when these are bracketed: assumed
_ROUNDS = 40
_CLOSE = 0.05  # standard uncertainties that no line moves by from one round to the next when the fit ends
_LEAST_OHM = 1e-3  # lines are never fitted below


@dataclass(frozen=True, eq=False)
class LineReads:
    """What was read, float64[rows, columns] in siemens; ``light`` by ``blocks``, bool[blocks, columns], of columns that were
    connected together: each column in exactly one. ``repeats``: how many reads each is the mean of.
    """

    light: Floats
    row: Floats
    full: Floats
    blocks: npt.NDArray[np.bool_]
    repeats: tuple[int, int, int] = (1, 1, 1)


@dataclass(frozen=True, eq=False)
class LineFit:
    """Resistances in Ω with standard uncertainties: ``bl_*`` float64[rows], ``sl_*`` float64[columns], and of a segment.
    ``*_mean_u``: of the mean of the lines; most of it is common to all of them.
    ``cells_S``: float64[rows, columns], what the cells conduct without the lines. ``used``: how many cells it rests on.

    What is measured of lines that have no resistance scatters around zero, so an estimate may be negative; ``lines`` is
    what the network is solved with.
    """

    bl_Ohm: Floats
    bl_u: Floats
    sl_Ohm: Floats
    sl_u: Floats
    segment_Ohm: float
    segment_u: float
    bl_mean_u: float
    sl_mean_u: float
    cells_S: Floats
    used: int

    @property
    def lines(self) -> LineResistances:
        return LineResistances(np.maximum(self.bl_Ohm, 0), np.maximum(self.sl_Ohm, 0), max(self.segment_Ohm, 0.0))


def fit(reads: LineReads, start: LineResistances) -> LineFit:
    """Fit all lines of an array.

    ``start``: where the fit begins, such as the figures of the board's file.

    Raises:
        TooFewCells: too few cells conduct on most lines. DataError: the loads do not differ.
    """
    used = is_conducting(reads.light.astype(np.float32)) & (reads.row > 0) & (reads.full > 0)
    if len(reads.blocks) < 2:
        raise DataError(
            "the light reads connect as many columns as the others, so the load does not differ: choose fewer, such as "
            "--set columns=8"
        )
    rows, columns = known_lines(used)
    state = _State(reads, used, rows, columns, start)
    for _ in range(_ROUNDS):
        before = state.lines
        state = state.refined()
        found = state.found
        assert found is not None
        moved = (
            np.abs(state.lines.bl_Ohm - before.bl_Ohm) / found.bl_u,
            np.abs(state.lines.sl_Ohm - before.sl_Ohm) / found.sl_u,
            [abs(state.lines.segment_Ohm - before.segment_Ohm) / max(found.segment_u, 1e-9)],
        )
        if max(float(np.max(each)) for each in moved) < _CLOSE:
            return found
    raise DataError(
        "the resistances of the lines were not found: the three reads do not fit any network. Let the die rest, see that the "
        "contact test passes, and measure anew"
    )


def known_lines(used: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which rows and columns have enough cells that conduct: bool[rows], bool[columns].

    Raises:
        TooFewCells: less than half of them.
    """
    found = used.sum(axis=1) >= FEWEST_CELLS, used.sum(axis=0) >= FEWEST_CELLS
    for name, lines in zip(("rows", "columns"), found, strict=True):
        if np.mean(lines) < LEAST_SHARE:
            raise TooFewCells(
                f"{np.count_nonzero(lines)} of {lines.size} {name} have {FEWEST_CELLS} or more cells that conduct, expected "
                f"at least {LEAST_SHARE:.0%} of them: the resistance of a line is told from its cells. Form the die first"
            )
    return found


def _filled(values: Floats, errors: Floats, known: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Give lines without cells the mean of the others, as uncertain as these differ."""
    mean = float(values[known].mean())
    own = float(values[known].std()) + float(errors[known].mean())
    return np.where(known, values, mean), np.where(known, errors, own)


@dataclass(frozen=True, eq=False)
class _State:
    reads: LineReads
    used: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.bool_]  # with enough cells that conduct
    columns: npt.NDArray[np.bool_]
    lines: LineResistances
    found: LineFit | None = None  # of the last round

    def refined(self) -> _State:
        """One round: the cells from the light read, the bit lines and the wire from row over light, the source lines."""
        cells = self._cells()
        bl_Ohm, bl_u, bl_shared, segment, segment_u = self._bit_lines(cells)
        lines = replace(self.lines, bl_Ohm=np.maximum(bl_Ohm, _LEAST_OHM), segment_Ohm=max(segment, 0.0))
        sl_Ohm, sl_u, sl_shared = self._source_lines(cells, lines)
        lines = replace(lines, sl_Ohm=np.maximum(sl_Ohm, _LEAST_OHM))
        used = int(np.count_nonzero(self.used))
        found = LineFit(
            bl_Ohm,
            np.hypot(bl_u, bl_shared),
            sl_Ohm,
            np.hypot(sl_u, sl_shared),
            segment,
            segment_u,
            math.hypot(float(np.sqrt(np.mean(bl_u**2) / bl_u.size)), bl_shared),
            math.hypot(float(np.sqrt(np.mean(sl_u**2) / sl_u.size)), sl_shared),
            cells,
            used,
        )
        return replace(self, lines=lines, found=found)

    def _cells(self) -> Floats:
        """Return the conductances that give the light read behind these lines: a fixed point, for the loss is small."""
        seen = np.maximum(self.reads.light, 0.0)
        cells = seen if self.found is None else self.found.cells_S
        for _ in range(3):
            model = self._light(cells, self.lines)
            cells = np.where(model > 0, cells * np.divide(seen, model, out=np.ones_like(seen), where=model > 0), seen)
        return cells

    def _light(self, cells: Floats, lines: LineResistances) -> Floats:
        found = np.zeros_like(cells)
        for block in self.reads.blocks:
            found[:, block] = lone_rows(cells * block, lines)[:, block]
        return found

    def _bit_lines(self, cells: Floats) -> tuple[Floats, Floats, float, float, float]:
        """One Gauss-Newton step for every bit line and the common segment: the normal equations are an arrow."""
        lines = self.lines

        def log_ratio(of: LineResistances, cells: Floats = cells) -> Floats:
            return _log(lone_rows(cells, of), self.used) - _log(self._light(cells, of), self.used)

        model = log_ratio(lines)
        step_bl, step_r = np.maximum(0.02 * lines.bl_Ohm, 0.1), max(0.02 * lines.segment_Ohm, 1e-3)
        by_bl = (log_ratio(replace(lines, bl_Ohm=lines.bl_Ohm + step_bl)) - model) / step_bl[:, None]
        by_r = (log_ratio(replace(lines, segment_Ohm=lines.segment_Ohm + step_r)) - model) / step_r
        found = _log(self.reads.row, self.used) - _log(self.reads.light, self.used)
        weight = self.used & self.rows[:, None]  # alike: relative noise does not depend on the cell
        left = np.where(self.used, found - model, 0.0)
        rr, rb = np.sum(weight * by_r**2), np.sum(weight * by_r * by_bl, axis=1)
        bb = np.maximum(np.sum(weight * by_bl**2, axis=1), 1e-30)
        gr, gb = np.sum(weight * by_r * left), np.sum(weight * by_bl * left, axis=1)
        pivot = rr - np.sum(rb**2 / bb)
        change_r = (gr - np.sum(rb * gb / bb)) / pivot
        change_b = (gb - rb * change_r) / bb
        rest = left - by_r * change_r - by_bl * change_b[:, None]
        variance = float(np.sum(rest[self.used] ** 2)) / max(1, int(np.count_nonzero(self.used)) - len(bb) - 1)
        # A light read that came out high makes its cell too large, and so the loss that is expected of the row: in part that
        # cancels what its noise does to the ratio.
        by_cells = -(log_ratio(lines, 1.01 * cells) - model) / 0.01
        relief = np.sum(weight * by_cells, axis=1) / np.maximum(weight.sum(axis=1), 1)
        noise = 1 / self.reads.repeats[1] + (1 - relief) ** 2 / self.reads.repeats[0]
        variance_of = variance * noise / (1 / self.reads.repeats[1] + 1 / self.reads.repeats[0])
        own_u = float(np.sqrt(np.mean(variance_of) / pivot))
        segment_u = math.hypot(own_u, MODEL * lines.segment_Ohm, DRIFT / _mean_slope(by_r, self.used))
        shared = math.hypot(
            float(np.mean(rb / bb)) * own_u,
            MODEL * float(lines.bl_Ohm.mean()),
            DRIFT / _mean_slope(by_bl, self.used),
        )
        bl_Ohm, bl_u = _filled(lines.bl_Ohm + change_b, np.sqrt(variance_of / bb), self.rows)
        return bl_Ohm, bl_u, shared, lines.segment_Ohm + float(change_r), segment_u

    def _source_lines(self, cells: Floats, lines: LineResistances) -> tuple[Floats, Floats, float]:
        """One step for every source line, each by its own column: what reaches others through the rows is of second order."""

        def log_ratio(of: LineResistances) -> Floats:
            return _log(transfer(cells, of, "fast"), self.used) - _log(lone_rows(cells, of), self.used)

        model = log_ratio(lines)
        step = np.maximum(0.05 * lines.sl_Ohm, 0.5)
        by_sl = np.empty_like(model)
        # Every other line at a time: one takes more from its own column than all lines together do.
        for half in (slice(0, None, 2), slice(1, None, 2)):
            moved = lines.sl_Ohm.copy()
            moved[half] += step[half]
            by_sl[:, half] = ((log_ratio(replace(lines, sl_Ohm=moved)) - model) / step)[:, half]
        found = _log(self.reads.full, self.used) - _log(self.reads.row, self.used)
        left = np.where(self.used, found - model, 0.0)
        ss = np.maximum(np.sum(self.used * by_sl**2, axis=0), 1e-30)
        change = np.sum(self.used * by_sl * left, axis=0) / ss
        rest = left - by_sl * change
        variance = float(np.sum(rest[self.used] ** 2)) / max(1, int(np.count_nonzero(self.used)) - len(ss))
        shared = math.hypot(MODEL * float(lines.sl_Ohm.mean()), DRIFT / _mean_slope(by_sl, self.used))
        return *_filled(lines.sl_Ohm + change, np.sqrt(variance / ss), self.columns), shared


def _mean_slope(by_Ohm: Floats, used: npt.NDArray[np.bool_]) -> float:
    """Return by how much a cell reads less for an ohm more, relative, the mean of all."""
    return max(abs(float(by_Ohm[used].mean())), 1e-12)


def _log(values: Floats, used: npt.NDArray[np.bool_]) -> Floats:
    return np.log(np.where(used & (values > 0), values, 1.0))
