"""Quantities with units: parsed at the YAML and command-line boundary, printed back the same way.

Inside the package every number is in SI base units; quantiphy reads and writes the human form (``3.75 V``,
``500 ns``, ``12.2 uS``).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from rramlab.base.errors import UsageError
from rramlab.base.numbers import shown

# Passed to pydantic for files that people write: there a bare number is refused, because 500 could be ns as well
# as µs. Files that the program writes for itself hold plain SI numbers.
WRITTEN_BY_HAND = {"units": "required"}

_EXAMPLES = {
    "V": "3.75 V", "s": "1 us", "S": "12 uS", "A": "1 mA", "Ω": "125 Ohm", "J": "1 pJ", "Hz": "50 kHz", "°C": "25 °C",
}  # fmt: skip
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "y": 365.25 * 86400}
# What times from two minutes on are written in: the longest in which they are short, 1.5 h or 25 h, or that they are two of.
_LONGER = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SPELLINGS = {"Ohm": "Ω", "ohm": "Ω", "Ohms": "Ω", "ohms": "Ω", "Ω": "Ω"}


def parse(text: object, unit: str) -> float:
    """Return the value of ``text`` in SI base units; the unit must be written. Times may be in min, h and d, too.

    Raises:
        UsageError: not a finite number, no unit, or a unit other than ``unit``.
    """
    if not isinstance(text, str):
        raise UsageError(f"found {shown(text)}, {_expected(unit)}")
    return _parse(text, unit)


@functools.lru_cache(maxsize=4096)
def _parse(text: str, unit: str) -> float:
    from quantiphy import InvalidNumber, Quantity

    if "," in text:  # quantiphy takes it for a separator of thousands: 1,5 us would become 15 us
        raise UsageError(f"found {shown(text)} with a comma, {_expected(unit)}; decimals follow a point")
    if unit == "s" and (found := re.fullmatch(rf"\s*({_NUMBER})\s*(min|h|d)\s*", text)):
        return float(found[1]) * _SECONDS[found[2]]
    try:
        quantity = Quantity(text)
    except InvalidNumber:
        raise UsageError(f"found {shown(text)}, {_expected(unit)}") from None
    name = _SPELLINGS.get(quantity.units, quantity.units)
    if name != unit:
        seen = f"the unit {quantity.units!r}" if quantity.units else "no unit"
        raise UsageError(f"found {shown(text)} with {seen}, {_expected(unit)}")
    if not abs(float(quantity)) < float("inf"):
        raise UsageError(f"found {shown(text)}, expected a finite quantity in {unit}")
    return float(quantity)


def _expected(unit: str) -> str:
    return f"expected a quantity in {unit} with its unit, such as '{_EXAMPLES.get(unit, f'1 {unit}')}'"


def show(value: float, unit: str, digits: int = 4, zeros: bool = False) -> str:
    """Return ``value`` (SI) as a person would write it: ``show(5e-7, "s")`` is ``500 ns``.

    ``zeros``: write those at the end, too, where the digits say how well a value is known.
    """
    from quantiphy import Quantity

    if unit == "s" and 120 <= abs(value) < math.inf and not zeros:  # nobody writes 3.6 ks
        in_few = (each for each in _LONGER if abs(value) >= each[1] and round(value / each[1], 2) * each[1] == value)
        longer, many = next(in_few, None) or next(each for each in _LONGER if abs(value) >= 2 * each[1])
        return f"{value / many:.{digits}g} {longer}"

    return str(Quantity(value, unit).render(prec=digits - 1, strip_zeros=not zeros))


def parse_duration(text: str) -> float:
    """Return seconds: a number with s, min, h, d or y (365.25 d), or any spelling of seconds such as ``500 ms``.

    Raises:
        UsageError: it is none of these, or not longer than nothing.
    """
    found = re.fullmatch(rf"\s*({_NUMBER})\s*({'|'.join(_SECONDS)})\s*", text)
    if found:
        seconds = float(found[1]) * _SECONDS[found[2]]
    else:
        try:
            seconds = parse(text, "s")
        except UsageError:
            raise UsageError(
                f"found the duration {shown(text)}, expected one number with s, min, h, d or y, such as '10 h' or '500 ms'"
            ) from None
    if not 0 < seconds < math.inf:
        raise UsageError(f"found the duration {shown(text)}, expected a finite one above 0 s")
    return seconds


def show_duration(seconds: float) -> str:
    """Return a duration as a person would write it: seconds up to two minutes, then min, h, d and y."""
    if 1 <= seconds < 120:
        return f"{seconds:.4g} s"  # as below, and ten times as fast: lists have thousands
    if seconds < 120:
        return show(seconds, "s")
    unit = next((unit for unit, many in (("min", 120), ("h", 48), ("d", 730)) if seconds < many * _SECONDS[unit]), "y")
    return f"{seconds / _SECONDS[unit]:.4g} {unit}"


def time_unit(seconds: Iterable[float]) -> tuple[str, float]:
    """Return the unit in which a person would draw times, and its seconds: the longest that all but 0 have half of."""
    positive = [each for each in seconds if each > 0]
    most, least = max(positive, default=0.0), min(positive, default=0.0)
    return next(((unit, many) for unit, many in _LONGER if most >= 2 * many and least >= many / 2), ("s", 1.0))


def parse_celsius(text: str) -> float:
    """Return °C from ``85``, ``85 C`` or ``85 °C``.

    Raises:
        UsageError: it is none of these.
    """
    found = re.fullmatch(rf"\s*({_NUMBER})\s*(?:°?C)?\s*", text)
    if not found:
        raise UsageError(f"found the temperature {shown(text)}, expected degrees Celsius such as '85' or '85 C'")
    return float(found[1])


def _reader(unit: str) -> BeforeValidator:
    def convert(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) or (info.context == WRITTEN_BY_HAND and value is not None):
            try:
                return parse(value, unit)
            except UsageError as error:
                raise ValueError(str(error)) from None
        return value

    return BeforeValidator(convert)


@dataclass(frozen=True)
class Unit:
    """What a field of a model is in; stands beside its type, for whoever writes it down again."""

    name: str


def unit_of(metadata: Iterable[object]) -> str | None:
    """Return the unit among a field's metadata, None for what has none."""
    return next((each.name for each in metadata if isinstance(each, Unit)), None)


Volts = Annotated[float, _reader("V"), Unit("V")]
Seconds = Annotated[float, _reader("s"), Unit("s")]
Siemens = Annotated[float, _reader("S"), Unit("S")]
Amperes = Annotated[float, _reader("A"), Unit("A")]
Ohms = Annotated[float, _reader("Ω"), Unit("Ω")]
Joules = Annotated[float, _reader("J"), Unit("J")]
Hertz = Annotated[float, _reader("Hz"), Unit("Hz")]
Celsius = Annotated[float, _reader("°C"), Unit("°C")]
