"""Typed parameters of a protocol: declared in its file, overridden by ``--set name=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import UsageError
from rramlab.base.units import parse, show
from rramlab.macro.regions import Region

Value = float | int | str
_REFERENCE = re.compile(r"\$\{([^}]*)\}")


class Parameter(BaseModel):
    """One parameter: ``quantity`` has a unit; without a default it must be given."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["quantity", "number", "integer", "region"]
    unit: str | None = None
    default: Any = None
    minimum: Any = None
    maximum: Any = None
    description: str = Field(min_length=1)

    def convert(self, name: str, value: object) -> Value:
        """Check ``value`` (as written) and return it as the steps take it: quantities in SI.

        Raises:
            UsageError: of another type or unit, or out of the declared range.
        """
        converted = self._typed(name, value)
        for bound, below in ((self.minimum, True), (self.maximum, False)):
            if bound is None or isinstance(converted, str):
                continue
            limit = self._typed(name, bound)
            if isinstance(limit, str) or (converted >= limit if below else converted <= limit):
                continue
            raise UsageError(
                f"parameter {name!r}: found {self.spell(converted)}, expected at {'least' if below else 'most'} "
                f"{self.spell(limit)}"
            )
        return converted

    def _typed(self, name: str, value: object) -> Value:
        try:
            match self.type:
                case "quantity":
                    return parse(value, self.unit or "")
                case "integer":
                    if not re.fullmatch(r"[+-]?[0-9]+", str(value)):
                        raise ValueError
                    return int(str(value))
                case "number":
                    return float(str(value))
                case "region":
                    return Region(str(value)).text
        except UsageError as error:
            raise UsageError(f"parameter {name!r}: {error}") from None
        except ValueError:
            raise UsageError(f"parameter {name!r}: found {value!r}, expected {self._article()}") from None

    def _article(self) -> str:
        return {"integer": "a whole number, such as 7", "number": "a number, such as 0.5"}.get(self.type, self.type)

    def spell(self, value: Value) -> Value:
        """Return a value as a person would write it: quantities with their unit."""
        return show(float(value), self.unit, 7) if self.unit else value


def settle(declared: Mapping[str, Parameter], given: Mapping[str, object], where: str) -> dict[str, Value]:
    """Return every parameter's value: the given one, else the default.

    Raises:
        UsageError: an unknown name, a value that does not fit, or a parameter without value.
    """
    for name in given:
        if name not in declared:
            raise UsageError(f"{where} has no parameter {name!r}; it has: {', '.join(declared) or 'none'}")
    values: dict[str, Value] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise UsageError(
                f"{where} needs the parameter {name!r} ({parameter.description}); give it with --set {name}=…"
            )
        values[name] = parameter.convert(name, value)
    return values


def substitute(node: Any, declared: Mapping[str, Parameter], values: Mapping[str, Value]) -> Any:
    """Replace every ``${name}`` in plain YAML data.

    A value that is nothing but one reference becomes the parameter's own value; within longer text it is spelled out.

    Raises:
        UsageError: a reference to a parameter that is not declared.
    """
    if isinstance(node, dict):
        return {key: substitute(value, declared, values) for key, value in node.items()}
    if isinstance(node, list):
        return [substitute(value, declared, values) for value in node]
    if not isinstance(node, str):
        return node

    def spell(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in values:
            raise UsageError(f"found ${{{name}}}, expected one of the parameters: {', '.join(declared) or 'none'}")
        value, unit = values[name], declared[name].unit
        return f"{value!r} {unit}" if unit else str(value)

    return _REFERENCE.sub(spell, node)
