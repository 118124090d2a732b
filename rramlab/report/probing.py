"""Figures of single cells and of lines: I–V curves, and what a contact test saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rramlab.base.units import show
from rramlab.report.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVE, _LIMIT, _GUIDE = "#30688e", "#b5367a", "#8a8a8a"
_PRISTINE_S = 0.1e-6  # design, section 7
_FLOOR_A = 0.1e-9  # what reads less, or below zero by its offset, is drawn here
# What is wrong with a line: its marker and colour.
_MARKS = {"open": ("x", "#d1495b"), "leaking": ("^", "#e08e1b"), "always on": ("D", "#7b3fa0"), "saturated": ("s", "#111111"),
          "with a shorted cell": ("v", "#b5367a")}  # fmt: skip


def save_curve(curve: npt.NDArray[Any], path: Path, title: str, compliance_A: float) -> None:
    """Write a PNG: current over voltage, and its magnitude on a logarithmic scale.

    ``curve``: structured array[points] with ``voltage`` in V, ``current`` in A and ``in_compliance``. Points at which the
    unit's limit held the output are marked; the arrow says in which order the points were taken.
    """
    from matplotlib.figure import Figure

    volts, limited = curve["voltage"], curve["in_compliance"]
    figure = Figure(figsize=(11, 4.8), dpi=96, layout="constrained")
    figure.suptitle(title)
    linear, logarithmic = figure.subplots(1, 2)
    unit, scale = _unit(float(np.abs(curve["current"]).max(initial=0.0)))
    current = curve["current"] * scale
    magnitude = np.where(current == 0, np.nan, np.abs(current))
    for axes, values, label in (
        (linear, current, f"current ({unit})"),
        (logarithmic, magnitude, f"|current| ({unit})"),
    ):
        axes.plot(volts, values, ".-", color=_CURVE, linewidth=1, markersize=4)
        if limited.any():
            axes.plot(volts[limited], values[limited], "o", color=_LIMIT, fillstyle="none", label="in compliance")
            axes.axhline(compliance_A * scale, color=_LIMIT, linewidth=0.8, linestyle="--", label="compliance")
        axes.set(xlabel="voltage (V)", ylabel=label)
        axes.grid(color="#dddddd", linewidth=0.5)
    for number, order in ((len(volts) // 4, "up"), (3 * len(volts) // 4, "down")):
        rising = volts[min(number + 1, len(volts) - 1)] >= volts[number]
        if len(volts) > 3 and rising == (order == "up"):
            ends = {"xy": (volts[number + 1], current[number + 1]), "xytext": (volts[number], current[number])}
            linear.annotate("", **ends, arrowprops={"arrowstyle": "-|>", "color": _CURVE, "mutation_scale": 18})
    if np.isfinite(magnitude).any():
        logarithmic.set_yscale("log")
    if limited.any():
        linear.legend(frameon=False)
    save_figure(figure, path)


def _unit(amperes: float) -> tuple[str, float]:
    """Return the unit in which a current is a handy number, and what to multiply amperes with."""
    return next((found for found in (("mA", 1e3), ("µA", 1e6)) if amperes * found[1] >= 1), ("nA", 1e9))


def save_contact(
    conductance_S: npt.NDArray[np.float32], found: dict[str, Any], contact_V: float, path: Path, title: str
) -> None:
    """Write a PNG: the mean current of every row and column at the contact voltage, with what is wrong marked.

    ``conductance_S``: float32[rows, columns] of the contact test. ``found``: its report as JSON. Rows are averaged over the
    columns that are not saturated.
    """
    from matplotlib.figure import Figure

    current = conductance_S * contact_V
    shorts = np.array(found["shorted_cells"], np.intp).reshape(-1, 2)
    figure = Figure(figsize=(11, 6.4), dpi=96, layout="constrained")
    figure.suptitle(title)
    above, below = figure.subplots(2, 1)
    of_rows = {"open": found["open_rows"], "leaking": found["leaking_rows"], "always on": found["stuck_rows"]}
    heard = np.delete(current, found["saturated_columns"], axis=1)
    of_row = heard.mean(axis=1) if heard.size else current.mean(axis=1)
    _lines(above, of_row, {**of_rows, "with a shorted cell": np.unique(shorts[:, 0])}, "row (bit line)")
    of_columns = {"open": found["open_columns"], "saturated": found["saturated_columns"]}
    marks = {**of_columns, "with a shorted cell": np.unique(shorts[:, 1])}
    _lines(below, current.mean(axis=0), marks, "column (source line)")
    for axes in (above, below):
        axes.axhline(
            _PRISTINE_S * contact_V * 1e9, color=_GUIDE, linewidth=0.8, linestyle="--", label="a pristine cell"
        )
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title=f"at {show(contact_V, 'V')}")
    save_figure(figure, path)


def _lines(axes: Axes, mean_A: npt.NDArray[np.float32], marks: dict[str, Any], label: str) -> None:
    nano = np.maximum(mean_A, _FLOOR_A) * 1e9
    axes.plot(nano, ".", color=_CURVE, markersize=3)
    for what, lines in marks.items():
        index = np.asarray(lines, np.intp)
        if index.size:
            marker, colour = _MARKS[what]
            axes.plot(
                index, nano[index], marker, color=colour, fillstyle="none", markersize=8, label=f"{what}: {index.size}"
            )
    # Two decades at least, so that pictures compare and a healthy die looks as even as it is.
    span = min(1.0, float(nano.min()) / 2), max(100.0, float(nano.max()) * 2)
    axes.set(xlabel=label, ylabel="mean current of a cell (nA)", yscale="log", ylim=span)
    axes.grid(color="#dddddd", linewidth=0.5)
