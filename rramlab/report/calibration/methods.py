"""How each section of a record was measured, and what that means for its uncertainty."""

from __future__ import annotations

from rramlab.records.sections import AdcSection, Section
from rramlab.report.markup import Html, tag

_METHODS = {
    "dac": (
        "The unit measures what the DAC puts out, level by level. Readings on one range of the unit share its errors, so the "
        "line is fitted by generalised least squares: low levels tell the offset, high ones the gain."
    ),
    "adc": (
        "Reference resistors give every column the same current at many levels; open inputs give the zero. The mean of the "
        "columns is that current with its rounding averaged away, so that a column against it tells its gain and offset "
        "without the resistor or the DAC. The scale of all comes from the unit's current through the resistor."
    ),
    "linearity": (
        "One more line is driven at each step; the product of a column is compared with the sum of single reads of its cells. "
        "The uncertainty of the slope is the scatter between columns."
    ),
    "lines": (
        "All cells are read with few columns connected, with all columns, and with all rows. In the ratio of two reads the "
        "cell and the gain of its column cancel; what stays is what the lines lose."
    ),
    "wires": (
        "From the same three reads as the lines: what grows along a line is the wire, what all of its cells lose is the switch."
    ),
    "agreement": (
        "The same cells by the board's converters and by the unit. What both share, the specification of the unit, counts "
        "once. The mean is a median: a cell that has changed level in between does not move it."
    ),
    "forming": (
        "Each step of the ramp is one pulse a cell, then a read: a cell breaks down between the last voltage that left it "
        "insulating and the first after which it conducts. The fit is by maximum likelihood for such intervals."
    ),
    "noise": (
        "White noise is told from differences of successive reads, which slow changes and single switches hardly enter. A cell "
        "has switched if its mean before and after one read differs by more than white noise gives in the whole sample."
    ),
}
_BY_CELLS = (
    "The straight line of each column is fitted to cells, conducting and not, that the unit has measured one by one."
)


def method(name: str, section: Section) -> Html:
    """Return how a section was measured."""
    by_cells = isinstance(section, AdcSection) and section.method != "reference resistors"
    return tag("p", _BY_CELLS if by_cells else _METHODS[name], class_="note")
