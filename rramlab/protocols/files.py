"""A protocol file becomes a plan; what is wrong is said with file, line and column before anything is energised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import UsageError
from rramlab.base.folders import find
from rramlab.base.yamlfile import YamlDocument, load_yaml, validate
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS
from rramlab.macro.regions import Region
from rramlab.plan.limits import Limits
from rramlab.plan.plan import Plan, selection
from rramlab.plan.steps import (
    ContactStep,
    ExpectStep,
    GateStep,
    MultiplyStep,
    PulseStep,
    ReadStep,
    RouteStep,
    StepModel,
    SweepStep,
)
from rramlab.protocols.parameters import Parameter, Value, settle, substitute

STEPS: dict[str, type[StepModel]] = {
    **dict.fromkeys(PULSE_KINDS, PulseStep),
    "read": ReadStep,
    "gate": GateStep,
    "multiply": MultiplyStep,
    "contact": ContactStep,
    "sweep": SweepStep,
    "route": RouteStep,
    "expect": ExpectStep,
}


class Word(Parameter):
    """A parameter that is text: one of ``choices``, or any where there are none; empty text leaves a key out."""

    type: Literal["word"]  # type: ignore[assignment]  # a kind of its own beside those of a parameter
    choices: tuple[str, ...] = ()

    def convert(self, name: str, value: object) -> Value:
        """Return the text.

        Raises:
            UsageError: it is none of the choices.
        """
        if self.choices and value not in self.choices:
            raise UsageError(f"parameter {name!r}: found {value!r}, expected one of {', '.join(self.choices)}")
        return str(value)


class ProtocolFile(BaseModel):
    """A file in ``protocols/``; its steps are checked one by one, each at its own place in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    description: str = Field(min_length=1)
    parameters: dict[str, Annotated[Word | Parameter, Field(discriminator="type")]] = Field(default_factory=dict)
    limits: Limits = Limits()
    block_rows: int = Field(default=64, ge=1)
    steps: list[Any] = Field(min_length=1)


@dataclass(frozen=True)
class Protocol:
    """A protocol that was read: its file, and the document it stands in."""

    file: ProtocolFile
    document: YamlDocument
    origin: str

    @property
    def path(self) -> Path:
        return self.document.path

    def plan(self, geometry: Geometry, given: Mapping[str, object] | None = None) -> Plan:
        """Return the plan for ``given`` parameters on a die of ``geometry``.

        Raises:
            UsageError: with file, line and column, what was found and what was expected.
        """
        declared = self.file.parameters
        values = settle(declared, given or {}, f"protocol {self.file.name!r}")
        steps = tuple(
            self._step(index, node, values, geometry) for index, node in enumerate(self.document.data["steps"])
        )
        return Plan.model_validate(
            {
                "name": self.file.name,
                "steps": steps,
                "block_rows": self.file.block_rows,
                "limits": self.file.limits,
                "protocol": self.path.read_text(encoding="utf-8"),
                "parameters": {name: declared[name].spell(value) for name, value in values.items()},
            }
        )

    def _step(self, index: int, node: Any, values: Mapping[str, Any], geometry: Geometry) -> StepModel:
        here = self.document.at(("steps", index))
        if isinstance(node, str):
            node = {node: None}
        if not isinstance(node, dict) or len(node) != 1:
            raise UsageError(f"found {node!r}, expected one step such as 'read: {{cells: all}}'", here)
        (kind, body), *_ = node.items()
        if kind not in STEPS:
            raise UsageError(f"unknown step {kind!r}; known steps: {', '.join(STEPS)}", here)
        at = ("steps", index, kind)
        body = {} if body is None else body
        if not isinstance(body, dict):
            raise UsageError(f"found {body!r} in the step {kind!r}, expected keys and values", self.document.at(at))
        document = self.document
        if kind == "sweep" and "kind" in body:
            body = {("purpose" if key == "kind" else key): value for key, value in body.items()}
            document = replace(document, places={**document.places, (*at, "purpose"): document.places[(*at, "kind")]})
        for reserved in ("kind", "source"):
            if reserved in body:
                raise UsageError(f"unknown key {reserved!r}", document.at((*at, reserved)))
        filled = {}
        for key, value in body.items():
            try:
                filled[key] = substitute(value, self.file.parameters, values)
            except UsageError as error:
                raise UsageError(str(error), document.at((*at, key))) from None
        step = validate(document, STEPS[kind], {**filled, "kind": kind, "source": here}, at)
        self._check_regions(step, at, geometry)
        return step

    def _check_regions(self, step: StepModel, at: tuple[str | int, ...], geometry: Geometry) -> None:
        if isinstance(step, (SweepStep, RouteStep)):
            selection(step.model_copy(update={"source": self.document.at((*at, "cell"))}), geometry, None)
            return
        for key in ("cells", "rows", "columns"):
            text = getattr(step, key, None)
            if text is not None:
                place = self.document.at((*at, key))
                try:
                    cells = Region(text).bound(geometry)
                except UsageError as error:
                    raise UsageError(str(error), place) from None
                if not cells.count:
                    raise UsageError(f"found the region {text!r}, which means no cell", place)
        if isinstance(step, GateStep):
            step.gate_pattern(geometry)


def load_protocol(root: Path, name: str) -> Protocol:
    """Find a protocol (by name, or by path) for the bench at ``root`` and read it.

    Raises:
        DataError: there is none. UsageError: it is not a protocol; file, line and column are named.
    """
    located = find(root, "protocols", name)
    document = load_yaml(located.path)
    file = validate(document, ProtocolFile)
    for parameter_name, parameter in file.parameters.items():
        at = ("parameters", parameter_name)
        if (parameter.type == "quantity") != (parameter.unit is not None):
            raise UsageError(f"parameter {parameter_name!r}: a quantity has a unit, nothing else has", document.at(at))
        if parameter.default is not None:
            try:
                parameter.convert(parameter_name, parameter.default)
            except UsageError as error:
                raise UsageError(f"the default of {error}", document.at((*at, "default"))) from None
    return Protocol(file, document, located.origin)


def parse_assignments(pairs: list[str]) -> dict[str, str]:
    """Read ``name=value`` as written on a command line.

    Raises:
        UsageError: no equals sign, or a name given twice.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"found {pair!r}, expected name=value such as voltage=3.5V")
        if name.strip() in given:
            raise UsageError(f"the parameter {name.strip()!r} is given twice")
        given[name.strip()] = value.strip()
    return given


__all__ = ["STEPS", "Protocol", "ProtocolFile", "load_protocol", "parse_assignments"]
