"""The figures of what was measured of a die."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rramlab.calibration.noise import freedom
from rramlab.records.files import DieRecord, Kept
from rramlab.records.sections import FormingSection, NoiseSection
from rramlab.report.calibration.drawing import SIZE, Floats, histogram_bins, zero_line
from rramlab.report.calibration.values import NORMAL_95
from rramlab.report.figures import plain_counts
from rramlab.report.pictures import Picture
from rramlab.report.theme import DASHES, ONE, SERIES, THREE, TWO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOADS = {"light": "few columns", "row": "all columns", "full": "all rows"}


def die_pictures(kept: Kept, label: str) -> dict[str, list[Picture]]:
    """Return the pictures of a die's record by its sections; ``label``: begins their names."""
    record = kept.record
    assert isinstance(record, DieRecord)
    found: dict[str, list[Picture]] = {}
    if record.forming is not None:
        found["forming"] = list(_forming(kept, label, record.forming))
    if record.noise is not None:
        found["noise"] = list(_noise(kept, label, record.noise))
    if record.wires is not None:
        found["wires"] = list(_wires(kept, label))
    return found


def formed_by(low_V: Floats, high_V: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return voltages, the share of the cells that had formed by each, and its 95 % interval (Wilson, 1927)."""
    volts = np.unique(np.concatenate([low_V[np.isfinite(low_V)], high_V[np.isfinite(high_V)]]))
    cells, z = high_V.size, NORMAL_95
    share = np.searchsorted(np.sort(high_V), volts, side="right") / cells
    middle = (share + z**2 / (2 * cells)) / (1 + z**2 / cells)
    half = z * np.sqrt(share * (1 - share) / cells + z**2 / (4 * cells**2)) / (1 + z**2 / cells)
    return volts, share, middle - half, middle + half


def _forming(kept: Kept, label: str, section: FormingSection) -> Iterator[Picture]:
    if "forming/low_V" not in kept.arrays or "forming/high_V" not in kept.arrays:
        return
    volts, share, low, high = formed_by(kept.arrays["forming/low_V"], kept.arrays["forming/high_V"])

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
        curve = section.curve
        shares = np.linspace(0.002, 0.998, 250)
        fitted = np.array([curve.voltage_V(each) for each in shares])
        u = np.array([curve.voltage_u(each, section.mean.uncertainty, section.sigma.uncertainty) for each in shares])
        above.fill_betweenx(
            100 * shares, fitted - NORMAL_95 * u, fitted + NORMAL_95 * u, color=TWO, alpha=0.18, linewidth=0,
            label="95 % band",
        )  # fmt: skip
        above.plot(fitted, 100 * shares, color=TWO, linestyle="--", label="fitted curve")
        error = 100 * np.stack([share - low, high - share])
        above.errorbar(
            volts, 100 * share, yerr=np.maximum(error, 0), fmt="o", color=ONE, markersize=3.5, linewidth=1, capsize=2,
            label="measured, 95 % interval",
        )  # fmt: skip
        above.set(ylabel="formed (%)", ylim=(-3, 103))
        above.legend(loc="upper left")
        rest = 100 * (share - [curve.fraction(each) for each in volts])
        below.errorbar(
            volts, rest, yerr=np.maximum(error, 0), fmt="o", color=ONE, markersize=3.5, linewidth=1, capsize=2
        )
        zero_line(below)
        below.set(xlabel="voltage (V)", ylabel="residual (%)")
        for axes in (above, below):
            axes.grid()

    yield Picture(
        f"{label}-forming", "Cells formed by a voltage",
        f"Share of {section.cells} cells that had formed by each voltage of the ramp, with the fitted curve: mean "
        f"{section.mean}, spread {section.sigma}.",
        draw, SIZE, f"{section.formed:,} of {section.cells:,} cells formed within the ramp.",
    )  # fmt: skip


def _noise(kept: Kept, label: str, section: NoiseSection) -> Iterator[Picture]:
    if "noise/of_cell" in kept.arrays:
        own, white = 100 * kept.arrays["noise/of_cell"], 100 * section.read.value
        yield Picture(
            f"{label}-noise-cells", "Each cell's own noise",
            f"Histogram of the noise of {own.size:,} cells: median {np.median(own):.3f}%; read noise of the die {white:.3f}%.",
            lambda figure: _own_noise(figure, own, section), SIZE,
            f"The curve is what {section.reads} reads of cells with one and the same noise would show.",
        )  # fmt: skip
    if "noise/steps" in kept.arrays and "noise/threshold" in kept.arrays:
        steps, threshold = kept.arrays["noise/steps"], float(kept.arrays["noise/threshold"][0])
        switched = int(np.count_nonzero(steps > threshold))
        said = f"{switched:,} of {steps.size:,} cells lie above {threshold:.2f}"
        yield Picture(
            f"{label}-noise-steps", "Cells that switched",
            f"Histogram of the largest step of each cell over its standard error: {said}.",
            lambda figure: _steps(figure, steps, threshold), SIZE, f"{said}. Counts are logarithmic.",
        )  # fmt: skip


def _own_noise(figure: Figure, own: Floats, section: NoiseSection) -> None:
    axes = figure.subplots()
    counts, edges, _ = axes.hist(own, bins=histogram_bins(own), color=ONE, alpha=0.75, label="cells")
    white = 100 * section.read.value
    spread = white / math.sqrt(2 * freedom(section.reads))
    x = np.linspace(edges[0], edges[-1], 200)
    density = np.exp(-(((x - white) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
    axes.plot(x, own.size * (edges[1] - edges[0]) * density, color=TWO, linestyle="--", label="expected of alike cells")
    axes.axvline(white, color=THREE, linewidth=1.2, label="read noise of the die")
    axes.set(xlabel="noise of one read (% of the conductance)", ylabel="cells", ylim=(0, 1.3 * float(np.max(counts))))
    axes.legend(loc="upper left", ncols=1)


def _steps(figure: Figure, steps: Floats, threshold: float) -> None:
    axes = figure.subplots()
    width = max(float(steps.max()), threshold) / 60
    first, last = (math.ceil((end - threshold) / width) for end in (0.0, max(float(steps.max()), threshold) + width))
    bins = [threshold + width * place for place in range(first - 1, last + 1)]  # the threshold is one of their edges
    axes.hist(steps[steps <= threshold], bins=bins, color=ONE, alpha=0.75, label="white noise alone")
    axes.hist(steps[steps > threshold], bins=bins, color=THREE, alpha=0.75, hatch="////", label="switched")
    axes.axvline(threshold, color=TWO, linestyle="--", linewidth=1.2, label="threshold")
    axes.set(xlabel="largest step / its standard error", ylabel="cells", yscale="log", ylim=(0.7, None))
    plain_counts(axes)
    axes.legend(loc="upper right")


def _wires(kept: Kept, label: str) -> Iterator[Picture]:
    shown = {load: kept.arrays[f"wires/loss_{load}"] for load in _LOADS if f"wires/loss_{load}" in kept.arrays}
    if not shown:
        return

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        lowest = [100 * float((1 - seen).min()) for seen in shown.values()]
        for number, (load, seen) in enumerate(shown.items()):
            axes.plot(
                100 * (1 - seen), color=SERIES[number], linestyle=DASHES[number], linewidth=1.2, label=_LOADS[load]
            )
        axes.set(xlabel="column (source line)", ylabel="lost in the lines (%)", ylim=(min(0.0, *lowest), None))
        axes.grid()
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, title="loaded with")

    said = "; ".join(f"{_LOADS[load]} {1 - seen.mean():.2%}" for load, seen in shown.items())
    yield Picture(
        f"{label}-wires-loss", "What the lines take off a read",
        f"Share of the conductance that a read does not show, by column, in each load: {said}.", draw, SIZE,
        f"Mean of the columns: {said}.",
    )  # fmt: skip
