"""What a ``for_each`` goes through: the values as a person wrote them become numbers in SI, or words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from rramlab.base.errors import UsageError
from rramlab.base.numbers import from_digits
from rramlab.base.units import parse
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.protocols.parameters import UNITS, Named, Value

MOST_ROUNDS = 100_000  # of all for_each of a protocol together

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_DECIMAL = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_QUANTITY = re.compile(
    rf"{_DECIMAL.pattern}(?:[a-zA-Zµμ]??(?P<unit>{'|'.join([*UNITS, 'Ohm', 'ohm'])})|(?P<long>min|h|d))\s*"
)


def values_of(spec: Any, name: str, geometry: Geometry) -> list[Named]:
    """Return the values that ``spec`` spells, all of one kind and unit: a list, ``{from, to, step}``, ``{cells: REGION}`` for
    each cell of a region, or ``{columns: N}`` for N columns at a time, evenly spread.

    Raises:
        UsageError: it is none of these, or holds what does not go together.
    """
    if isinstance(spec, dict) and set(spec) == {"cells"}:
        return _cells(spec["cells"], geometry)
    if isinstance(spec, dict) and set(spec) == {"columns"}:
        return _columns(spec["columns"], geometry)
    if isinstance(spec, dict):
        return _range(spec)
    if not isinstance(spec, list) or not spec:
        raise UsageError(
            f"found {spec!r}, expected a list such as [1.8 V, 2 V], {{from: 3 V, to: 3.7 V, step: 50 mV}}, {{cells: row 5}} or "
            "{columns: 32}"
        )
    if len(spec) > MOST_ROUNDS:
        raise UsageError(f"found {len(spec):,} values, expected at most {MOST_ROUNDS:,}")
    found = [_value(each) for each in spec]
    for written, each in zip(spec, found, strict=True):
        if _kind(each) != _kind(found[0]):
            raise UsageError(f"found {written!r} beside {spec[0]!r}, expected values of one kind and unit for {name!r}")
    return found


def _cells(written: Any, geometry: Geometry) -> list[Named]:
    region = Region(str(written))
    if region.depends_on_data:
        raise UsageError(f"found {written!r}, expected cells that depend on no data, such as 'cells (3, 7), (4, 9)'")
    chosen = np.argwhere(region.bound(geometry).bits)
    if not 0 < len(chosen) <= MOST_ROUNDS:
        raise UsageError(f"found {written!r}, which means {len(chosen):,} cells, expected 1 to {MOST_ROUNDS:,}")
    return [Named(f"cell ({row}, {column})", region=True) for row, column in chosen.tolist()]


def _columns(written: Any, geometry: Geometry) -> list[Named]:
    text = str(written)
    if not _WHOLE.fullmatch(text) or not 1 <= from_digits(text) <= geometry.columns:
        raise UsageError(f"found {written!r}, expected how many columns at a time, 1 to {geometry.columns}")
    rounds = -(-geometry.columns // from_digits(text))
    return [
        Named(f"cols {', '.join(map(str, range(first, geometry.columns, rounds)))}", region=True)
        for first in range(rounds)
    ]


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
        return Named(from_digits(text))
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
