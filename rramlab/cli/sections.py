"""What the sections of a calibration record say, in lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rramlab.base.units import show, show_duration
from rramlab.calibration.adc import ROUNDING
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
from rramlab.records.values import Resistance

if TYPE_CHECKING:
    from rramlab.cli.output import Output


def describe(section: Section) -> Iterator[str]:
    """Yield lines that say what a section found."""
    match section:
        case DacSection():
            yield f"channel {section.channel}: gain {section.gain}, offset {section.offset}"
            yield f"{section.levels} levels to {show(section.highest, 'V')}, residual {show(section.residual, 'V', 2)} RMS"
        case AdcSection():
            yield f"by {section.method}; all conductances share {section.scale_uncertainty:.2%}, from the unit's specification"
            for reference in section.references:
                yield f"resistor {reference.resistor}: {reference.resistance}, {reference.readings} readings"
            yield from _range("read range", section.read)
            yield from _range("multiply range", section.multiply)
        case LinesSection():
            yield f"bit lines: {_seen(section.bit_line)}, between lines {show(section.bit_line_spread.value, 'Ω', 3)}"
            yield f"source lines: {_seen(section.source_line)}, between lines {show(section.source_line_spread.value, 'Ω', 3)}"
            yield f"from {section.cells:,} cells"
        case WiresSection():
            yield f"wire from cell to cell: {_seen(section.segment)}"
        case AgreementSection():
            verdict = "they agree" if section.agrees else "THEY DISAGREE"
            yield f"board over unit, {section.cells} cells: {section.ratio}: {verdict}"
            yield f"cells scatter by {section.spread:.2%}, expected {section.expected_spread:.2%}"
        case LinearitySection():
            yield f"product over sum of reads: {section.slope}; {section.columns} columns, {section.lines} numbers of lines"
            yield f"largest departure from a straight line: {section.residual:.2e} of the range"
        case FormingSection():
            yield f"breakdown at {section.mean}, spread {section.sigma}; {section.formed} of {section.cells} cells formed"
            yield f"pulses of {show(section.width, 's')}, gate {show(section.gate, 'V')}"
        case NoiseSection():
            yield f"read noise {section.read.value:.3%} ± {section.read.uncertainty:.3%} of G, one read"
            yield (
                f"{section.telegraph_share.value:.1%} ± {section.telegraph_share.uncertainty:.1%} of {section.cells:,} "
                f"cells changed level within {show_duration(section.watched)}"
            )
            needed = ", ".join(
                f"{accuracy:.1%}: {section.repeats(accuracy)}" for accuracy in (0.01, 0.005, 0.002, 0.001)
            )
            yield f"reads of a cell for a wanted accuracy: {needed}"


def _seen(found: Resistance) -> str:
    """Say so where a resistance cannot be told from none; it is taken for none then."""
    nothing = abs(found.value) < 2 * found.uncertainty
    return f"{found}{', which cannot be told from 0' if nothing else ''}"


def _range(name: str, found: ColumnSpread) -> Iterator[str]:
    yield (
        f"{name}: gain {found.gain}; columns spread by {found.gain_spread:.3%}, each known within "
        f"{found.column_gain_uncertainty:.3%}"
    )
    yield (
        f"{name}: offsets spread by {found.offset_spread:.2f} codes, each known within {found.offset_uncertainty:.2f}; "
        f"residual {found.residual:.2f} codes (rounding alone: {ROUNDING:.2f})"
    )


def curve_table(out: Output, section: FormingSection | Section) -> Any:
    """Return a table of the voltages for wanted shares of formed cells."""
    assert isinstance(section, FormingSection)
    table = out.table("wanted share of formed cells", "voltage", "95 %")
    for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        band = 1.96 * section.curve.voltage_u(share, section.mean.uncertainty, section.sigma.uncertainty)
        table.add_row(f"{share:.0%}", show(section.curve.voltage_V(share), "V"), f"± {show(band, 'V', 2)}")
    return table
