"""Figures: the conductance map and its histogram."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rramlab.base.files import write_atomic
from rramlab.macro.cells import CONDUCTING_THRESHOLD_S

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_map(conductance_S: npt.NDArray[np.float32], path: Path, title: str) -> None:
    """Write a PNG: the array's conductances in µS, and the histogram of all cells that were read.

    ``conductance_S``: float32[rows, columns] in siemens, NaN where not read.
    """
    from matplotlib.figure import Figure

    micro = conductance_S * 1e6
    known = micro[np.isfinite(micro)]
    top = float(np.percentile(known, 99.9)) if known.size else 1.0
    figure = Figure(figsize=(12, 5.6), dpi=96, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    image = left.imshow(micro, cmap="viridis", vmin=0, vmax=max(top, 1.0), interpolation="antialiased")
    left.set(title=title, xlabel="column (source line)", ylabel="row (bit line)")
    figure.colorbar(image, ax=left, label="conductance (µS)")
    right.hist(known, bins=np.linspace(0, max(float(known.max(initial=0.0)), 2.5), 160), color="#30688e")
    right.axvline(CONDUCTING_THRESHOLD_S * 1e6, color="#b5367a", linewidth=1, label="conducting threshold, 2 µS")
    if known.size:
        right.set_yscale("log")
    conducting = known[known >= CONDUCTING_THRESHOLD_S * 1e6]
    median = f"median {np.median(conducting):.2f} µS" if conducting.size else "none"
    right.set(
        title=f"{conducting.size:,} of {known.size:,} cells conduct\n{median}",
        xlabel="conductance (µS)",
        ylabel="cells",
    )
    right.legend(frameon=False)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG that is whole or absent."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())
