"""Currents behind lines with resistance: the exact solution against a nodal analysis, the fast one against the exact."""

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from rramlab.macro.crossbar import LineResistances, transfer
from validation.common import FORM, FULL, Found
from validation.dies import Bench, conducts, formed
from validation.plots import BLACK, BLUE, GREY, ORANGE, panels

TITLE = "Resistance of the lines"
SEGMENTS_OHM = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def validate(run):
    found = Found(
        "A whole formed die of 512 × 512 behind the lines of the simulated board: 1 Ohm a segment, switches of 125 Ohm "
        "± 4 %, amplifiers of 10 Ohm, every bit line driven. The exact solution stands against a nodal analysis of its "
        "own, the fast one against the exact."
    )
    bench = Bench(FULL, 1)
    bench.form_alone()
    cells = bench.die.conductance_S.astype(np.float64)
    half = np.where(conducts(formed(FULL, 1, replace(FORM, amplitude_V=3.45))), cells, 0.1e-6)

    def lines(size=512, segment_Ohm=1.0):
        return LineResistances(bench.board.bl_Ohm[:size], bench.board.sl_Ohm[:size], segment_Ohm)

    exact, fast = _compare(found, "all formed", cells, lines())
    _compare(found, "half formed", half, lines())
    size = 48 if run.quick else 96
    volts, corner = np.random.default_rng(1).random(size) * 0.2, cells[:size, :size]
    error = float(np.abs(volts @ transfer(corner, lines(size)) / _nodal(corner, lines(size), volts) - 1).max())
    name = f"exact against a nodal analysis, {size} × {size}, random voltages"
    found.promise(name, "below 1e-9 of a column current", f"{error:.0e}", error < 1e-9)
    lost = [float(1 - transfer(cells, lines(512, each), "fast").sum() / cells.sum()) for each in SEGMENTS_OHM]
    found.figures |= {"nodal_error": error, "lost_by_segment_Ohm": dict(zip(SEGMENTS_OHM, lost, strict=True))}
    found.findings.append(
        "Share of the current lost with every cell formed, by the resistance of a segment: "
        + ", ".join(f"{ohm:g} Ohm {share:.0%}" for ohm, share in zip(SEGMENTS_OHM, lost, strict=True))
        + ". Most of it is lost in the switches, for a whole formed row conducts 6 mS; the wire alone is assumed, and needs "
        "to be measured before a whole formed array is multiplied."
    )
    found.drawing = _draw(cells, exact, fast, lost)
    return found


def _compare(found, name, conductance_S, lines):
    """Return the exact and the fast solution."""
    exact, fast = transfer(conductance_S, lines, "exact"), transfer(conductance_S, lines, "fast")
    column = float(np.abs(fast.sum(axis=0) / exact.sum(axis=0) - 1).max())
    element = np.abs(fast / exact - 1)[exact > exact.max() / 1000]
    each = found.figures[name] = {
        "column_error": column,
        "element_error_worst": float(element.max()),
        "element_error_median": float(np.median(element)),
        "element_error_of_largest": float(np.abs(fast - exact).max() / exact.max()),
        "lost": float(1 - exact.sum() / conductance_S.sum()),
        "lost_worst_column": float(1 - (exact.sum(axis=0) / conductance_S.sum(axis=0)).min()),
    }
    promise = f"fast against exact, worst column current, all rows driven, {name}"
    found.promise(promise, "below 0.5 %", f"{column:.4%}", column < 0.005)
    found.findings.append(
        f"{name.capitalize()}: {each['lost']:.1%} of the current is lost in all, {each['lost_worst_column']:.1%} in the "
        "worst column. Single elements of the fast solution (those above a thousandth of the largest) are off by "
        f"{each['element_error_median']:.4%} in the median and {each['element_error_worst']:.3%} at worst, by "
        f"{each['element_error_of_largest']:.4%} of the largest element."
    )
    return exact, fast


def _nodal(conductance_S, lines, volts):
    """Return column currents (A) by solving Kirchhoff's equations of every node: an independent way."""
    rows, columns = conductance_S.shape
    bit = np.arange(rows * columns).reshape(rows, columns)
    source, wire = bit + bit.size, 1 / lines.segment_Ohm
    ends = [(bit, source, conductance_S)]
    ends += [(bit[:, :-1], bit[:, 1:], np.full((rows, columns - 1), wire))]
    ends += [(source[:-1], source[1:], np.full((rows - 1, columns), wire))]
    one, other, admittance = (np.concatenate([each[i].ravel() for each in ends]) for i in range(3))
    ground, driven = np.zeros(2 * bit.size), np.zeros(2 * bit.size)
    ground[bit[:, 0]], ground[source[-1]] = 1 / lines.bl_Ohm, 1 / lines.sl_Ohm
    driven[bit[:, 0]] = volts / lines.bl_Ohm
    off = sparse.coo_array((admittance, (one, other)), shape=(2 * bit.size,) * 2)
    off = off + off.T
    system = sparse.diags_array(off.sum(axis=0) + ground) - off
    return spsolve(system.tocsc(), driven)[source[-1]] / lines.sl_Ohm


def _draw(cells, exact, fast, lost):
    figure, (image, currents, curve) = panels(10.0, 3.1, 3, width_ratios=[1.15, 1.1, 1])
    # Means of 8 × 8 cells: a single cell's loss varies little with its own conductance.
    reached, all_S = (each.reshape(64, 8, 64, 8).sum(axis=(1, 3)) for each in (exact, cells))
    shown = image.imshow(100 * (1 - reached / all_S), cmap="viridis", extent=(0, 512, 512, 0))
    figure.colorbar(shown, ax=image, label="current lost, %")
    image.grid(visible=False)
    image.set(xlabel="column (driver at 0)", ylabel="row (amplifier at 512)", title="Lost on the way, 1 Ohm a segment")
    styles = (GREY, 1.0, "-", "no resistance"), (BLACK, 1.6, "-", "exact"), (ORANGE, 0.9, "--", "fast")
    for matrix, (colour, width, line, name) in zip((cells, exact, fast), styles, strict=True):
        currents.plot(matrix.sum(axis=0) * 0.2e3, line, color=colour, lw=width, label=name)
    currents.set(xlabel="column", ylabel="current, mA", ylim=(0, None), title="All rows at 0.2 V")
    currents.legend(loc="center right")
    curve.semilogx(SEGMENTS_OHM[1:], np.array(lost[1:]) * 100, "o-", color=BLUE, ms=4)
    curve.axhline(100 * lost[0], color=GREY, lw=0.9, ls="--")
    curve.text(5, 100 * lost[0] - 5, "switches and amplifiers alone", color=GREY, ha="right", fontsize=7)
    curve.set(xlabel="resistance of a segment, Ohm", ylabel="current lost, %", ylim=(0, 100), title="The whole array")
    return figure
