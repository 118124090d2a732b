"""Figures of single cells and of lines: I–V curves, and what a contact test saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rramlab.base.units import show
from rramlab.report.figures import save_figure
from rramlab.report.theme import DASHES, FIVE, FOUR, INK, ONE, SERIES, SOFT, THREE, TWO, drawing
from rramlab.runs.curves import measured, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIMIT = TWO
_PRISTINE_S = 0.1e-6  # design, section 7
_FLOOR_A = 0.1e-9  # what reads less, or below zero by its offset, is drawn here
# What is wrong with a line: its marker and colour.
_MARKS = {"open": ("x", TWO), "leaking": ("^", THREE), "always on": ("D", FIVE), "saturated": ("s", INK),
          "with a shorted cell": ("v", FOUR)}  # fmt: skip


def save_curve(curve: npt.NDArray[Any], path: Path, title: str, compliance_A: float) -> None:
    """Write a PNG of one curve, see :func:`draw_curves`."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(11, 4.8), dpi=96, layout="constrained")
        figure.suptitle(title)
        draw_curves(figure, [(curve, "")], compliance_A)
        save_figure(figure, path)


def draw_curves(figure: Figure, curves: Sequence[tuple[npt.NDArray[Any], str]], compliance_A: float) -> None:
    """Draw current over voltage, and its magnitude on a logarithmic scale, of one curve or of several with their names.

    A curve: see :mod:`rramlab.runs.curves`. Points at which the unit's limit held the output are marked, those that are no
    measurement left out and counted; the arrows of a single curve say in which order its points were taken.
    """
    linear, logarithmic = figure.subplots(1, 2)
    known = [(measured(whole(curve)), name) for curve, name in curves]
    left_out = sum(len(curve) for curve, _ in curves) - sum(len(curve) for curve, _ in known)
    unit, scale = _unit(max(float(np.abs(curve["current"]).max(initial=0.0)) for curve, _ in known))
    limited_anywhere = drawable = False
    for number, (curve, name) in enumerate(known):
        volts, limited, current = curve["voltage"], curve["in_compliance"], curve["current"] * scale
        magnitude = np.where(current == 0, np.nan, np.abs(current))
        drawable |= bool(np.isfinite(magnitude).any())
        colour = SERIES[number % len(SERIES)]
        dash = DASHES[number // len(SERIES) % len(DASHES)]
        for axes, values in ((linear, current), (logarithmic, magnitude)):
            axes.plot(
                volts, values, marker=".", linestyle=dash, color=colour, linewidth=1, markersize=4,
                label=name or "_curve",
            )  # fmt: skip
            if limited.any():
                label = "_again" if limited_anywhere else "in compliance"
                axes.plot(volts[limited], values[limited], "o", color=_LIMIT, fillstyle="none", label=label)
        limited_anywhere |= bool(limited.any())
        if len(curves) == 1 and len(curve):
            _arrows(linear, volts, current, colour)
    for axes, label in ((linear, f"current ({unit})"), (logarithmic, f"|current| ({unit})")):
        if limited_anywhere:
            axes.axhline(compliance_A * scale, color=_LIMIT, linewidth=0.8, linestyle="--", label="compliance")
        axes.set(xlabel="voltage (V)", ylabel=label)
        axes.grid()
    if drawable:
        logarithmic.set_yscale("log")
    if left_out:
        linear.plot([], [], " ", label=f"left out: {left_out} {'point' if left_out == 1 else 'points'} not measured")
    if limited_anywhere or left_out or any(name for _, name in curves):
        linear.legend()


def _arrows(axes: Axes, volts: npt.NDArray[Any], current: npt.NDArray[Any], colour: str) -> None:
    for number, order in ((len(volts) // 4, "up"), (3 * len(volts) // 4, "down")):
        rising = volts[min(number + 1, len(volts) - 1)] >= volts[number]
        if len(volts) > 3 and rising == (order == "up"):
            ends = (volts[number + 1], current[number + 1]), (volts[number], current[number])
            axes.annotate(
                "", xy=ends[0], xytext=ends[1], arrowprops={"arrowstyle": "-|>", "color": colour, "mutation_scale": 18}
            )


def _unit(amperes: float) -> tuple[str, float]:
    """Return the unit in which a current is a handy number, and what to multiply amperes with."""
    return next((found for found in (("mA", 1e3), ("µA", 1e6)) if amperes * found[1] >= 1), ("nA", 1e9))


def save_contact(
    conductance_S: npt.NDArray[np.float32], found: dict[str, Any], contact_V: float, path: Path, title: str
) -> None:
    """Write a PNG of a contact test, see :func:`draw_contact`."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(11, 6.4), dpi=96, layout="constrained")
        figure.suptitle(title)
        draw_contact(figure, conductance_S, found, contact_V)
        save_figure(figure, path)


def draw_contact(
    figure: Figure, conductance_S: npt.NDArray[np.float32], found: dict[str, Any], contact_V: float
) -> None:
    """Draw the mean current of every row and column at the contact voltage, with what is wrong marked.

    ``conductance_S``: float32[rows, columns] of the contact test. ``found``: its report as JSON. Rows are averaged over the
    columns that are not saturated.
    """
    current = conductance_S * contact_V
    shorts = np.array(found["shorted_cells"], np.intp).reshape(-1, 2)
    above, below = figure.subplots(2, 1)
    of_rows = {"open": found["open_rows"], "leaking": found["leaking_rows"], "always on": found["stuck_rows"]}
    heard = np.delete(current, found["saturated_columns"], axis=1)
    of_row = heard.mean(axis=1) if heard.size else current.mean(axis=1)
    _lines(above, of_row, {**of_rows, "with a shorted cell": np.unique(shorts[:, 0])}, "row (bit line)")
    of_columns = {"open": found["open_columns"], "saturated": found["saturated_columns"]}
    marks = {**of_columns, "with a shorted cell": np.unique(shorts[:, 1])}
    _lines(below, current.mean(axis=0), marks, "column (source line)")
    for axes in (above, below):
        axes.axhline(_PRISTINE_S * contact_V * 1e9, color=SOFT, linewidth=0.8, linestyle="--", label="a pristine cell")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=f"at {show(contact_V, 'V')}")


def _lines(axes: Axes, mean_A: npt.NDArray[np.float32], marks: dict[str, Any], label: str) -> None:
    nano = np.maximum(mean_A, _FLOOR_A) * 1e9
    axes.plot(nano, ".", color=ONE, markersize=3)
    for what, lines in marks.items():
        index = np.asarray(lines, np.intp)
        if index.size:
            marker, colour = _MARKS[what]
            axes.plot(
                index, nano[index], marker, color=colour, fillstyle="none", markersize=8, label=f"{what}: {index.size}"
            )
    # Two decades at least, so that pictures compare and a healthy die looks as even as it is.
    span = min(1.0, float(nano.min()) / 2), max(100.0, float(nano.max()) * 2)
    axes.set(xlabel=label, ylabel="mean current (nA)", yscale="log", ylim=span)
    axes.grid()
