"""Measured values as a metrologist writes them: rounded where the uncertainty begins, with u and the 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rramlab.base.units import show
from rramlab.records.values import Measured
from rramlab.report.markup import Content, Html
from rramlab.report.shell import shortened

NORMAL_95 = 1.96  # standard uncertainties either way hold 95 % of a normal distribution
_HEAD = ("quantity", "value", "standard u", "95 % interval")
_PLAIN = {"": "", "%": "%", "codes": " codes"}  # what is written without a prefix
Row = tuple[str, Content, Content, Content]


def measured(name: str, of: Measured, factor: float = 1.0, unit: str = "") -> Row:
    """Return a row; ``factor``, ``unit``: for a number that is better read as %, or that counts codes."""
    value, u = of.value * factor, of.uncertainty * factor
    unit = of.unit or unit
    return name, spell(value, u, unit), known_to(u, unit), interval(value, u, unit)


def interval(value: float, u: float, unit: str) -> str:
    """Write the 95 % interval, the unit once where both ends have the same."""
    low, high = (spell(value + side * NORMAL_95 * u, u, unit) for side in (-1, 1))
    end = high.partition(" ")[2]
    return f"{low.removesuffix(f' {end}') if end else low} to {high}"


def plain(name: str, value: str, u: str = "") -> Row:
    """Return a row of what has no uncertainty of its own."""
    return name, value, u, ""


def values(rows: Iterable[Row], caption: str) -> Html | None:
    """Return the table of measured values."""
    found: Sequence[Sequence[Content]] = list(rows)
    return shortened(_HEAD, found, caption, (1, 2, 3))


def spell(value: float, u: float, unit: str) -> str:
    """Write a value to the second digit of its uncertainty."""
    if not u:
        return _with_unit(value, unit, 6)
    if unit in _PLAIN:
        return f"{value:.{_decimals(u)}f}{_PLAIN[unit]}"
    digits = (math.floor(math.log10(abs(value))) if value else 0) - math.floor(math.log10(u)) + 2
    return show(value, unit, max(2, digits), zeros=True)


def known_to(u: float, unit: str) -> str:
    """Write an uncertainty with two digits."""
    if u and unit in _PLAIN:
        return f"{u:.{_decimals(u)}f}{_PLAIN[unit]}"
    return _with_unit(u, unit, 2)


def _decimals(u: float) -> int:
    return max(0, 1 - math.floor(math.log10(u)))


def _with_unit(value: float, unit: str, digits: int) -> str:
    if unit in _PLAIN:
        return f"{value:.{digits}g}{_PLAIN[unit]}"
    return show(value, unit, digits, zeros=True)
