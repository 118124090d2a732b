"""Typed parameters of a protocol: declared in its file, overridden by ``--set name=value``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.numbers import from_digits, shown
from rramlab.base.units import parse, show
from rramlab.macro.regions import Region

Value = float | int | str
UNITS = ("V", "s", "S", "A", "Ω", "J", "Hz")
REGION_KEYS = frozenset({"cells", "rows", "columns", "cell"})  # whose text spells cells, in any step
_YES_NO = {"yes": "yes", "true": "yes", "on": "yes", "no": "no", "false": "no", "off": "no"}
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_NO_OPERATOR = re.compile(r"[0-9]\s*-\s*(?=[0-9])|one-of-pair")  # a minus that joins no regions
_IN_MASK = re.compile(r"mask\s*\([^()]*$")  # before the name of a file
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WANTED = {
    "quantity": "a quantity with its unit",
    "number": "a number, such as 0.5",
    "integer": "a whole number, such as 7",
    "region": "a region, such as 'rows 0-63'",
    "word": "text; what looks like something else goes in quotes",
    "boolean": "yes or no",
}


class Parameter(BaseModel):
    """One parameter of a protocol; without a default it must be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    type: Literal["quantity", "number", "integer", "region", "word", "boolean"] = Field(
        description="quantity (with a unit), number, integer, region, word or boolean"
    )
    unit: str | None = Field(default=None, description="of a quantity: V, s, S, A, Ohm, J or Hz")
    default: Any = Field(default=None, description="its value unless --set gives another; without it one must be given")
    minimum: Any = Field(default=None, description="the lowest value allowed, with its unit")
    maximum: Any = Field(default=None, description="the highest value allowed, with its unit")
    choices: tuple[str, ...] = Field(default=(), description="of a word: what it may be")
    example: Any = Field(
        default=None, description="a value to show, and to check the file with in place of the default"
    )
    description: str = Field(min_length=1, description="what it is, in one line")

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        unit = "Ω" if unit == "Ohm" else unit
        if unit is not None and unit not in UNITS:
            raise ValueError(f"found the unit {unit!r}, expected one of {', '.join(UNITS)}")
        return unit

    @model_validator(mode="after")
    def _fits_its_type(self) -> Parameter:
        if (self.type == "quantity") != (self.unit is not None):
            raise ValueError(
                f"found the type {self.type} {'with' if self.unit else 'without'} a unit: a quantity has one, "
                "nothing else has"
            )
        if self.choices and self.type != "word":
            raise ValueError(f"found choices of a {self.type}, expected them of a word only")
        ranged = self.type in ("quantity", "number", "integer")
        if not ranged and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"found a range of a {self.type}, expected it of a quantity, number or integer only")
        return self

    @property
    def range(self) -> str:
        """What values it may have, in words; empty where there is no bound."""
        if self.choices:
            return ", ".join(each or '""' for each in self.choices)
        low, high = self.minimum, self.maximum
        if low is not None and high is not None:
            return f"{low} to {high}"
        return f"from {low}" if low is not None else f"up to {high}" if high is not None else ""

    def check(self) -> tuple[str, str] | None:
        """Return the key that does not fit the others, and why; None where all do."""
        for key in ("minimum", "maximum", "default", "example"):
            value = getattr(self, key)
            if value is None:
                continue
            try:
                self._typed(value) if key in ("minimum", "maximum") else self.convert(value)
            except UsageError as error:
                return key, str(error)
        if self.minimum is not None and self.maximum is not None and self._bound("minimum") > self._bound("maximum"):
            return "minimum", f"found {self.minimum}, expected at most the maximum, {self.maximum}"
        return None

    def _bound(self, key: str) -> float:
        return float(self._typed(getattr(self, key)))

    def convert(self, value: object) -> Value:
        """Check ``value`` (as written) and return it as the steps take it: quantities in SI, booleans as yes or no.

        Raises:
            UsageError: of another type or unit, or out of the declared range: found and expected.
        """
        converted = self._typed(value)
        if self.choices and converted not in self.choices:
            raise UsageError(f"found {converted!r}, expected one of {', '.join(map(repr, self.choices))}")
        for key, sign, side in (("minimum", 1, "least"), ("maximum", -1, "most")):
            if getattr(self, key) is not None and sign * float(converted) < sign * self._bound(key):
                raise UsageError(f"found {self.spell(converted)}, expected at {side} {getattr(self, key)}")
        return converted

    def _typed(self, value: object) -> Value:
        text = "" if isinstance(value, bool) else value if isinstance(value, str) else shown(value)
        match self.type:
            case "quantity":
                return parse(value, self.unit or "")
            case "integer" if _WHOLE.fullmatch(text):
                return from_digits(text)
            case "number" if _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
                return float(text)
            case "region" if isinstance(value, str):
                return Region(value).text
            case "word" if isinstance(value, str):
                return value
            case "boolean" if str(value).lower() in _YES_NO:
                return _YES_NO[str(value).lower()]
        raise UsageError(f"found {shown(value)}, expected {_WANTED[self.type]}")

    def spell(self, value: Value) -> Value:
        """Return a value as a person would write it: quantities with their unit."""
        return show(float(value), self.unit, 7) if self.unit else value


