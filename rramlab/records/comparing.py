"""Two records, value by value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from rramlab.base.units import show, unit_of
from rramlab.records.files import Kept
from rramlab.records.values import Measured


@dataclass(frozen=True)
class Compared:
    """One value of two records. ``deviation``: the difference over its standard uncertainty, where both state theirs."""

    name: str
    first: str
    second: str
    difference: str
    deviation: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(first: Kept, second: Kept) -> list[Compared]:
    """Return what two records of one kind both say, and the arrays of both as the RMS of their difference."""
    found: list[Compared] = []
    for name, section in first.record.sections.items():
        other = second.record.sections.get(name)
        if other is not None and section != other:
            found += _models(name, section, other)
    for name in sorted(first.arrays.keys() & second.arrays.keys()):
        one, two = first.arrays[name], second.arrays[name]
        if one.shape == two.shape and not np.array_equal(one, two):
            rms = float(np.sqrt(np.nanmean((two - one) ** 2)))
            found.append(
                Compared(f"{name} (array)", f"{np.nanmean(one):.6g}", f"{np.nanmean(two):.6g}", f"{rms:.3g} RMS", None)
            )
    return found


def _models(name: str, first: BaseModel, second: BaseModel) -> list[Compared]:
    found = []
    for key, field in type(first).model_fields.items():
        one, two, label = getattr(first, key), getattr(second, key), f"{name}.{key}"
        if isinstance(one, Measured) and isinstance(two, Measured):
            difference, u = two.value - one.value, math.hypot(one.uncertainty, two.uncertainty)
            found.append(
                Compared(label, str(one), str(two), _spelled(difference, one.unit), abs(difference) / u if u else None)
            )
        elif isinstance(one, BaseModel) and isinstance(two, BaseModel):
            found += _models(label, one, two)
        elif isinstance(one, float) and isinstance(two, float) and one != two:
            unit = unit_of(field.metadata) or ""
            found.append(Compared(label, _spelled(one, unit), _spelled(two, unit), _spelled(two - one, unit), None))
    return found


def _spelled(value: float, unit: str) -> str:
    return show(value, unit, 5) if unit else f"{value:.5g}"
