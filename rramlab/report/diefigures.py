"""Figures of a die's life: how worn its cells are, and how its cells differ between two runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import CONDUCTING_THRESHOLD_S, is_conducting
from rramlab.report.figures import save_figure


def save_wear(pulses: npt.NDArray[np.uint32], cells: npt.NDArray[np.bool_], path: Path, title: str) -> None:
    """Write a PNG: pulses that each cell had, and how many cells had how many. Arrays are [rows, columns]."""
    from matplotlib.figure import Figure

    shown = np.where(cells, pulses.astype(np.float64), np.nan)
    known = pulses[cells]
    most = int(known.max(initial=0))
    figure = Figure(figsize=(12, 5.6), dpi=96, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    image = left.imshow(shown, cmap="viridis", vmin=0, vmax=max(most, 1), interpolation="nearest")
    left.set(title=title, xlabel="column (source line)", ylabel="row (bit line)")
    figure.colorbar(image, ax=left, label="pulses by the ledger")
    right.hist(known, bins=np.arange(0, most + 2, max(1, (most + 1) // 100)) - 0.5, color="#30688e")
    if known.size:
        right.set_yscale("log")
    worn = f"at most {most:,} a cell, {known.sum(dtype=np.int64):,} in all"
    right.set(title=f"{known.size:,} cells\n{worn}", xlabel="pulses", ylabel="cells")
    save_figure(figure, path)


def save_comparison(
    maps_S: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], names: tuple[str, str], path: Path
) -> None:
    """Write a PNG: the conductance of each cell in one run against the other, and where cells changed state.

    ``maps_S``: float32[rows, columns] in siemens of each run, NaN where not read.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    both = np.isfinite(maps_S[0]) & np.isfinite(maps_S[1])
    a, b = (each[both] * 1e6 for each in maps_S)
    change = is_conducting(maps_S[1]).astype(np.int8) - is_conducting(maps_S[0]).astype(np.int8)
    figure = Figure(figsize=(12, 5.6), dpi=96, layout="constrained")
    left, right = figure.subplots(1, 2)
    top = max(float(np.percentile(np.concatenate([a, b]), 99.9)), 1.0) if a.size else 1.0
    density = left.hist2d(a, b, bins=160, range=((0, top), (0, top)), norm="log", cmap="viridis")[3]
    left.axline((0, 0), slope=1, color="#8a8a8a", linewidth=0.8, linestyle="--")
    for line in (left.axvline, left.axhline):
        line(CONDUCTING_THRESHOLD_S * 1e6, color="#b5367a", linewidth=0.8)
    left.set(title=f"{a.size:,} cells read in both", xlabel=f"{names[0]} (µS)", ylabel=f"{names[1]} (µS)")
    figure.colorbar(density, ax=left, label="cells")
    shown = np.where(both, change, np.nan)
    image = right.imshow(
        shown, cmap=ListedColormap(["#e08e1b", "#e6e6e6", "#30688e"]), vmin=-1.5, vmax=1.5, interpolation="nearest"
    )
    began, ceased = (int(np.count_nonzero((change == side) & both)) for side in (1, -1))
    right.set(
        title=f"{began:,} began to conduct, {ceased:,} ceased", xlabel="column (source line)", ylabel="row (bit line)"
    )
    bar = figure.colorbar(image, ax=right, ticks=[-1, 0, 1])
    bar.set_ticklabels(["ceased", "unchanged", "began"])
    save_figure(figure, path)
