"""What a ``for_each`` goes through: the values as a person wrote them become numbers in SI, or words."""

from __future__ import annotations

import re
from typing import Any

from rramlab.base.errors import UsageError
from rramlab.base.units import parse
from rramlab.protocols.parameters import UNITS, Named, Value

MOST_ROUNDS = 100_000  # of all for_each of a protocol together

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_DECIMAL = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_QUANTITY = re.compile(
    rf"{_DECIMAL.pattern}(?:[a-zA-Zµμ]??(?P<unit>{'|'.join([*UNITS, 'Ohm', 'ohm'])})|(?P<long>min|h|d))\s*"
)


def values_of(spec: Any, name: str) -> list[Named]:
    """Return the values that ``spec`` spells, a list or ``{from, to, step}``; all of one kind and unit.

    Raises:
        UsageError: it is neither, or holds what does not go together.
    """
    if isinstance(spec, dict):
        return _range(spec)
    if not isinstance(spec, list) or not spec:
        raise UsageError(
            f"found {spec!r}, expected a list such as [1.8 V, 2 V], or {{from: 3 V, to: 3.7 V, step: 50 mV}}"
        )
    if len(spec) > MOST_ROUNDS:
        raise UsageError(f"found {len(spec):,} values, expected at most {MOST_ROUNDS:,}")
    found = [_value(each) for each in spec]
    for written, each in zip(spec, found, strict=True):
        if _kind(each) != _kind(found[0]):
            raise UsageError(f"found {written!r} beside {spec[0]!r}, expected values of one kind and unit for {name!r}")
    return found


def _value(written: Any) -> Named:
    if isinstance(written, (dict, list)) or written is None:
        raise UsageError(f"found {written!r}, expected a quantity with its unit, a number or a word")
    if isinstance(written, bool):
        return Named("yes" if written else "no")
    text = str(written)
    quantity = _QUANTITY.fullmatch(text)
    if quantity:
        unit = "s" if quantity["long"] else "Ω" if quantity["unit"] in ("Ohm", "ohm") else quantity["unit"]
        return Named(parse(text, unit), unit)
    if _WHOLE.fullmatch(text):
        return Named(int(text))
    if _DECIMAL.fullmatch(text):
        return Named(float(text))
    if text in ("inf", "-inf", "nan"):
        raise UsageError(f"found {text!r}, expected a finite number")
    return Named(text)


def _kind(named: Named) -> str:
    return named.unit or ("word" if isinstance(named.value, str) else "number")


def _range(spec: dict[str, Any]) -> list[Named]:
    if set(spec) != {"from", "to", "step"}:
        raise UsageError(f"found the keys {', '.join(spec) or 'none'}, expected from, to and step")
    ends = [_value(spec[key]) for key in ("from", "to", "step")]
    numbers = [each.value for each in ends]
    if len({_kind(each) for each in ends}) != 1 or any(isinstance(each, str) for each in numbers):
        written = ", ".join(f"{key}: {spec[key]}" for key in ("from", "to", "step"))
        raise UsageError(f"found {written}; expected three quantities of one unit, or three numbers")
    first, last, step = (float(each) for each in numbers)
    if not step > 0:
        raise UsageError(f"found the step {spec['step']}, expected one above 0, downwards too")
    count = abs(last - first) / step + 1e-6
    if not count < MOST_ROUNDS:
        raise UsageError(
            f"found {count:,.0f} steps from {spec['from']} to {spec['to']}, expected at most {MOST_ROUNDS:,} values"
        )
    signed = step if last >= first else -step
    whole = all(isinstance(each, int) for each in numbers)
    return [Named(_rounded(first + index * signed, whole), ends[0].unit) for index in range(int(count) + 1)]


def _rounded(value: float, whole: bool) -> Value:
    """Twelve digits: 3 V and three steps of 50 mV are 3.15 V, as a person would add them."""
    return round(value) if whole else float(f"{value:.12g}")
