"""Dies of the other memories, against the figures that ``rramlab/sim/memories.py`` gives with their sources."""

import numpy as np

from rramlab.sim.state import LOW
from validation.common import DAY, Found, in_uS
from validation.dies import formed
from validation.plots import RED, SKY, panels

TITLE = "Other memories"


def validate(run):
    geometry = run.medium
    found = Found(
        f"Dies of {geometry.rows} × {geometry.columns} of each preset, one pulse a cell at 3.75 V, read by the cells' true "
        "conductance at once and after a day at 25 °C. Their figures and sources are in `rramlab/sim/memories.py`; what is "
        "tested is that the dies follow them."
    )
    samples, spreads, taken = {}, [], []
    for name in ("published", "phase-change", "ferroelectric", "charge-trap"):
        die = formed(geometry, 1, preset=name)
        grown = die.state.phase == LOW  # stuck ones left out
        now = die.conductance_S[grown].astype(np.float64)
        die.age(DAY)
        later = die.conductance_S[grown].astype(np.float64)
        median, sigma = _promised(die.model.conductance)
        found.promise(
            f"{name}: median and σ after one pulse",
            f"{in_uS(median):.2f} µS within 2 %, {in_uS(sigma):.2f} µS within 5 %",
            f"{in_uS(np.median(now)):.2f} µS, {in_uS(now.std()):.2f} µS",
            abs(np.median(now) / median - 1) <= 0.02 and abs(now.std() / sigma - 1) <= 0.05,
        )
        r, change = die.model.relaxation, float(np.median(later / now) - 1)
        relaxed = min(1, np.log1p(DAY / r.relax_start_s) / np.log1p(r.relax_end_s / r.relax_start_s))
        should = np.expm1(-r.relax_mean * relaxed - r.drift * np.log1p(DAY / r.drift_start_s))
        promised, kept = f"{should:+.1%} within 0.3 points", abs(change - should) <= 0.003
        found.promise(f"{name}: median change in a day", promised, f"{change:+.1%}", kept)
        found.figures[name] = {
            "formed": float(grown.mean()), "median_S": float(np.median(now)), "sigma_S": float(now.std()),
            "median_after_a_day_S": float(np.median(later)), "sigma_after_a_day_S": float(later.std()),
        }  # fmt: skip
        samples[name] = now, later
        spreads.append(f"{name} {now.std() / np.median(now):.0%}")
        taken.append(f"{name} {grown.mean():.2%}")
    found.findings.append(
        f"Relative spread after one pulse (σ/median): {', '.join(spreads)}; cells that took their pulse: {', '.join(taken)}."
    )
    found.drawing = _draw(samples)
    return found


def _promised(law):
    """Return median and σ (S) of a conductance law."""
    if law.law_S is None:
        variance = law.ln_sigma**2
        return law.median_S, law.median_S * np.sqrt(np.expm1(variance)) * np.exp(variance / 2)
    drawn = np.interp(np.linspace(0, 1, 20001), np.linspace(0, 1, len(law.law_S)), law.law_S)
    return float(np.median(drawn)), float(drawn.std())


def _draw(samples):
    figure, axes = panels(7.6, 4.2, 2, 2, sharex=True)
    edges = np.linspace(0, 30, 91)
    for axis, (name, (now, later)) in zip(axes.flat, samples.items(), strict=True):
        axis.hist(in_uS(now), edges, density=True, color=SKY, label="after one pulse")
        axis.hist(in_uS(later), edges, density=True, histtype="step", color=RED, lw=1.1, label="a day later, 25 °C")
        axis.set_title("TaOx (published)" if name == "published" else name)
    axes[0, 0].legend()
    figure.supxlabel("conductance of the cells that took their pulse, µS", fontsize=8)
    figure.supylabel("density, 1/µS", fontsize=8)
    return figure
