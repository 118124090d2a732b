"""Reset and set again and again: each cycle draws anew."""

import numpy as np
from scipy import stats

from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.sim.state import HIGH
from validation.common import RESET, SET, Z95, Found, in_uS
from validation.dies import formed, logarithms
from validation.plots import BLUE, GREEN, ORANGE, PINK, RED, panels

TITLE = "From cycle to cycle"


def validate(run):
    count, geometry = 20 if run.quick else 50, Geometry(16, 512)
    found = Found(
        f"{geometry.cells:,} cells of one die (16 × 512), formed, then {count} times reset (2 V, gate 3 V) and set (2 V, "
        "gate 1.6 V) by one pulse of 1 µs each, without verify. Nothing of it is published for this macro: the spreads are "
        "the model's assumed figures, and what is tested is that the pulses give them."
    )
    die, cells = formed(geometry, 1), CellSelection.everything(geometry)
    first, low, high, partly = logarithms(die).ravel(), [], [], []
    for _ in range(count):
        die.pulse("reset", cells, RESET)
        high.append(logarithms(die).ravel())
        partly.append((die.state.phase != HIGH).ravel())
        die.pulse("set", cells, SET)
        low.append(logarithms(die).ravel())
    low, high, partly = np.array(low), np.array(high), np.array(partly)
    states = {name: _spread(values) for name, values in (("LRS", low), ("HRS", high))}
    found.figures |= {"states": states, "not_fully_reset": float(partly.mean())}
    share, switching = die.model.conductance.column_share, die.model.switching
    for name, one, other in (
        ("a set after a reset draws a new conductance: correlation of successive LRS", low[1:], low[:-1]),
        ("nothing of the formed conductance survives the first cycle", first, low[0]),
    ):
        # Uncertain by the number of pairs, and by the number of columns that carry the column's share.
        band = Z95 * np.sqrt(1 / one.size + 2 * share**2 / (geometry.columns - 1))
        value, promised = _correlation(one, other), f"{share} ± {band:.4f} (the column's share, nothing more)"
        found.promise(name, promised, f"{value:+.4f}", abs(value - share) <= band)
    p = float(stats.ks_2samp(first, low[-1]).pvalue)
    text = f"p = {p:.2f}, {first.size:,} cells"
    found.promise(f"after {count} cycles LRS has the law of forming", "p > 0.01", text, p > 0.01)
    error = np.expm1(Z95 * switching.hrs_ln_sigma * np.sqrt(np.pi / 2 / high.size)) + 0.03
    promised, median = f"{in_uS(switching.hrs_median_S):.2f} µS within {error:.0%}", states["HRS"]["median_S"]
    kept = abs(median / switching.hrs_median_S - 1) <= error
    found.promise("median of HRS", promised, f"{in_uS(median):.3f} µS", kept)
    for name, each in states.items():
        found.findings.append(
            f"{name}: median {in_uS(each['median_S']):.2f} µS, σ of ln G {each['ln_sigma']:.3f} in all, "
            f"{each['cycle_to_cycle']:.3f} from cycle to cycle of one cell, {each['between_cells']:.3f} between the cells' "
            f"means; successive cycles correlate by {each['successive']:+.4f}."
        )
    fully, not_fully = (in_uS(np.exp(np.median(low[chosen]))) for chosen in (~partly, partly))
    found.findings.append(
        f"{partly.mean():.2%} of the reset pulses do not reach the full high-resistance state at 2 V; a set pulse takes such "
        f"cells to {not_fully:.1f} µS in the median, those that did to {fully:.1f} µS."
    )
    found.drawing = _draw(low, high)
    return found


def _correlation(one, other):
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _spread(values):
    """Return the spread of ln G, float64[cycles, cells], as a whole and in its parts."""
    within = values.var(axis=0, ddof=1).mean()
    between = values.mean(axis=0).var(ddof=1) - within / len(values)
    return {
        "median_S": float(np.exp(np.median(values))),
        "ln_sigma": float(values.std()),
        "cycle_to_cycle": float(np.sqrt(within)),
        "between_cells": float(np.sqrt(max(between, 0))),
        "successive": _correlation(values[1:], values[:-1]),
    }


def _draw(low, high):
    figure, (left, right) = panels(7.6, 3.0, 2, sharey=True)
    number = np.arange(1, len(low) + 1)
    for cell, colour, marker in ((5, BLUE, "o"), (1000, ORANGE, "s"), (3001, GREEN, "^"), (7777, PINK, "D")):
        style = {"marker": marker, "color": colour, "ms": 2.2, "lw": 0.6}
        left.plot(number, in_uS(np.exp(low[:, cell])), "-", **style)
        left.plot(number, in_uS(np.exp(high[:, cell])), "--", mfc="none", **style)
    left.set(yscale="log", xlabel="cycle", ylabel="conductance, µS", title="Four cells: set (filled), reset (open)")
    left.xaxis.get_major_locator().set_params(integer=True)
    shares = np.linspace(0, 100, 401)
    for values, colour, name in ((low, BLUE, "after set, every fifth cycle"), (high, RED, "after reset")):
        right.plot(shares, in_uS(np.exp(np.percentile(values[::5], shares, axis=1))), color=colour, lw=0.5, alpha=0.5)
        right.plot([], [], color=colour, label=name)
    right.set(xlabel="cells below, %", title="All cells")
    right.legend(loc="center", bbox_to_anchor=(0.5, 0.58))
    return figure
