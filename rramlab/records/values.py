"""Values with uncertainties and units, and models that hold them as the YAML that a person reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.units import Ohms, Siemens, Volts, show, unit_of

_DIGITS = 9  # as many as matter to whatever is measured here
DAY_S = 86400.0


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Measured(Strict):
    """A value and its standard uncertainty, in one unit."""

    unit: ClassVar[str] = ""
    value: float
    uncertainty: float = Field(ge=0)

    def __str__(self) -> str:
        if not self.unit:
            return f"{self.value:.6g} ± {self.uncertainty:.2g}"
        return f"{show(self.value, self.unit, 5)} ± {show(self.uncertainty, self.unit, 2)}"


class Number(Measured):
    """A ratio, or a count of codes."""


class Voltage(Measured):
    unit: ClassVar[str] = "V"
    value: Volts
    uncertainty: Volts = Field(ge=0)


class Resistance(Measured):
    unit: ClassVar[str] = "Ω"
    value: Ohms
    uncertainty: Ohms = Field(ge=0)


class Conductance(Measured):
    unit: ClassVar[str] = "S"
    value: Siemens
    uncertainty: Siemens = Field(ge=0)


def spelled(model: BaseModel, indent: str = "") -> str:
    """Return a model as YAML with units; what is None is left out."""
    lines = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value is None:
            continue
        if isinstance(value, BaseModel) and not isinstance(value, Measured):
            lines.append(f"{indent}{name}:\n{spelled(value, indent + '  ')}")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            lines.append(f"{indent}{name}:\n" + "".join(f"{indent}  - {_flow(each)}\n" for each in value))
        else:
            lines.append(f"{indent}{name}: {_value(value, unit_of(field.metadata))}\n")
    return "".join(lines)


def _flow(model: BaseModel) -> str:
    fields = type(model).model_fields.items()
    parts = [
        f"{name}: {_value(getattr(model, name), unit_of(field.metadata))}"
        for name, field in fields
        if getattr(model, name) is not None
    ]
    return "{" + ", ".join(parts) + "}"


def _value(value: Any, unit: str | None) -> str:
    if isinstance(value, BaseModel):
        return _flow(value)
    if unit is not None:
        return f"{value / DAY_S:.{_DIGITS}g} d" if unit == "s" and value >= DAY_S else show(value, unit, _DIGITS)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(each, None) for each in value) + "]"
    if isinstance(value, datetime):
        return f"'{value.isoformat(timespec='milliseconds')}'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
