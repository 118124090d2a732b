"""Steps as a person wrote them become the steps of a plan; every error names the line and column of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rramlab.base.errors import DataError, SourceRef, UsageError
from rramlab.base.yamlfile import Location, YamlDocument, validate
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS
from rramlab.macro.regions import Region
from rramlab.plan.plan import AFTER, BEFORE, selection
from rramlab.plan.steps import (
    MOST_DEPTH,
    AmplitudeLadder,
    ContactStep,
    ExpectStep,
    ForEachStep,
    GateStep,
    MultiplyStep,
    ProgramStep,
    PulseStep,
    ReadStep,
    ReferenceStep,
    RepeatStep,
    Round,
    RouteStep,
    Step,
    StepModel,
    SweepStep,
    WaitStep,
    WidthLadder,
)
from rramlab.protocols.attached import Attached
from rramlab.protocols.loops import MOST_ROUNDS, values_of
from rramlab.protocols.parameters import Named, references, substitute

STEPS: dict[str, type[StepModel]] = {
    "contact": ContactStep,
    "read": ReadStep,
    "reference": ReferenceStep,
    **dict.fromkeys(PULSE_KINDS, PulseStep),
    "program": ProgramStep,
    "wait": WaitStep,
    "repeat": RepeatStep,
    "for_each": ForEachStep,
    "gate": GateStep,
    "multiply": MultiplyStep,
    "sweep": SweepStep,
    "route": RouteStep,
    "expect": ExpectStep,
}
# Of each kind of step: the keys that a person may write, and those of them whose text spells cells.
_KEYS = {
    kind: ["kind" if name == "purpose" else name for name, field in model.model_fields.items() if field.repr]
    for kind, model in STEPS.items()
}
_REGIONS = {kind: [key for key in ("cells", "rows", "columns") if key in keys] for kind, keys in _KEYS.items()}

# Data sets that the engine writes itself: what they hold is judged, drawn and left out by their names.
ENGINES_OWN = frozenset({"contact", "pilot", BEFORE, AFTER, "reconcile"})


class Builder:
    """Makes the steps of one plan, for one set of parameters and one array."""

    def __init__(self, document: YamlDocument, attached: Attached, geometry: Geometry) -> None:
        self._document, self._attached, self._geometry = document, attached, geometry
        self._rounds = 0
        self._good: set[str] = set()  # regions that were found to lie on the die

    def steps(self, nodes: Any, at: Location, known: Mapping[str, Named], depth: int = 0) -> tuple[Step, ...]:
        """Return the steps that ``nodes``, which stand at ``at``, spell where ``known`` names have values.

        Raises:
            UsageError: file, line and column, what was found and what was expected.
        """
        if not isinstance(nodes, list) or not nodes:
            raise UsageError(f"found {nodes!r}, expected a list of steps, at least one", self._document.at(at))
        return tuple(self._step(node, (*at, index), known, depth) for index, node in enumerate(nodes))

    def _step(self, node: Any, at: Location, known: Mapping[str, Named], depth: int) -> Step:
        here = self._document.at(at)
        if isinstance(node, str):
            node = {node: None}
        if not isinstance(node, dict) or len(node) != 1:
            raise UsageError(f"found {_short(node)}, expected one step such as 'read: {{cells: all}}'", here)
        (kind, body), *_ = node.items()
        if kind not in STEPS:
            raise UsageError(f"unknown step {kind!r}; known steps: {', '.join(STEPS)}", here)
        at = (*at, kind)
        body = {} if body is None else body
        if not isinstance(body, dict):
            raise UsageError(
                f"found {_short(body)} in the step {kind!r}, expected keys and values", self._document.at(at)
            )
        reserved = ("source",) if kind == "sweep" else ("kind", "source")
        for key in reserved:
            if key in body:
                raise UsageError(f"unknown key {key!r}", self._document.at((*at, key)))
        if kind in ("repeat", "for_each"):
            if depth == MOST_DEPTH:
                raise UsageError(f"found a loop in {MOST_DEPTH} others, expected loops at most {MOST_DEPTH} deep", here)
            loop = self._repeat if kind == "repeat" else self._for_each
            return loop(body, at, known, depth + 1, here)
        return self._leaf(kind, body, at, known, here)

    def _leaf(self, kind: str, body: dict[str, Any], at: Location, known: Mapping[str, Named], here: SourceRef) -> Step:
        for key in body:
            if key not in _KEYS[kind]:
                place = self._document.at((*at, key))
                raise UsageError(f"unknown key {key!r}; known keys: {', '.join(sorted(_KEYS[kind]))}", place)
        filled = self._filled(body, at, known)
        if kind == "sweep" and "kind" in filled:
            filled = {("purpose" if key == "kind" else key): value for key, value in filled.items()}
        if kind == "program":
            self._program(filled, at)
        elsewhere = {"purpose": (*at, "kind")} if kind == "sweep" else None
        step = validate(self._document, STEPS[kind], {**filled, "kind": kind, "source": here}, at, elsewhere)
        if getattr(step, "name", "") in ENGINES_OWN:
            raise UsageError(
                f"found the data set {step.name!r}, which is what the engine calls its own; choose another name",  # type: ignore[attr-defined]
                self._document.at((*at, "name")),
            )
        self._check_regions(step, kind, at)
        return step  # type: ignore[return-value]  # the models of STEPS are those of Step

    def _filled(self, body: dict[str, Any], at: Location, known: Mapping[str, Named]) -> dict[str, Any]:
        """Put values in place of references, and cells in place of mask files."""
        filled = {}
        for key, value in body.items():
            if isinstance(value, (int, float)) or (isinstance(value, str) and "$" not in value and "mask" not in value):
                filled[key] = value  # most values are plain, and plans can have many
                continue
            with self._placed((*at, key)):
                filled[key] = self._attached.with_masks(substitute(value, known, key), key)
        return filled

    def _program(self, filled: dict[str, Any], at: Location) -> None:
        """Read the file of targets, and each ladder at its own place."""
        target = filled.get("target")
        if isinstance(target, str) and target.endswith((".npy", ".npz")):
            with self._placed((*at, "target")):
                filled["target"] = self._attached.target(target)
        if filled.get("by", "amplitude") not in ("amplitude", "width"):
            raise UsageError(f"found {filled['by']!r}, expected amplitude or width", self._document.at((*at, "by")))
        ladder = WidthLadder if filled.get("by") == "width" else AmplitudeLadder
        for key in ("set", "reset"):
            if key in filled:
                filled[key] = validate(self._document, ladder, filled[key], (*at, key))

    def _repeat(
        self, body: dict[str, Any], at: Location, known: Mapping[str, Named], depth: int, here: SourceRef
    ) -> Step:
        filled = self._filled({key: value for key, value in body.items() if key != "steps"}, at, known)
        steps = self.steps(body.get("steps"), (*at, "steps"), known, depth)
        step = validate(self._document, RepeatStep, {**filled, "steps": steps, "kind": "repeat", "source": here}, at)
        if step.until is not None:
            self._check_region(step.until.cells, (*at, "until", "cells"))
        return step

    def _for_each(
        self, body: dict[str, Any], at: Location, known: Mapping[str, Named], depth: int, here: SourceRef
    ) -> Step:
        for key in body:
            if key not in ("values", "steps"):
                raise UsageError(f"unknown key {key!r}; known keys: steps, values", self._document.at((*at, key)))
        written = body.get("values")
        if not isinstance(written, dict) or len(written) != 1:
            raise UsageError(
                f"found {_short(written)}, expected one name with its values, such as 'values: {{voltage: [1.8 V, 2 V]}}'",
                self._document.at((*at, "values")),
            )
        (name, spec), *_ = written.items()
        place = (*at, "values", name)
        with self._placed(place):
            if name in known:
                raise UsageError(f"found the name {name!r}, which is taken already, expected one of its own")
            values = values_of(substitute(spec, known), name, self._geometry)
            self._rounds += len(values)
            if self._rounds > MOST_ROUNDS:
                raise UsageError(
                    f"found {self._rounds:,} rounds up to here, expected at most {MOST_ROUNDS:,} in a protocol"
                )
        if name not in references(body.get("steps")):
            raise UsageError(
                f"found steps that do not use ${{{name}}}, expected them to; to do the same again, use 'repeat'",
                self._document.at(place),
            )
        rounds = []
        for each in values:
            with self._in_round(name, each):
                steps = self.steps(body.get("steps"), (*at, "steps"), {**known, name: each}, depth)
            rounds.append(Round(value=each.value, unit=each.unit, steps=steps))
        found = {"name": name, "rounds": tuple(rounds), "kind": "for_each", "source": here}
        return validate(self._document, ForEachStep, found, at, {"name": place})

    @contextmanager
    def _placed(self, at: Location) -> Iterator[None]:
        """Give an error that has no place the one of ``at``."""
        try:
            yield
        except (UsageError, DataError) as error:
            if error.source is not None:
                raise
            raise type(error)(str(error), self._document.at(at)) from None

    @contextmanager
    def _in_round(self, name: str, value: Named) -> Iterator[None]:
        """Say in which round of a loop something is wrong: the line alone does not tell."""
        try:
            yield
        except UsageError as error:
            message = str(error).removeprefix(f"{error.source}: ")
            raise UsageError(f"{message} (where {name} is {value})", error.source) from None

    def _check_regions(self, step: StepModel, kind: str, at: Location) -> None:
        if isinstance(step, (SweepStep, RouteStep)):
            selection(step.model_copy(update={"source": self._document.at((*at, "cell"))}), self._geometry, None)
            return
        for key in _REGIONS[kind]:
            text = getattr(step, key)
            if text is not None:
                self._check_region(text, (*at, key))
        if isinstance(step, GateStep):
            step.gate_pattern(self._geometry)
        if isinstance(step, ProgramStep) and isinstance(step.target, str):
            with self._placed((*at, "target")):
                step.targets_S(Region(step.cells).bound(self._geometry))

    def _check_region(self, text: str, at: Location) -> None:
        if text in self._good:
            return
        with self._placed(at):
            region = Region(text)
            if not region.bound(self._geometry).count:
                raise UsageError(f"found the region '{region}', which means no cell")
        self._good.add(text)


def _short(node: Any) -> str:
    text = repr(node)
    return text if len(text) <= 80 else f"{text[:80]}…"


__all__ = ["STEPS", "Builder"]
