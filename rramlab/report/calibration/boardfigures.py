"""The figures of what was measured of a board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rramlab.calibration.adc import ROUNDING
from rramlab.records.files import BoardRecord, Kept
from rramlab.records.sections import AdcSection, AgreementSection, ColumnSpread, DacSection, LinearitySection
from rramlab.report.calibration.drawing import SIZE, ByLine, Floats, draw_by_line, zero_line
from rramlab.report.calibration.values import NORMAL_95, spell
from rramlab.report.pictures import Picture
from rramlab.report.theme import ONE, SOFT, THREE, TWO

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def board_pictures(kept: Kept, label: str) -> dict[str, list[Picture]]:
    """Return the pictures of a board's record by its sections; ``label``: begins their names."""
    record = kept.record
    assert isinstance(record, BoardRecord)
    found: dict[str, list[Picture]] = {}
    if record.dac is not None:
        found["dac"] = list(_dac(kept, label, record.dac))
    if record.adc is not None:
        found["adc"] = list(_adc(kept, label, record.adc))
    if record.linearity is not None:
        found["linearity"] = list(_linearity(kept, label, record.linearity))
    if record.lines is not None:
        found["lines"] = list(_lines(kept, label))
    if record.agreement is not None:
        found["agreement"] = list(_agreement(kept, label, record.agreement))
    return found


def _has(kept: Kept, *names: str) -> bool:
    return all(name in kept.arrays for name in names)


def _dac(kept: Kept, label: str, section: DacSection) -> Iterator[Picture]:
    if not _has(kept, "dac/nominal_V", "dac/measured_V", "dac/covariance"):
        return
    nominal, measured, covariance = (kept.arrays[f"dac/{name}"] for name in ("nominal_V", "measured_V", "covariance"))
    gain, offset = section.gain.value, section.offset.value

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
        along = np.linspace(min(0.0, nominal.min()), nominal.max(), 200)
        line = ((gain - 1) * along + offset) * 1e3
        u = np.sqrt(covariance[0, 0] * along**2 + 2 * covariance[0, 1] * along + covariance[1, 1]) * 1e3
        above.fill_between(
            along, line - NORMAL_95 * u, line + NORMAL_95 * u, color=TWO, alpha=0.18, linewidth=0, label="95 % band"
        )
        above.plot(along, line, color=TWO, linestyle="--", label="fitted line")
        above.plot(nominal, (measured - nominal) * 1e3, "o", color=ONE, markersize=4, label="measured")
        zero_line(above)
        above.set(ylabel="measured − nominal (mV)")
        above.legend(loc="best")
        rest = measured - (gain * nominal + offset)
        below.vlines(nominal, 0, rest * 1e6, color=ONE, alpha=0.4, linewidth=1)
        below.plot(nominal, rest * 1e6, "o", color=ONE, markersize=4)
        zero_line(below)
        below.set(xlabel="nominal (V)", ylabel="residual (µV)")
        for axes in (above, below):
            axes.grid()

    yield Picture(
        f"{label}-dac", "The DAC against the source-measure unit",
        f"Measured minus nominal voltage of {nominal.size} levels, the fitted line and what it leaves: "
        f"{section.residual * 1e6:.0f} µV RMS.",
        draw, SIZE, "Each range of the unit has errors of its own: the band allows for them.",
    )  # fmt: skip


def _adc(kept: Kept, label: str, section: AdcSection) -> Iterator[Picture]:
    for name, spread in (("read", section.read), ("multiply", section.multiply)):
        keys = [f"adc/{name}_{what}" for what in ("level", "before", "residual")]
        if _has(kept, *keys):
            yield _residuals(label, name, *(kept.arrays[key] for key in keys))
        if _has(kept, f"adc/{name}_gain", f"adc/{name}_offset"):
            yield _columns(label, name, kept.arrays[f"adc/{name}_gain"], kept.arrays[f"adc/{name}_offset"], spread)


def _residuals(label: str, name: str, level: Floats, before: Floats, after: Floats) -> Picture:
    order = np.argsort(level)
    rms = [float(np.sqrt(np.mean(each**2))) for each in (before, after)]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, of_levels, title in zip(
            panels, (before[order], after[order]), ("nominal figures", "calibrated"), strict=True
        ):
            low, five, ninety_five, high = np.percentile(of_levels, (0, 5, 95, 100), axis=1)
            x = level[order]
            axes.fill_between(x, low, high, color=ONE, alpha=0.16, linewidth=0, label="all columns")
            axes.fill_between(x, five, ninety_five, color=ONE, alpha=0.3, linewidth=0, label="90 % of the columns")
            axes.plot(x, np.sqrt(np.mean(of_levels**2, axis=1)), color=TWO, label="RMS")
            zero_line(axes)
            axes.set(ylabel="residual (codes)", title=title)
            axes.grid()
        panels[1].set_xlabel("level (codes)")
        panels[1].axhline(ROUNDING, color=SOFT, linestyle=":", linewidth=1.2, label="rounding alone")
        panels[1].set_ylim(-1.15, max(1.15, 1.1 * float(np.abs(after).max())))
        figure.legend(
            *panels[1].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=4,
            borderaxespad=0.2,
            columnspacing=1.2,
            handlelength=1.6,
        )

    said = f"{rms[0]:.3g} codes RMS with the nominal figures, {rms[1]:.2f} calibrated; rounding alone leaves 0.29"
    return Picture(
        f"{label}-adc-{name}-residuals", f"Residuals of all columns, {name} range",
        f"Residuals of {after.shape[1]:,} columns at {level.size} levels of the {name} range: {said}.",
        draw, SIZE, f"{said}.",
    )  # fmt: skip