@dataclass(frozen=True)
class Named:
    """What ``${name}`` stands for: a value in SI with its unit, and whether it is a region."""

    value: Value
    unit: str = ""
    region: bool = False

    def __str__(self) -> str:
        """Spell it so that reading it again gives the same value."""
        return f"{self.value!r} {self.unit}" if self.unit else str(self.value)


def settle(
    declared: Mapping[str, Parameter], given: Mapping[str, object], at: Callable[[str | None], SourceRef]
) -> dict[str, Value]:
    """Return every parameter's value: the given one, else the default. ``at``: where a name is declared; None: where all are.

    Raises:
        UsageError: an unknown name, a value that does not fit, or a parameter without value.
    """
    for name in given:
        if name not in declared:
            close = get_close_matches(name, declared, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(
                f"found a value for {name!r}, which is no parameter here; expected: {', '.join(declared) or 'none'}{meant}",
                at(None),
            )
    values: dict[str, Value] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None:
            example = f"--set {name}={parameter.example!r}" if parameter.example is not None else f"--set {name}=…"
            raise UsageError(
                f"found no value for the parameter {name!r} ({parameter.description}), expected one: {example}",
                at(name),
            )
        try:
            values[name] = parameter.convert(value)
        except UsageError as error:
            raise UsageError(f"parameter {name!r}: {error}", at(name)) from None
    return values


def references(node: Any) -> set[str]:
    """Return every name that plain YAML data refers to as ``${name}``."""
    match node:
        case dict():
            return set().union(*map(references, node.values()))
        case list():
            return set().union(*map(references, node))
        case str():
            return {name.strip() for name in _REFERENCE.findall(node)}
    return set()


def substitute(node: Any, known: Mapping[str, Named], key: str = "") -> Any:
    """Replace every ``${name}`` in plain YAML data; a region within longer text keeps its meaning by parentheses.

    ``key``: what ``node`` stands under.

    Raises:
        UsageError: a reference to a name that is not known, or one without its closing brace; a part of a region that
            would change what the rest of it means.
    """
    if isinstance(node, dict):
        return {name: substitute(value, known, str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [substitute(value, known, key) for value in node]
    if not isinstance(node, str) or "$" not in node:
        return node
    alone = _REFERENCE.fullmatch(node.strip()) is not None

    def spell(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f"; did you mean ${{{close[0]}}}?" if close else ""
            raise UsageError(f"found ${{{name}}}, expected one of the parameters: {', '.join(known) or 'none'}{meant}")
        text = str(known[name])
        if alone or _IN_MASK.search(node, 0, match.start()):
            return text
        if known[name].region:
            return f"({text})"
        return _grouped(name, text, key) if isinstance(known[name].value, str) else text

    filled = _REFERENCE.sub(spell, node)
    if "${" in _REFERENCE.sub("", node):
        raise UsageError(f"found {node!r} with '${{' and no '}}', expected a reference such as ${{voltage}}")
    return filled


def _grouped(name: str, text: str, key: str) -> str:
    """Return a word as it goes into longer text: one that spells several regions is one of them there."""
    if not re.search("[-&|~]", _NO_OPERATOR.sub("", text)):
        return text
    try:
        Region(text)
    except UsageError:
        if key not in REGION_KEYS:
            return text
        raise UsageError(
            f"found {text!r} for ${{{name}}} within a longer region, expected a whole region such as 'row 0 | row 8', which "
            "stands there as one; or a part of it without & | - ~"
        ) from None
    return f"({text})"
