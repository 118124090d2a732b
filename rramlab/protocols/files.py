"""A protocol file becomes a plan; what is wrong is said with file, line and column before anything is energised."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import SourceRef, UsageError
from rramlab.base.folders import find
from rramlab.base.names import PROTOCOL
from rramlab.base.yamlfile import YamlDocument, load_yaml, validate
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS
from rramlab.plan.limits import Limits
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ForEachStep, PulseStep, RepeatStep, Step
from rramlab.protocols.attached import Attached
from rramlab.protocols.building import STEPS, Builder
from rramlab.protocols.parameters import Named, Parameter, Value, references, settle

# Of the ramp as 0.1.0 shipped it, whose copies lie in bench folders: cells could be electroformed again without a word.
_BEFORE_AGAIN = {"11e6a8c8e72b190a461cef94a1afdf57328bdbbe87a1dec01094e26ce075ac91"}


class ProtocolFile(BaseModel):
    """A file in ``protocols/``; its steps are checked one by one, each at its own place in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    name: str = Field(pattern=PROTOCOL, description="lower case, digits and hyphens; as the file is called")
    description: str = Field(min_length=1, description="what it does, in one line, and whether that can be undone")
    parameters: dict[str, Parameter] = Field(default_factory=dict, description="what --set may change, by name")
    limits: Limits = Field(
        default=Limits(), description="upper bounds for this protocol; they tighten those of the bench"
    )
    block_rows: int = Field(default=64, ge=1, description="how many rows are intended, sent and synced at once")
    steps: list[Any] = Field(min_length=1, description="what is done, in order")


@dataclass(frozen=True)
class Protocol:
    """A protocol that was read: its file, the document it stands in, and the bench it is for."""

    file: ProtocolFile
    document: YamlDocument
    origin: str
    root: Path

    @property
    def path(self) -> Path:
        return self.document.path

    @property
    def changes(self) -> Literal["no", "yes", "depends"]:
        """Whether it changes the die for good; it can depend on a parameter, as that of a sweep does."""
        return _changes(self.document.data["steps"])

    @property
    def text_of_steps(self) -> str:
        """The steps as they stand in the file, with their comments."""
        lines = self.path.read_text(encoding="utf-8-sig").splitlines()
        first = self.document.at(("steps",)).line
        later = [self.document.at((key,)).line for key in self.document.data if key != "steps"]
        last = min((line for line in later if line > first), default=len(lines) + 1)
        return "\n".join(lines[first - 1 : last - 1]).rstrip()

    def plan(self, geometry: Geometry, given: Mapping[str, object] | None = None) -> Plan:
        """Return the plan for ``given`` parameters on a die of ``geometry``.

        Files that it names are looked up beside the protocol, in the bench folder and in the current folder.

        Raises:
            UsageError: with file, line and column, what was found and what was expected. DataError: a file is damaged.
        """
        declared = self.file.parameters
        values = settle(declared, given or {}, self._declared_at)
        known = {
            name: Named(value, declared[name].unit or "", declared[name].type == "region")
            for name, value in values.items()
        }
        attached = Attached((self.path.parent, self.root, Path.cwd()), geometry)
        steps = Builder(self.document, attached, geometry).steps(self.document.data["steps"], ("steps",), known)
        self._refuse_unused()  # last: a misspelt reference is told as what it is
        text = self.path.read_text(encoding="utf-8")
        if hashlib.sha256(text.encode()).hexdigest() in _BEFORE_AGAIN:
            steps = tuple(map(_said_again, steps))
        return Plan(
            name=self.file.name,
            steps=steps,
            block_rows=self.file.block_rows,
            limits=self.file.limits,
            protocol=text,
            parameters={name: declared[name].spell(value) for name, value in values.items()},
        )

    def examples(self) -> dict[str, Value]:
        """Return values to check the steps with: examples, and for what has no default what its type and range allow.

        Raises:
            UsageError: a word with neither default nor example nor choices, of which nothing can be known.
        """
        found: dict[str, Value] = {}
        for name, each in self.file.parameters.items():
            by_type = {"region": "row 0", "number": 1.0, "integer": 1, "boolean": "no", "quantity": f"1 {each.unit}"}
            likely = [each.minimum, each.maximum, *each.choices[:1], by_type.get(each.type)]
            choices = [each.example, *(likely if each.default is None else [])]
            value = next((choice for choice in choices if choice is not None), None)
            if value is None and each.default is None:
                raise UsageError(
                    f"found the parameter {name!r} with neither default nor example, expected one: without it the steps cannot "
                    "be checked",
                    self._declared_at(name),
                )
            if value is not None:
                found[name] = value
        return found

    def _refuse_unused(self) -> None:
        used = references(self.document.data["steps"]) if self.file.parameters else set()
        for name in self.file.parameters:
            if name not in used:
                raise UsageError(
                    f"found the parameter {name!r}, which no step uses, expected ${{{name}}} in a step: a value that changes "
                    "nothing would mislead",
                    self._declared_at(name),
                )

    def _declared_at(self, name: str | None) -> SourceRef:
        return self.document.at(("parameters",) if name is None else ("parameters", name))


def _said_again(step: Step) -> Step:
    match step:
        case PulseStep(kind="electroform"):
            return step.model_copy(update={"again": True})
        case RepeatStep():
            return step.model_copy(update={"steps": tuple(map(_said_again, step.steps))})
        case ForEachStep():
            rounds = (each.model_copy(update={"steps": tuple(map(_said_again, each.steps))}) for each in step.rounds)
            return step.model_copy(update={"rounds": tuple(rounds)})
        case _:
            return step


def _changes(steps: Any) -> Literal["no", "yes", "depends"]:
    answers = set()
    for step in steps if isinstance(steps, list) else []:
        kind, body = next(iter(step.items())) if isinstance(step, dict) and step else (step, None)
        body = body if isinstance(body, dict) else {}
        if kind in (*PULSE_KINDS, "program"):
            answers.add("yes")
        elif kind == "sweep":
            purpose = str(body.get("kind", "read"))
            answers.add("no" if purpose == "read" else "depends" if "$" in purpose else "yes")
        answers.add(_changes(body.get("steps")))
    return "yes" if "yes" in answers else "depends" if "depends" in answers else "no"


def load_protocol(root: Path, name: str) -> Protocol:
    """Find a protocol (by name, or by path) for the bench at ``root`` and read it.

    Raises:
        DataError: it cannot be read. UsageError: there is none, or it is not a protocol; file, line and column are named.
    """
    located = find(root, "protocols", name)
    document = load_yaml(located.path)
    file = validate(document, ProtocolFile)
    for parameter_name, parameter in file.parameters.items():
        at = ("parameters", parameter_name)
        wrong = parameter.check()
        if wrong is not None:
            key, message = wrong
            raise UsageError(f"the {key} of the parameter {parameter_name!r}: {message}", document.at((*at, key)))
    return Protocol(file, document, located.origin, root)


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
