"""Share of cells that form, against the 400 measured ones; and what driving several together does to it."""

from dataclasses import replace

import numpy as np

from rramlab.macro.cells import CellSelection
from rramlab.sim import measured
from validation.common import FORM, Found, exact_band, from_to
from validation.dies import TABLE, Bench, conducts, formed
from validation.plots import BLACK, BLUE, GREEN, ORANGE, panels

TITLE = "Formed share"


def validate(run):
    seeds = run.seeds(10)
    found = Found(
        "Share of cells that conduct (2 µS) after one pulse of 1 µs at a gate of 1.6 V, every cell driven alone as the "
        "measured ones were, against the exact 95 % band (Clopper–Pearson) of the 400 measured cells. Whole dies of "
        f"{run.full.rows} × {run.full.columns} cells.",
        from_to(seeds),
    )
    rows = []
    for volts, count in measured.FORMED:
        shares = [_alone(run.full, seed, volts) for seed in seeds]
        low, high = exact_band(count, measured.BREAKDOWN_CELLS)
        found.promise(
            f"formed at {volts:g} V",
            f"{low:.3f} to {high:.3f} ({count} of 400)",
            f"{min(shares):.4f} to {max(shares):.4f}, {len(shares)} dies",
            low <= min(shares) and max(shares) <= high,
        )
        rows.append({"volts": volts, "measured": count / 400, "low": low, "high": high, "alone": shares})
    grid = np.round(np.arange(3.1, 3.8, 0.05 if run.quick else 0.025), 3).tolist()
    curves = {"alone": [_alone(run.full, 1, volts) for volts in grid]}
    for together in (TABLE.cells_per_pulse, run.full.columns):
        curves[f"{together} together"] = [_together(run.full, volts, together) for volts in grid]
    found.figures |= {"shares": rows, "curves": {"volts": grid, **curves}}
    alone, some, row = (curve[grid.index(3.45)] for curve in curves.values())
    found.findings.append(
        f"At 3.45 V a pulse forms {alone:.1%} of cells driven alone, {some:.1%} of cells driven {TABLE.cells_per_pulse} "
        f"together (the board's way, {100 * (some - alone):+.1f} points) and {row:.1%} of whole rows of "
        f"{run.full.columns} at once: the cells that conduct lift the bit line through its switch. The voltage for a "
        "wanted share is to be sought on the board, not read off the cells; its DAC adds errors of about 1 mV (assumed)."
    )
    found.drawing = _draw(rows, grid, curves)
    return found


def _alone(geometry, seed, volts):
    return float(conducts(formed(geometry, seed, replace(FORM, amplitude_V=volts))).mean())


def _together(geometry, volts, together):
    """Return the share of die 1 when so many cells of a row are driven at once through the switches of board 1."""
    bench = Bench(geometry, 1)
    drive = bench.board.drive("electroform", volts, together, bench.die.model.switching.float_coupling)
    bench.die.pulse("electroform", CellSelection(bench.all), replace(FORM, amplitude_V=volts), drive)
    return float(conducts(bench.die).mean())


def _draw(rows, grid, curves):
    figure, axis = panels(5.2, 3.4)
    volts, shares, low, high = (np.array([row[key] for row in rows]) for key in ("volts", "measured", "low", "high"))
    for (name, curve), colour, line in zip(curves.items(), (BLUE, GREEN, ORANGE), ("-", "--", ":"), strict=True):
        axis.plot(grid, np.array(curve) * 100, line, color=colour, label=f"simulated, {name}")
    band, style = 100 * np.array([shares - low, high - shares]), {"ms": 3.5, "color": BLACK, "capsize": 3, "lw": 1}
    axis.errorbar(volts, shares * 100, band, fmt="o", label="measured, 400 cells, 95 %", **style)
    axis.set(xlabel="electroforming pulse, V (1 µs)", ylabel="cells formed, %", title="Formed share")
    axis.legend(loc="upper left")
    return figure
