"""What figures of several sections have in common: values line by line, bands, residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rramlab.report.calibration.values import NORMAL_95
from rramlab.report.theme import ONE, SOFT, TWO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
SIZE = (5.4, 4.4)  # inches


@dataclass(frozen=True, eq=False)
class ByLine:
    """A value of every line, float64[lines]; ``u``: its standard uncertainty, one for all or of each."""

    values: Floats
    label: str
    line: str  # what a line is
    u: float | Floats | None = None


def draw_by_line(figure: Figure, quantities: list[ByLine]) -> None:
    """Draw each quantity line by line with its 95 % band, and its histogram beside it on the same scale."""
    panels = figure.subplots(len(quantities), 2, width_ratios=(3.2, 1), sharey="row", squeeze=False)
    for (left, right), each in zip(panels, quantities, strict=True):
        lines = np.arange(each.values.size)
        if each.u is not None:
            band = NORMAL_95 * np.broadcast_to(each.u, each.values.shape)
            left.vlines(
                lines, each.values - band, each.values + band, color=ONE, alpha=0.3, linewidth=1, label="95 % interval"
            )
        left.plot(lines, each.values, ".", color=ONE, markersize=2.5)
        for axes in (left, right):
            axes.axhline(each.values.mean(), color=TWO, linewidth=1, linestyle="--", label="mean")
        left.set(xlabel=each.line, ylabel=each.label, xlim=(-0.5, each.values.size - 0.5))
        left.grid(axis="y")
        right.hist(each.values, bins=histogram_bins(each.values), orientation="horizontal", color=ONE, alpha=0.75)
        right.set(xlabel="lines")
        right.tick_params(labelleft=False)
    panels[0, 0].legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.1)


def histogram_bins(values: Floats) -> int:
    """Return how many bins show the shape of so many values."""
    return int(np.clip(np.sqrt(values.size), 8, 48))


def zero_line(axes: Axes) -> None:
    axes.axhline(0.0, color=SOFT, linewidth=0.8)
