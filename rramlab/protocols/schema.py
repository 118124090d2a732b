"""The JSON schema of protocol files, for editors that complete and check YAML; made from the models of the steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rramlab.base import units
from rramlab.plan.steps import ForEachStep, StepModel
from rramlab.protocols.building import STEPS
from rramlab.protocols.files import ProtocolFile
from rramlab.protocols.parameters import UNITS

Schema = dict[str, Any]

_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}", "description": "a parameter, such as ${voltage}"}
# The functions that read a quantity, by which its unit is known.
_UNIT_OF = {
    get_args(kind)[1].func: unit
    for kind, unit in (
        (units.Volts, "V"),
        (units.Seconds, "s"),
        (units.Siemens, "S"),
        (units.Amperes, "A"),
        (units.Ohms, "Ω"),
        (units.Joules, "J"),
        (units.Hertz, "Hz"),
    )
}
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_EXAMPLES = {"V": "3.75 V", "s": "1 us", "S": "12 uS", "A": "100 uA", "Ω": "10 kOhm", "J": "1 pJ", "Hz": "50 kHz"}

# What each key of a step means; a step of its own where one word means more than one thing.
KEYS = {
    "cells": "which cells: all, rows 0-63, cols 10-20, cell (3, 7), checkerboard, one-of-pair(seed=7), mask(file.npy), "
    "conducting, pristine, unknown, joined by & | - ~ and parentheses",
    "voltage": "amplitude of the pulse, positive: SL - BL to form and set, BL - SL to reset",
    "width": "how long the pulse is",
    "gate": "word line: the compliance to form and set, pass-gate overdrive in reset",
    "cells_per_pulse": "how many cells of a row are fired at once; the board's own figure unless given",
    "pilot": "these rows first; the run stops unless they come out as expected",
    "bystanders": "how many unselected cells on the same lines must read the same before and after; 0 for none",
    "again": "yes: also cells that had a pulse before; each must have been read in this run or session since, and none of them "
    "be unknown. Otherwise a cell is electroformed once",
    "isolated": "yes: every other row's cells are cut off, and only the source lines of the cells read are connected; it is "
    "not taken as their last read",
    "repeats": "how many reads of each cell; the mean is reported",
    "name": "what the data set is called",
    "slot": "which of the board's slots for gate patterns, counted from 0",
    "rows": "whole rows that are driven, such as rows 0-63",
    "columns": "whole pairs of columns that are measured, such as cols 0-127",
    "pattern": "a full gate pattern, as a deployment writes it",
    "inputs": "what is multiplied: ones, or random codes",
    "seed": "of the random inputs",
    "batch": "how many input vectors",
    "bits": "of an input, sent one after the other",
    "window": "what the last read of the cells must show: formed_fraction, median (of those that conduct), or both",
    "on_failure": "stop the run, or note it and continue",
    "time": "how long nothing is energised, such as 10 s",
    "target": "a conductance such as 12 uS, or a .npy file of float[rows, columns] in siemens; NaN leaves a cell alone",
    "tolerance": "half-width of what counts as reached",
    "budget": "how many pulses a cell gets at most",
    "by": "what rises with each further pulse in one direction: amplitude or width",
    "set": "pulses that raise the conductance: start, to, step, width, gate; by width: start, to, factor, voltage, gate",
    "reset": "pulses that lower the conductance, as set",
    "times": "how many rounds, at most",
    "until": "ends the loop early: cells, and the window that their last read must be in",
    "steps": "what is done in each round",
    "values": "one name, and what it stands for in each round: a list; from, to, step; cells of a region; columns, so many",
    "cell": "one cell: (3, 7)",
    "points": "levels from 0 V to the peak",
    "dwell": "how long each level is held before it is measured",
    "both_ways": "yes: and back to 0 V",
    "compliance": "the unit's limit on the current",
    "smu": "which source-measure unit; the only one on the bench unless given",
    "reference": "a reference resistor of the board, counted from 0",
    "resistor": "a reference resistor of the board, counted from 0, or open: the amplifiers' inputs are left open",
    "range": "of the converters: that of single cells (read), or that of products (multiply)",
    "dac": "a channel of the board's DAC, counted from 0",
    "count": "how many measurements",
    "hold": "how long it stays connected after them",
    "kind": "which pulse a sweep is meant as: read, electroform, set or reset",
    "formed_fraction": "share of the cells that conduct: [0.5, 0.6], or {expected: 0.55, within: 0.05}",
    "median": "of the cells that conduct: [8 uS, 18 uS]",
    "hint": "said when it is not met: what may be the cause, and what to do",
    "recheck_rows": "the block formed last is read again every so many rows",
    "start": "of the first pulse",
    "to": "of the strongest pulse",
    "step": "from one pulse to the next",
    "factor": "from one width to the next",
}
_OF_PART = {
    ("sweep", "voltage"): "the peak",
    ("route", "voltage"): "measured at; 0 V only connects. Of a DAC channel: what it is held at",
    ("reference", "voltage"): "on the resistor, at most the board's read voltage; 0 V for none",
    ("reference", "repeats"): "how many conversions by each column's converter",
    ("Pilot", "rows"): "how many rows come first",
}
_LIMIT = "at most this, unless the bench, the board or silicon allows less"
_YES_NO = {"enum": [True, False, "yes", "no", "on", "off"]}


class _AsWritten(GenerateJsonSchema):
    """The schema of what a person writes: a quantity is text with its unit."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        unit = _UNIT_OF.get(schema["function"]["function"])
        return quantity(unit) if unit else super().function_before_schema(schema)


