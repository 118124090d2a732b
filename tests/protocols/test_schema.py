"""The schema that editors use: as shipped, true of every shipped protocol, and strict where a person would want to be told."""

import json

import jsonschema
import pytest

from rramlab.base.folders import listing, shipped
from rramlab.base.yamlfile import load_yaml
from rramlab.protocols.building import STEPS
from rramlab.protocols.schema import as_text, protocol_schema, quantity

SCHEMA = protocol_schema()
CHECKER = jsonschema.Draft7Validator(SCHEMA)
SHIPPED = sorted(listing(shipped().path, "protocols"))


def test_the_shipped_one_is_up_to_date():
    path = shipped().path / "protocols" / "schema.json"
    assert path.read_text(encoding="utf-8") == as_text(SCHEMA), (
        "write it anew: rramlab protocols schema --output protocols/schema.json"
    )


@pytest.mark.parametrize("draft", [jsonschema.Draft7Validator, jsonschema.Draft202012Validator])
def test_it_is_a_schema(draft):
    draft.check_schema(json.loads(as_text(SCHEMA)))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_protocol_names_it_and_conforms(name):
    path = shipped().path / "protocols" / f"{name}.yaml"
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert [error.message for error in CHECKER.iter_errors(load_yaml(path).data)] == []


def test_every_step_and_every_key_is_described():
    one, _ = SCHEMA["$defs"]["Step"]["anyOf"]
    assert set(one["properties"]) == set(STEPS)
    for kind, step in one["properties"].items():
        assert step["description"], kind
        for key, each in step["properties"].items():
            assert each.get("description") or key == "steps", (kind, key)
            assert key != "source"
    for name in ("Pilot", "Window", "Until", "AmplitudeLadder", "WidthLadder", "Limits", "Parameter"):
        for key, each in SCHEMA["$defs"][name]["properties"].items():
            assert each.get("description"), (name, key)


def step_errors(step):
    return list(CHECKER.iter_errors({"name": "mine", "description": "x", "steps": [step]}))


@pytest.mark.parametrize(
    "step",
    [
        "contact",
        {"contact": None},
        {"read": {"cells": "${cells}", "repeats": "${repeats}"}},
        {"wait": {"time": "10 s"}},
        {"reset": {"cells": "row 0", "voltage": "${v}", "width": "1 µs", "gate": "3V"}},
        {"expect": {"window": {"formed_fraction": {"expected": "${share}", "within": 0.05}}}},
        {"expect": {"window": {"median": ["${low}", "18 uS"]}}},
        {"repeat": {"times": 3, "steps": ["contact", {"for_each": {"values": {"v": [1, "2 V"]}, "steps": ["read"]}}]}},
        {"for_each": {"values": {"v": {"from": "1 V", "to": "${top}", "step": "50 mV"}}, "steps": ["read"]}},
        {"sweep": {"cell": "(3, 7)", "voltage": "0.2 V", "kind": "read", "both_ways": "yes"}},
        {"reference": {"resistor": 1, "range": "multiply", "voltage": "0.2 V", "repeats": 16, "name": "look"}},
        {"reference": {"resistor": "open"}},
        {"read": {"cells": "row 0", "isolated": "yes"}},
        {"reference": {"resistor": "${which}", "range": "${range}"}},
    ],
)
def test_what_can_be_run_conforms(step):
    assert step_errors(step) == []


@pytest.mark.parametrize(
    "step",
    [
        "contcat",
        {"raed": {}},
        {"read": {}, "contact": None},
        {"read": {"repaets": 2}},
        {"read": {"repeats": 0}},
        {"read": {"repeats": "many"}},
        {"reset": {"cells": "row 0", "voltage": 2, "width": "1 us", "gate": "3 V"}},
        {"reset": {"cells": "row 0", "voltage": "2 V", "width": "1 uS", "gate": "3 V"}},
        {"reset": {"cells": "row 0", "voltage": "2 V", "width": "1 us"}},
        {"repeat": {"times": 3, "steps": []}},
        {"repeat": {"times": 3, "steps": [{"read": {"repaets": 2}}]}},
        {"for_each": {"values": {"v": [1], "w": [2]}, "steps": ["read"]}},
        {"for_each": {"values": {"v": {"from": 1}}, "steps": ["read"]}},
        {"sweep": {"cell": "(3, 7)", "voltage": "0.2 V", "purpose": "read"}},
        {"read": {"kind": "read"}},
        "reference",
        {"reference": {}},
        {"read": {"isolated": "perhaps"}},
        {"reference": {"resistor": "shut"}},
        {"reference": {"resistor": -1}},
        {"reference": {"resistor": 0, "voltage": 0.1}},
    ],
)
def test_what_cannot_be_run_is_marked(step):
    assert step_errors(step)


@pytest.mark.parametrize(
    ("text", "unit", "fits"),
    [
        ("3.75 V", "V", True),
        ("500mV", "V", True),
        ("1e-3 V", "V", True),
        ("3.75", "V", False),
        ("3.75 A", "V", False),
        ("1 µs", "s", True),
        ("1 μs", "s", True),
        ("10 kOhm", "Ω", True),
        ("10 kΩ", "Ω", True),
        ("1,5 us", "s", False),
    ],
)
def test_a_quantity_is_text_with_its_unit(text, unit, fits):
    assert jsonschema.Draft7Validator(quantity(unit)).is_valid(text) is fits
