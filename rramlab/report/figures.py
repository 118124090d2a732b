"""Figures of arrays: the conductance map, its histogram, and how lines compare."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rramlab.base.files import write_atomic
from rramlab.macro.cells import CONDUCTING_THRESHOLD_S, is_conducting
from rramlab.report.theme import LINE, ONE, SOFT, TWO, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float32]
_MICRO = 1e6
_THRESHOLD = CONDUCTING_THRESHOLD_S * _MICRO


def top_of(*maps_S: Floats | None) -> float:
    """Return where the colour scale of maps ends, in µS: at 99.9 % of their cells, and not below the threshold."""
    known = [each[np.isfinite(each)] for each in maps_S if each is not None]
    tops = [float(np.percentile(each, 99.9)) * _MICRO for each in known if each.size]
    return max(*tops, _THRESHOLD) if tops else _THRESHOLD


def draw_map(figure: Figure, axes: Axes, conductance_S: Floats, top: float) -> None:
    """Draw float32[rows, columns] in siemens as a map with its colour bar, 0 to ``top`` µS; hatched where not read."""
    axes.patch.set(hatch="////", facecolor="none", edgecolor=LINE)
    axes.imshow(conductance_S * _MICRO, cmap="viridis", vmin=0, vmax=top, interpolation="none", aspect="auto")
    axes.set(xlabel="column (source line)", ylabel="row (bit line)", box_aspect=1)
    bar = axes.inset_axes((1.04, 0.0, 0.045, 1.0))
    bar.imshow(
        np.linspace(0, 1, 256)[:, None], cmap="viridis", extent=(0, 1, 0, top), origin="lower", aspect="auto",
        interpolation="none",
    )  # fmt: skip
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set(xticks=[], ylabel="conductance (µS)")
    bar.spines[:].set_visible(False)


def draw_histogram(axes: Axes, after_S: Floats, before_S: Floats | None = None) -> None:
    """Draw how many cells conduct how much, on a logarithmic count; ``before_S`` as an outline."""
    after = after_S[np.isfinite(after_S)] * _MICRO
    before = before_S[np.isfinite(before_S)] * _MICRO if before_S is not None else np.zeros(0)
    highest = max(float(after.max(initial=0.0)), float(before.max(initial=0.0)), 1.25 * _THRESHOLD)
    bins = np.linspace(min(0.0, float(after.min(initial=0.0))), highest, 121).tolist()
    axes.hist(after, bins=bins, histtype="stepfilled", color=ONE, alpha=0.75, label="after" if before.size else "read")
    if before.size:
        axes.hist(before, bins=bins, histtype="step", color=TWO, linewidth=1.4, label="before")
    axes.axvline(_THRESHOLD, color=SOFT, linewidth=1, linestyle="--", label="conducting from 2 µS")
    if after.size or before.size:
        axes.set(yscale="log", ylim=(0.7, None))
        plain_counts(axes)
    axes.set(xlabel="conductance (µS)", ylabel="cells")
    axes.legend(loc="upper right")


def plain_counts(axes: Axes) -> None:
    """Write the counts of a logarithmic axis as words would: 1, 100, 10k."""

    def spelt(value: float, _: object) -> str:
        return f"{value / 1000:,.0f}k" if value >= 1000 else f"{value:g}"

    axes.yaxis.set_major_formatter(spelt)


def draw_lines(figure: Figure, conductance_S: Floats) -> None:
    """Draw the median of the conducting cells of each row and of each column: where voltage is lost, they fall."""
    cells = np.where(is_conducting(conductance_S), conductance_S * _MICRO, np.nan)
    panels = figure.subplots(2, 1, sharey=True)
    for axes, axis, label in ((panels[0], 1, "row (bit line)"), (panels[1], 0, "column (source line)")):
        conducts = np.flatnonzero(~np.isnan(cells).all(axis=axis))
        medians = np.nanmedian(cells.take(conducts, axis=1 - axis), axis=axis) if conducts.size else np.zeros(0)
        axes.plot(conducts, medians, ".", color=ONE, markersize=2.5)
        axes.set(xlabel=label, ylabel="median (µS)", xlim=(-0.5, cells.shape[1 - axis] - 0.5))
        axes.grid(axis="y")


def save_map(conductance_S: Floats, path: Path, title: str) -> None:
    """Write a PNG: the array's conductances in µS, and the histogram of all cells that were read.

    ``conductance_S``: float32[rows, columns] in siemens, NaN where not read.
    """
    from matplotlib.figure import Figure

    known = conductance_S[np.isfinite(conductance_S)] * _MICRO
    conducting = known[known >= _THRESHOLD]
    median = f"median {np.median(conducting):.2f} µS" if conducting.size else "none"
    with drawing():
        figure = Figure(figsize=(12, 5.6), dpi=96, layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
        draw_map(figure, left, conductance_S, top_of(conductance_S))
        left.set_title(title)
        draw_histogram(right, conductance_S)
        right.set_title(f"{conducting.size:,} of {known.size:,} cells conduct\n{median}")
        save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG that is whole or absent."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())
