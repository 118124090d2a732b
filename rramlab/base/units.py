"""Quantities with units: parsed at the YAML and command-line boundary, printed back the same way.

Inside the package every number is in SI base units; quantiphy reads and writes the human form (``3.75 V``,
``500 ns``, ``12.2 uS``).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from rramlab.base.errors import UsageError

# Passed to pydantic for files that people write: there a bare number is refused, because 500 could be ns as well
# as µs. Files that the program writes for itself hold plain SI numbers.
WRITTEN_BY_HAND = {"units": "required"}

_EXAMPLES = {"V": "3.75 V", "s": "1 us", "S": "12 uS", "A": "1 mA", "Ω": "125 Ohm", "J": "1 pJ", "Hz": "50 kHz"}
_SPELLINGS = {"Ohm": "Ω", "ohm": "Ω", "Ohms": "Ω", "ohms": "Ω", "Ω": "Ω"}


def parse(text: object, unit: str) -> float:
    """Return the value of ``text`` in SI base units; the unit must be written.

    Raises:
        UsageError: not a finite number, no unit, or a unit other than ``unit``.
    """
    from quantiphy import InvalidNumber, Quantity

    expected = f"expected a quantity in {unit} with its unit, such as '{_EXAMPLES.get(unit, f'1 {unit}')}'"
    if not isinstance(text, str):
        raise UsageError(f"found {text!r}, {expected}")
    if "," in text:  # quantiphy takes it for a separator of thousands: 1,5 us would become 15 us
        raise UsageError(f"found {text!r} with a comma, {expected}; decimals follow a point")
    try:
        quantity = Quantity(text)
    except InvalidNumber:
        raise UsageError(f"found {text!r}, {expected}") from None
    found = _SPELLINGS.get(quantity.units, quantity.units)
    if found != unit:
        seen = f"the unit {quantity.units!r}" if quantity.units else "no unit"
        raise UsageError(f"found {text!r} with {seen}, {expected}")
    if not abs(float(quantity)) < float("inf"):
        raise UsageError(f"found {text!r}, expected a finite quantity in {unit}")
    return float(quantity)


def show(value: float, unit: str, digits: int = 4) -> str:
    """Return ``value`` (SI) as a person would write it: ``show(5e-7, "s")`` is ``500 ns``."""
    from quantiphy import Quantity

    return str(Quantity(value, unit).render(prec=digits - 1))


def _reader(unit: str) -> BeforeValidator:
    def convert(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) or (info.context == WRITTEN_BY_HAND and value is not None):
            try:
                return parse(value, unit)
            except UsageError as error:
                raise ValueError(str(error)) from None
        return value

    return BeforeValidator(convert)


Volts = Annotated[float, _reader("V")]
Seconds = Annotated[float, _reader("s")]
Siemens = Annotated[float, _reader("S")]
Amperes = Annotated[float, _reader("A")]
Ohms = Annotated[float, _reader("Ω")]
Joules = Annotated[float, _reader("J")]
Hertz = Annotated[float, _reader("Hz")]