def _columns(label: str, name: str, gain: Floats, offset: Floats, spread: ColumnSpread) -> Picture:
    quantities = [
        ByLine(gain, "gain", "column (source line)", spread.column_gain_uncertainty),
        ByLine(offset, "offset (codes)", "column (source line)", spread.offset_uncertainty),
    ]
    said = (
        f"gain {gain.min():.4f} to {gain.max():.4f}, σ {gain.std():.2%}; "
        f"offset {offset.min():.2f} to {offset.max():.2f} codes, σ {offset.std():.2f}"
    )
    return Picture(
        f"{label}-adc-{name}-columns", f"Gain and offset of every column, {name} range",
        f"Gain and offset by column, and their histograms: {said}.",
        lambda figure: draw_by_line(figure, quantities), SIZE, f"{said}.",
    )  # fmt: skip


def _linearity(kept: Kept, label: str, section: LinearitySection) -> Iterator[Picture]:
    if not _has(kept, "linearity/sums_S", "linearity/products_S", "linearity/residual_S"):
        return
    sums, products, residual = (kept.arrays[f"linearity/{name}"] for name in ("sums_S", "products_S", "residual_S"))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1, sharex=True, height_ratios=(1.4, 1))
        x, departure = sums * 1e6, (products - sums) * 1e9
        line, u = departure - residual * 1e9, NORMAL_95 * section.slope.uncertainty * sums * 1e9
        panels[0].fill_between(
            x, line - u, line + u, color=TWO, alpha=0.18, linewidth=0, label="95 % band of the slope"
        )
        panels[0].plot(x, line, color=TWO, linestyle="--", label="fitted line")
        panels[0].plot(x, departure, "o", color=ONE, markersize=3, label="mean of all columns")
        panels[0].set_ylabel("product − sum (nS)")
        panels[0].legend()
        panels[1].plot(x, residual * 1e9, "o", color=ONE, markersize=3)
        panels[1].set(xlabel="sum of single reads (µS)", ylabel="residual (nS)")
        for axes in panels:
            zero_line(axes)
            axes.grid()

    yield Picture(
        f"{label}-linearity", "Products against the sum of single reads",
        f"Product minus sum over the sum, {sums.size} numbers of lines: slope {section.slope}, what it leaves is at most "
        f"{section.residual:.1e} of the range.",
        draw, SIZE, "Below: slope and offset taken off.",
    )  # fmt: skip


def _lines(kept: Kept, label: str) -> Iterator[Picture]:
    if not _has(kept, "lines/bl_Ohm", "lines/bl_u", "lines/sl_Ohm", "lines/sl_u"):
        return
    bl, bl_u, sl, sl_u = (kept.arrays[f"lines/{name}"] for name in ("bl_Ohm", "bl_u", "sl_Ohm", "sl_u"))
    quantities = [
        ByLine(bl, "bit line (Ω)", "row (bit line)", bl_u),
        ByLine(sl, "source line (Ω)", "column (source line)", sl_u),
    ]
    said = f"bit lines {bl.min():.4g} to {bl.max():.4g} Ω, source lines {sl.min():.4g} to {sl.max():.4g} Ω"
    yield Picture(
        f"{label}-lines", "Resistance of every line",
        f"Resistance of switches and amplifiers, line by line, with histograms: {said}.",
        lambda figure: draw_by_line(figure, quantities), SIZE, f"{said}.",
    )  # fmt: skip


def _agreement(kept: Kept, label: str, section: AgreementSection) -> Iterator[Picture]:
    if not _has(kept, "agreement/board_S", "agreement/unit_S", "agreement/ratio_u"):
        return
    board, unit, u = (kept.arrays[f"agreement/{name}"] for name in ("board_S", "unit_S", "ratio_u"))
    departure = 100 * (board / unit - 1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        mean, band = 100 * (section.ratio.value - 1), 100 * NORMAL_95 * section.ratio.uncertainty
        axes.axhspan(mean - band, mean + band, color=TWO, alpha=0.18, linewidth=0, label="95 % interval of the mean")
        axes.axhline(mean, color=TWO, linestyle="--", label="mean")
        axes.errorbar(
            unit * 1e6, departure, yerr=100 * NORMAL_95 * u, fmt="o", color=ONE, markersize=4, linewidth=1, capsize=2,
            label="a cell, 95 % interval",
        )  # fmt: skip
        axes.axhline(0, color=THREE, linewidth=1, label="board = unit")
        axes.set(xlabel="conductance by the unit (µS)", ylabel="board / unit − 1 (%)")
        axes.grid()
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    said = f"{board.size} cells, {departure.min():+.2f}% to {departure.max():+.2f}%"
    mean = spell(section.ratio.value, section.ratio.uncertainty, "")
    yield Picture(
        f"{label}-agreement", "Board over unit, cell by cell",
        f"Ratio of the conductances of {said}; mean ratio {mean}.", draw, SIZE, f"{said}.",
    )  # fmt: skip