def quantity(unit: str) -> Schema:
    """Return the schema of a quantity in ``unit``, with a prefix from femto to tera."""
    spelled = "(Ω|Ohms?|ohms?)" if unit == "Ω" else unit
    return {
        "type": "string",
        "pattern": rf"^\s*{_NUMBER}\s*[fpnuµμmkMGT]?{spelled}\s*$",
        "description": f"a quantity with its unit, such as {_EXAMPLES[unit]}",
    }


def protocol_schema() -> Schema:
    """Return the JSON schema of a file in ``protocols/``; it says the same in draft 7, which editors know, and later ones."""
    parts: Schema = {}
    file = _object(ProtocolFile, parts, refer=False)
    steps = {kind: _step(kind, model, parts) for kind, model in STEPS.items()}
    words = [kind for kind, step in steps.items() if not step.get("required")]
    one: Schema = {
        "type": "object",
        "properties": steps,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    parts["Step"] = {"anyOf": [one, {"enum": words, "description": "a step with nothing but defaults"}]}
    parts["Steps"] = {"type": "array", "items": {"$ref": "#/$defs/Step"}, "minItems": 1}
    parts["Limits"]["properties"] = {
        name: {**each, "description": _LIMIT} for name, each in parts["Limits"]["properties"].items()
    }
    file["properties"]["steps"] = {"$ref": "#/$defs/Steps"}
    parts["Parameter"]["properties"]["unit"]["enum"] = [*UNITS, "Ohm"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A protocol of rramlab",
        **file,
        "$defs": dict(sorted(parts.items())),
    }


def _only(key: str, value: Schema) -> Schema:
    return {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}


def _step(kind: str, model: type[StepModel], parts: Schema) -> Schema:
    """Return what stands after the name of a step."""
    if model is ForEachStep:
        value = {"type": ["string", "number"]}
        ends = dict.fromkeys(("from", "to", "step"), value)
        span: Schema = {"type": "object", "properties": ends, "required": list(ends), "additionalProperties": False}
        listed: Schema = {"type": "array", "items": value, "minItems": 1}
        forms = [listed, span, _only("cells", {"type": "string"}), _only("columns", {"type": ["integer", "string"]})]
        values: Schema = {"type": "object", "minProperties": 1, "maxProperties": 1}
        values |= {"additionalProperties": {"anyOf": forms}, "description": KEYS["values"]}
        found: Schema = {"type": "object", "description": _prose(model), "properties": {"values": values, "steps": {}}}
        found |= {"required": ["values", "steps"], "additionalProperties": False}
    else:
        found = _object(model, parts, refer=True, name=kind)
    properties = found["properties"]
    if kind == "sweep":
        properties["kind"] = {**properties.pop("purpose"), "description": KEYS["kind"]}
    if kind in ("set", "reset"):
        del properties["again"]  # of electroform alone
    if kind == "program":
        properties["target"] = {"type": "string", "description": KEYS["target"]}
    if "steps" in properties:
        properties["steps"] = {"$ref": "#/$defs/Steps"}
    if not found.get("required"):
        found["type"] = ["object", "null"]
    return found


def _object(model: type[BaseModel], parts: Schema, refer: bool, name: str = "") -> Schema:
    """Return the schema of a model; what it refers to goes to ``parts``. ``refer``: ``${name}`` may stand for a value."""
    whole = model.model_json_schema(schema_generator=_AsWritten)
    for part, schema in whole.get("$defs", {}).items():
        if part != "SourceRef" and not part.endswith("Step") and part != "Round":
            parts[part] = _described(_tidy(schema, refer or part in _IN_STEPS), part)
    whole = whole["$defs"][model.__name__] if "$ref" in whole else whole  # a model that holds itself
    for hidden in ("source", "kind") if issubclass(model, StepModel) else ():
        whole["properties"].pop(hidden, None)
    required = [key for key in whole.get("required", []) if key in whole["properties"]]
    kept = {key: whole[key] for key in ("type", "properties", "additionalProperties")}
    found = {**kept, "description": _prose(model), **({"required": required} if required else {})}
    return _described(_tidy(found, refer), name or model.__name__)


_IN_STEPS = {"Window", "Pilot", "Until", "AmplitudeLadder", "WidthLadder"}


def _described(schema: Schema, name: str) -> Schema:
    """Say of each key what it means, where its own model does not."""
    for key, each in schema["properties"].items():
        meaning = _OF_PART.get((name, key), KEYS.get(key))
        if name in STEPS or name in _IN_STEPS:
            each["description"] = meaning
        if key == "formed_fraction":
            number = _tidy({"type": "number", "minimum": 0, "maximum": 1}, True)
            around: Schema = {"type": "object", "properties": {"expected": number, "within": number}}
            around |= {"required": ["expected", "within"], "additionalProperties": False}
            schema["properties"][key] = {"anyOf": [each, around], "description": meaning}
    return schema


def _tidy(schema: Any, refer: bool) -> Any:
    """Leave out what says nothing to a person; let a reference stand wherever ``refer`` a single value may."""
    if isinstance(schema, list):
        return [_tidy(each, refer) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:
        some = [each for each in schema["anyOf"] if each != {"type": "null"}]
        if len(some) == 1:
            return _tidy(
                {**some[0], **({"description": schema["description"]} if "description" in schema else {})}, refer
            )
    found: Schema = {
        key: {name: _tidy(each, refer) for name, each in value.items()} if key == "properties" else _tidy(value, refer)
        for key, value in schema.items()
        if key not in ("title", "default", "ge", "prefixItems", "discriminator")
    }
    if "prefixItems" in schema:  # a pair of the same kind
        found["items"] = _tidy(schema["prefixItems"][0], refer)
    if found.get("type") == "boolean":
        found = dict(_YES_NO)
    said = found.get("description")
    if isinstance(said, str):
        found["description"] = said.split("\n\n")[0].replace("``", "").replace("\n", " ")
    single = found.get("type") in ("number", "integer") or "enum" in found or "pattern" in found
    return {"anyOf": [found, dict(_REFERENCE)]} if refer and single and found != _REFERENCE else found


def _prose(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").split("\n\n")[0].replace("``", "").replace("\n", " ").strip()


def as_text(schema: Mapping[str, Any]) -> str:
    """Return the schema as the file protocols/schema.json holds it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
