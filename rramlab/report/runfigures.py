"""The pictures of a run's report: which there are depends on what the run measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rramlab.base.units import show
from rramlab.macro.cells import is_conducting
from rramlab.report.figures import draw_histogram, draw_lines, draw_map, top_of
from rramlab.report.findings import Findings
from rramlab.report.pictures import Picture
from rramlab.report.probing import draw_contact, draw_curves
from rramlab.report.rounds import FOLLOWED, Axis, Point, Series, axes_of
from rramlab.report.theme import DASHES, MARKERS, ONE, SERIES, SOFT
from rramlab.report.wording import say_labels
from rramlab.runs.curves import measured
from rramlab.runs.store import Block

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float32]
_MOST_CURVES = 10  # in one picture; of more, evenly chosen ones are drawn
_SQUARE, _WIDE = (5.4, 4.6), (5.4, 3.7)
_CONTACT_V = 0.1  # at most; what a contact test is drawn at when the board's file does not say


def pictures(found: Findings, contact_V: float | None = None) -> dict[str, list[Picture]]:
    """Return the pictures of a run by the section they belong to; what was not measured has none."""
    groups = {
        "die": [*_maps(found), *_cells(found)],
        "contact": list(_contact(found, contact_V or _CONTACT_V)),
        "rounds": list(_rounds(found)),
        "curves": list(_curves(found)),
        "products": list(_products(found)),
    }
    return {name: group for name, group in groups.items() if group}


def known(conductance_S: Floats | None) -> bool:
    """Whether anything at all is in a map."""
    return conductance_S is not None and bool(np.isfinite(conductance_S).any())


def spell_cells(conductance_S: Floats) -> str:
    """Say a map in figures: how many cells, how many conduct, their median."""
    cells = conductance_S[np.isfinite(conductance_S)]
    conducting = cells[is_conducting(cells)]
    median = f", their median {np.median(conducting) * 1e6:.2f} µS" if conducting.size else ""
    return f"{cells.size:,} of {conductance_S.size:,} cells read, {conducting.size:,} conduct{median}"


def _maps(found: Findings) -> Iterator[Picture]:
    top = top_of(found.before_S, found.after_S)
    before, after = (
        ("before", found.before_S, found.before_by_contact),
        ("after", found.after_S, found.after_by_contact),
    )
    for name, conductance, by_contact in (before, after) if found.pulsed else (("read", *after[1:]),):
        if conductance is None or not known(conductance):
            continue
        title = {"before": "before the run's pulses", "after": "after", "read": "as it was read"}[name]

        def draw(figure: Figure, conductance: Floats = conductance) -> None:
            draw_map(figure, figure.subplots(), conductance, top)

        said = spell_cells(conductance)
        tested = int(np.count_nonzero(by_contact)) if by_contact is not None else 0
        if tested:
            said += f"; {'all' if tested == np.count_nonzero(np.isfinite(conductance)) else f'{tested:,}'} by the contact test"
        hatched = "" if np.isfinite(conductance).all() else "; hatched: not known"
        yield Picture(
            f"map-{name}", f"The die {title}", f"Map of the die {title}: {said}.", draw, _SQUARE, f"{said}{hatched}."
        )


def _cells(found: Findings) -> Iterator[Picture]:
    after = found.after_S
    if after is None or not known(after):
        return
    before = found.before_S if found.pulsed and known(found.before_S) else None
    said = spell_cells(after)
    yield Picture(
        "histogram",
        "How much the cells conduct",
        f"Histogram of the conductances of all cells that were read: {said}.",
        lambda figure: draw_histogram(figure.subplots(), after, before),
        _WIDE,
        "Counts are logarithmic. " + ("Outline: before, filled: after." if before is not None else ""),
    )
    if is_conducting(after).any():
        medians = [
            np.nanmedian(lines[~np.isnan(lines).all(axis=1)], axis=1)
            for lines in (np.where(is_conducting(each), each * 1e6, np.nan) for each in (after, after.T))
        ]
        spans = [f"{each.min():.2f} to {each.max():.2f} µS" for each in medians]
        yield Picture(
            "lines",
            "Row by row, column by column",
            f"Median of the conducting cells: of rows {spans[0]}, of columns {spans[1]}.",
            lambda figure: draw_lines(figure, after),
            _WIDE,
            f"Median of the conducting cells: of rows {spans[0]}, of columns {spans[1]}.",
        )


def _contact(found: Findings, contact_V: float) -> Iterator[Picture]:
    report, conductance = found.record.get("contact"), found.contact_S
    if not isinstance(report, dict) or conductance is None:
        return
    yield Picture(
        "contact",
        "Mean current of a cell, line by line",
        f"Mean current of each row and column at {show(contact_V, 'V')}: {report.get('verdict', '')}.",
        lambda figure: draw_contact(figure, conductance, report, contact_V),
        (7.2, 4.4),
    )


def _rounds(found: Findings) -> Iterator[Picture]:
    for loop, all_series in found.reads.loops.items():
        axes = axes_of(all_series)
        reached = all(point.reached is not None for series in all_series for point in series.points)
        share = ("reached", "Cells in tolerance") if reached else ("conducting", "Share of conducting cells")
        followed = "; ".join(dict.fromkeys(FOLLOWED[series.follows] for series in all_series))
        first = " The first point is the read before the loop." if any(series.before for series in all_series) else ""
        notes = {_draw_quartiles: f"Lines: median; bands: quartiles, of {followed}.{first}", _draw_share: ""}
        if not reached and any(series.follows == "first read" for series in all_series):
            notes[_draw_share] = f"Of {followed}.{first}"
        for name, title, draw in (("conductance", "Conductance", _draw_quartiles), (*share, _draw_share)):
            last = "; ".join(_ends(series, over) for series, over in zip(all_series, axes, strict=True))
            yield Picture(
                _file_name(f"rounds-{loop}-{name}"),
                f"{title} over the {axes[0].label.partition(' (')[0]}, step {loop}",
                f"{title} over {len(all_series[0].points)} rounds. {last}.",
                partial(_draw_rounds, all_series=all_series, axes_of=axes, draw=draw),
                _WIDE,
                notes[draw],
            )


def share_of(series: Series, point: Point) -> tuple[int, int]:
    """Return how many cells conduct at a point, and of how many: of those followed where nothing is pulsed, else of all."""
    if series.follows == "first read":
        return point.followed_conducting, point.followed
    return point.conducting, point.cells


def _ends(series: Series, over: Axis) -> str:
    ends = over.points[0], over.points[-1]
    medians = " to ".join(f"{point.followed_S[1] * 1e6:.2f}" if point.followed else "none" for point in ends)
    shares = " to ".join(f"{count / max(1, of):.1%}" for count, of in (share_of(series, point) for point in ends))
    return f"{series.dataset}: median from {medians} µS, conducting from {shares}"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def _draw_rounds(figure: Figure, all_series: list[Series], axes_of: list[Axis], draw: Any) -> None:
    axes = figure.subplots()
    for number, (series, over) in enumerate(zip(all_series, axes_of, strict=True)):
        draw(axes, series, over, number)
    over = axes_of[0]
    axes.set(xlabel=over.label, ylim=(0, None))
    if over.logarithmic:
        positive = min(value for value in over.values if value > 0)
        axes.set_xscale(
            "symlog" if min(over.values) <= 0 else "log", **({"linthresh": positive} if 0 in over.values else {})
        )
    if over.ticks:
        axes.set_xticks(over.values, over.ticks, rotation=30 if len(over.ticks) > 6 else 0)
    axes.grid()
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def _draw_quartiles(axes: Axes, series: Series, over: Axis, number: int) -> None:
    low, middle, high = (np.array([point.followed_S[index] * 1e6 for point in over.points]) for index in range(3))
    colour = SERIES[number % len(SERIES)]
    axes.fill_between(over.values, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(over.values, middle, **_style(number, len(over.values)), label=series.dataset)
    if series.target_S is not None and series.tolerance_S is not None:
        for limit in (series.target_S - series.tolerance_S, series.target_S + series.tolerance_S):
            axes.axhline(limit * 1e6, color=SOFT, linewidth=1, linestyle="--")
        axes.plot([], [], color=SOFT, linewidth=1, linestyle="--", label="tolerance")
    axes.set(ylabel="conductance (µS)")


def _draw_share(axes: Axes, series: Series, over: Axis, number: int) -> None:
    reached = all(point.reached is not None for point in over.points)
    counts = [(point.reached or 0, point.cells) if reached else share_of(series, point) for point in over.points]
    share = [100 * count / max(1, of) for count, of in counts]
    axes.plot(over.values, share, **_style(number, len(over.values)), label=series.dataset)
    axes.set(ylabel="in tolerance (%)" if reached else "conducting (%)", ylim=(0, 104))


def _style(number: int, points: int) -> dict[str, Any]:
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)] if points <= 60 else "",
        "markersize": 4,
    }


def _curves(found: Findings) -> Iterator[Picture]:
    def place(each: tuple[Block, Any]) -> tuple[str, str]:
        return each[0].step, each[0].dataset

    for (step, dataset), group in groupby(sorted(found.curves, key=place), place):
        every = [(block, curve) for block, curve in group if len(curve) > 1]
        if not every:
            continue
        chosen = [every[index] for index in np.unique(np.linspace(0, len(every) - 1, _MOST_CURVES).astype(int))]
        named = [(curve, _curve_name(block) if len(every) > 1 else "") for block, curve in chosen]
        compliance = float(every[0][0].attributes.get("compliance_A", 0.0))
        peak = max(float(np.abs(measured(curve)["current"]).max(initial=0.0)) for _, curve in every)
        left_out = sum(int(np.count_nonzero(~curve["good"])) for _, curve in every)
        notes = [f"{len(chosen)} of {len(every)} curves are drawn, evenly chosen."] if len(chosen) < len(every) else []
        if left_out:
            several = "point is no measurement and is" if left_out == 1 else "points are no measurements and are"
            notes.append(f"{left_out:,} {several} left out.")
        what = _curve_name(every[0][0]) if len(every) == 1 else f"{len(every)} curves"
        yield Picture(
            _file_name(f"curve-{step}-{dataset}"),
            f"Current over voltage, step {step}: {what}",
            f"Current over voltage, linear and logarithmic: {what}, at most {show(peak, 'A')}.",
            partial(draw_curves, curves=named, compliance_A=compliance),
            (7.2, 3.6),
            " ".join(notes),
        )


def _curve_name(block: Block) -> str:
    about = block.attributes
    what = str(about.get("target") or f"{about.get('kind')} of cell ({about.get('row')}, {about.get('column')})")
    labels = [say_labels(about["labels"])] if about.get("labels") else []
    rounds = [] if labels else [f"round {number}" for number in about.get("round", ())[-1:]]
    return ", ".join([what, *labels, *rounds])


def _products(found: Findings) -> Iterator[Picture]:
    for block, array in found.products[:_MOST_CURVES]:
        columns, product = np.array(block.attributes.get("columns", ())), array["product"]
        if len(columns) != product.shape[1] or not product.size:
            continue
        unit = "µS × code" if int(block.attributes.get("bits", 1)) > 1 else "µS"
        mean, low, high = product.mean(axis=0) * 1e6, product.min(axis=0) * 1e6, product.max(axis=0) * 1e6

        def draw(figure: Figure, x: Any = columns, of: Any = (mean, low, high), unit: str = unit) -> None:
            axes = figure.subplots()
            axes.vlines(x, of[1], of[2], color=ONE, alpha=0.35, linewidth=1, label="all vectors")
            axes.plot(x, of[0], ".", color=ONE, markersize=2.5, label="mean")
            axes.set(xlabel="column (source line)", ylabel=f"product ({unit})")
            axes.grid(axis="y")
            axes.legend()

        yield Picture(
            _file_name(f"multiply-{block.position}-{block.dataset}"),
            f"Products, step {block.step}: {block.dataset}",
            f"Products of {len(product):,} vectors with {len(columns)} columns: mean {mean.mean():.4g} {unit}.",
            draw,
            _WIDE,
        )
