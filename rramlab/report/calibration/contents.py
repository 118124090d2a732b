"""The figures of each section of a record, in tables: value, standard uncertainty, 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rramlab.base.units import show, show_duration
from rramlab.calibration.adc import ROUNDING
from rramlab.calibration.agreement import COVERAGE
from rramlab.macro.board import BoardTable
from rramlab.records.files import Kept
from rramlab.records.sections import (
    AdcSection,
    AgreementSection,
    ColumnSpread,
    DacSection,
    FormingSection,
    LinearitySection,
    LinesSection,
    NoiseSection,
    Section,
    WiresSection,
)
from rramlab.records.values import Voltage
from rramlab.report.calibration.values import interval, known_to, measured, plain, spell, values
from rramlab.report.markup import Html, table

_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_ACCURACIES = (0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)


def contents(kept: Kept, section: Section, board: BoardTable) -> Iterator[Html | None]:
    """Yield the tables of a section. ``board``: of the bench, for the voltage that cells are read at."""
    match section:
        case DacSection():
            yield _dac(kept, section, board)
        case AdcSection():
            yield from _adc(section)
        case LinearitySection():
            yield values(
                (
                    measured("slope, product over sum", section.slope),
                    plain("offset", f"{section.offset:.2g} codes"),
                    plain("largest residual, of the range", f"{section.residual * 100:.2g}%"),
                ),
                f"{section.columns:,} columns, {section.lines} numbers of driven lines, multiply range",
            )
        case LinesSection():
            yield values(
                (
                    measured("bit lines, mean", section.bit_line),
                    measured("bit lines, σ between lines", section.bit_line_spread),
                    measured("source lines, mean", section.source_line),
                    measured("source lines, σ between lines", section.source_line_spread),
                ),
                f"Switches and amplifiers, from {section.cells:,} cells",
            )
        case WiresSection():
            yield values((measured("wire from cell to cell", section.segment),), f"From {section.cells:,} cells")
        case AgreementSection():
            yield _agreement(section)
        case FormingSection():
            yield from _forming(section)
        case NoiseSection():
            yield from _noise(section)


def _dac(kept: Kept, section: DacSection, board: BoardTable) -> Html | None:
    rows = [measured("gain", section.gain), measured("offset", section.offset)]
    covariance = kept.arrays.get("dac/covariance")
    if covariance is not None:
        asked = board.read_voltage_V
        variance = covariance[0, 0] * asked**2 + 2 * covariance[0, 1] * asked + covariance[1, 1]
        out = section.gain.value * asked + section.offset.value
        rows.append(
            measured(f"put out for {show(asked, 'V')}", Voltage(value=out, uncertainty=math.sqrt(max(0.0, variance))))
        )
        correlation = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
        rows.append(plain("correlation of gain and offset", f"{correlation:.3f}"))
    rows.append(plain("residual, RMS", show(section.residual, "V", 3)))
    levels = f"{section.levels} levels to {show(section.highest, 'V')}"
    caption = f"Channel {section.channel}: {levels}; volts = gain × nominal + offset"
    return values(rows, caption)


def _adc(section: AdcSection) -> Iterator[Html | None]:
    if section.references:
        rows = [
            (
                f"resistor {each.resistor}",
                spell(each.resistance.value, each.resistance.uncertainty, "Ω"),
                known_to(each.resistance.uncertainty, "Ω"),
                f"{each.resistance.uncertainty / each.resistance.value:.3%}",
                interval(each.resistance.value, each.resistance.uncertainty, "Ω"),
                show(each.voltage, "V"),
                f"{each.readings}",
            )
            for each in section.references
        ]
        head = ("reference", "resistance", "standard u", "relative", "95 % interval", "at", "readings")
        shared = f"all conductances share {section.scale_uncertainty:.3%}, which no number of reads makes smaller"
        yield table(head, rows, f"Reference resistors, by the source-measure unit; {shared}", range(1, 7))
    yield _range("Read range", section.read)
    yield _range("Multiply range", section.multiply)


def _range(caption: str, spread: ColumnSpread) -> Html | None:
    return values(
        (
            measured("gain, mean of the columns", spread.gain),
            plain("gain, σ between columns", f"{spread.gain_spread:.3%}"),
            plain("gain of one column over the mean", "", known_to(spread.column_gain_uncertainty * 100, "%")),
            plain("offset, mean of the columns", f"{spread.offset:.2f} codes"),
            plain("offset, σ between columns", f"{spread.offset_spread:.2f} codes"),
            plain("offset of one column", "", known_to(spread.offset_uncertainty, "codes")),
            plain(f"residual, RMS (rounding alone: {ROUNDING:.2f})", f"{spread.residual:.2f} codes"),
        ),
        caption,
    )


def _agreement(section: AgreementSection) -> Html | None:
    u = section.ratio.uncertainty
    away = f"{abs(section.ratio.value - 1) / u:.1f} u" if u else "no uncertainty is stated"
    return values(
        (
            measured("board over unit, mean", section.ratio),
            plain("departure of the mean from 1", away),
            plain("σ between cells", f"{section.spread:.2%}"),
            plain("σ expected of noise and readings", f"{section.expected_spread:.2%}"),
            plain("largest departure of one cell", f"{section.largest_deviation:.1f} u"),
        ),
        f"{section.cells:,} cells measured both ways; they agree where the mean is within {COVERAGE:g} u of 1",
    )


def _forming(section: FormingSection) -> Iterator[Html | None]:
    yield values(
        (measured("mean", section.mean), measured("standard deviation between cells", section.sigma)),
        f"Pulses of {show(section.width, 's')}, gate {show(section.gate, 'V')}; {section.formed:,} of "
        f"{section.cells:,} cells formed",
    )
    curve, u = section.curve, (section.mean.uncertainty, section.sigma.uncertainty)
    yield values(
        (
            measured(
                f"for {share:.0%} of the cells",
                Voltage(value=curve.voltage_V(share), uncertainty=curve.voltage_u(share, *u)),
            )
            for share in _SHARES
        ),
        f"Voltages for wanted shares of formed cells, skew {curve.skew:g} as published",
    )


def _noise(section: NoiseSection) -> Iterator[Html | None]:
    rows = [
        measured("read noise, one read, of the conductance", section.read, 100, "%"),
        measured(
            f"cells that changed level within {show_duration(section.watched)}", section.telegraph_share, 100, "%"
        ),
    ]
    if section.telegraph_amplitude is not None:
        rows.append(measured("by how much, median", section.telegraph_amplitude, 100, "%"))
    rows.append(plain("conductance of these cells, median", show(section.median, "S")))
    yield values(rows, f"{section.cells:,} cells, {section.reads} reads each")
    yield table(
        ("wanted σ of the mean", "reads of a cell"),
        [(f"{accuracy:.4g}%", f"{section.repeats(accuracy / 100):,}") for accuracy in (100 * a for a in _ACCURACIES)],
        "Repeats needed against white noise; a cell that changes level in between is off by more",
        (1,),
    )
